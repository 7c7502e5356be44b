//! When to look.

use super::*;

cases! {
    /// For watched tasks and served queues; cancels for everyone.
    hints_come_for_what_interests(store, _) {
        let interest = Arc::new(Interest::default());
        let mut hints = store.watch(Arc::clone(&interest)).await.unwrap();
        let id = add(&*store, new("a")).await;
        interest.add_task(id);
        let task = claim_one(&*store).await;
        yields(&*store, &task, 0, 0, 1).await;
        let hint = async |hints: &mut Hints| loop {
            match hints.next().await.expect("hints go on") {
                Hint::Look => {}
                hint => return hint,
            }
        };
        assert_eq!(hint(&mut hints).await, Hint::Moved { id, tail: 1, ended: false });
        store.cancel(id, "why".into()).await.unwrap();
        assert_eq!(hint(&mut hints).await, Hint::Cancel { id });
        append_one(&*store, append(&task, 1, Outcome::Ended, |d| d.cancelled(1, "why"))).await;
        assert_eq!(hint(&mut hints).await, Hint::Moved { id, tail: 2, ended: true });
        interest.serve([("default".to_owned(), "a".to_owned())]);
        interest.rest();
        add(&*store, new("a")).await;
        assert_eq!(hint(&mut hints).await, Hint::Ready { queue: "default".into(), name: "a".into() });
    }

    /// Not all of them for one task.
    one_idle_worker_is_woken(store, _) {
        let mut listeners = Vec::new();
        for _ in 0..3 {
            let interest = Arc::new(Interest::default());
            interest.serve([("default".to_owned(), "a".to_owned())]);
            interest.rest();
            listeners.push((store.watch(Arc::clone(&interest)).await.unwrap(), interest));
        }
        for awake in 1..=3 {
            add(&*store, new("a")).await;
            let mut woken = 0;
            for (hints, interest) in &mut listeners {
                // A hint is there at once or not at all: `wake` answers no more once it was told.
                let told = tokio::time::timeout(Duration::from_millis(200), hints.next()).await;
                if told.is_ok() {
                    assert!(!interest.wake("default", "a"));
                    woken += 1;
                }
            }
            assert_eq!(woken, 1, "at task {awake}");
        }
    }

    /// And one that can run it.
    a_worker_is_woken_only_for_what_it_serves(store, _) {
        let listen = async |name: &str| {
            let interest = Arc::new(Interest::default());
            interest.serve([("default".to_owned(), name.to_owned())]);
            interest.rest();
            (store.watch(Arc::clone(&interest)).await.unwrap(), interest)
        };
        let (_b_hints, b) = listen("b").await;
        let (mut a_hints, _a) = listen("a").await;
        add(&*store, new("a")).await;
        let told = tokio::time::timeout(Duration::from_secs(10), a_hints.next()).await.unwrap();
        assert_eq!(told, Some(Hint::Ready { queue: "default".into(), name: "a".into() }));
        assert!(b.wake("default", "b"), "it still rests");
    }
}
