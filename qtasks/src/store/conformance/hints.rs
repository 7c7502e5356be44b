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

    /// Whoever ends a task: those who watch it are told, and that it is the end.
    every_end_is_hinted(store, clock) {
        let interest = Arc::new(Interest::default());
        let mut hints = store.watch(Arc::clone(&interest)).await.unwrap();
        let mut ended = async |id: TaskId, tail: u64| {
            let wanted = Hint::Moved { id, tail, ended: true };
            let told = async { while hints.next().await.expect("hints go on") != wanted {} };
            tokio::time::timeout(Duration::from_secs(10), told).await.unwrap_or_else(|_| panic!("{wanted:?}"));
        };
        let watched = async |task: NewTask| {
            interest.add_task(task.id);
            add(&*store, task).await
        };
        store.sweep(SWEEP).await.unwrap();
        let id = watched(new("a")).await;
        store.cancel(id, "why".into()).await.unwrap();
        ended(id, 1).await;
        let id = watched(new("a")).await;
        let task = claim_one(&*store).await;
        store.cancel(id, "why".into()).await.unwrap();
        store.release(vec![lease(&task)]).await.unwrap();
        ended(id, 1).await;
        let id = watched(NewTask { expires: Some(Duration::from_secs(1)), ..new("a") }).await;
        pass(&*store, &clock, Duration::from_secs(1)).await;
        ended(id, 1).await;
        let id = watched(new("a")).await;
        for _ in 0..4 {
            claim_one(&*store).await;
            pass(&*store, &clock, LEASE).await;
        }
        ended(id, 4).await;
    }

    /// Who does not read its hints delays nobody, and is told to look when it reads again; who leaves is forgotten.
    hints_that_nobody_reads_delay_nobody(store, _) {
        let interest = Arc::new(Interest::default());
        let left = store.watch(Arc::clone(&interest)).await.unwrap();
        let mut hints = store.watch(Arc::clone(&interest)).await.unwrap();
        let id = add(&*store, new("a")).await;
        interest.add_task(id);
        let task = claim_one(&*store).await;
        let last = 3_000;
        for seq in 0..last / 2 {
            yields(&*store, &task, seq, seq, seq + 1).await;
        }
        drop(left);
        for seq in last / 2..last {
            yields(&*store, &task, seq, seq, seq + 1).await;
        }
        let told = async {
            loop {
                match hints.next().await.expect("hints go on") {
                    Hint::Look => return,
                    Hint::Moved { tail, .. } if tail == last => return,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), told).await.expect("told of the last, or to look");
        assert_eq!(record(&*store, id).await.tail, last);
    }

    /// A hint says when to look, never what is there: without any, nothing else is different.
    hints_may_be_lost(store, clock) {
        let deaf: Arc<dyn Store> = Arc::new(Deaf(Arc::clone(&store)));
        let interest = Arc::new(Interest::default());
        let mut hints = deaf.watch(Arc::clone(&interest)).await.unwrap();
        interest.serve([("default".to_owned(), "a".to_owned())]);
        interest.rest();
        let id = add(&*deaf, new("a")).await;
        interest.add_task(id);
        deaf.sweep(SWEEP).await.unwrap();
        let task = claim_one(&*deaf).await;
        yields(&*deaf, &task, 0, 0, 1).await;
        deaf.cancel(id, "why".into()).await.unwrap();
        assert_eq!(deaf.extend(vec![lease(&task)], LEASE).await.unwrap(), [Extended::Cancel("why".into())]);
        assert_eq!(pass(&*deaf, &clock, LEASE).await.ended, 1);
        assert_eq!(record(&*store, id).await.status, Status::Cancelled);
        assert!(futures::FutureExt::now_or_never(hints.next()).is_none());
    }

    /// A second stream for one interest takes the place of the first, whose reader never had it.
    watching_again_takes_over(store, _) {
        let interest = Arc::new(Interest::default());
        drop(store.watch(Arc::clone(&interest)).await.unwrap());
        let mut hints = store.watch(Arc::clone(&interest)).await.unwrap();
        interest.serve([("default".to_owned(), "a".to_owned())]);
        interest.rest();
        add(&*store, new("a")).await;
        let told = tokio::time::timeout(Duration::from_secs(1), hints.next()).await.unwrap();
        assert_eq!(told, Some(Hint::Ready { queue: "default".into(), name: "a".into() }));
    }
}
