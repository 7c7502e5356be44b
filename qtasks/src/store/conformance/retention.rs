//! What is taken away, and when.

use super::*;

cases! {
    /// First `Gone`, later `NotFound`, never an empty log.
    pruning_takes_the_log_then_the_row(store, clock) {
        let id = add(&*store, NewTask { idempotency_key: Some("k".into()), ..new("a") }).await;
        let task = claim_one(&*store).await;
        let write = |d: &mut DraftBuilder| {
            d.yielded(0, 1, b"1");
            d.completed(1, b"[1]");
        };
        append_one(&*store, append(&task, 0, Outcome::Ended, write)).await;
        let keep = Prune { age: Duration::from_secs(60), ended_max: None, bytes_max: None, max: 10 };
        let read = Read { id, from_seq: 1, limit: 9, what: What::Events };
        clock.advance(Duration::from_secs(59));
        assert_eq!(store.prune(keep).await.unwrap(), Pruned::default());
        clock.advance(Duration::from_secs(1));
        assert_eq!(store.prune(keep).await.unwrap(), Pruned { logs: 1, rows: 0 });
        assert_eq!(store.read(read).await.unwrap_err().kind(), ErrorKind::Gone);
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.yields, r.final_value), (Status::Completed, 1, None));
        clock.advance(Duration::from_secs(60));
        assert_eq!(store.prune(keep).await.unwrap(), Pruned { logs: 0, rows: 1 });
        assert_eq!(store.read(read).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(store.get(vec![id]).await.unwrap(), [None]);
    }

    /// By number and by bytes, the oldest go first; what runs is never touched.
    pruning_keeps_the_newest(store, clock) {
        let running = add(&*store, new("b")).await;
        claim_one(&*store).await;
        let mut ids = Vec::new();
        for _ in 0..6 {
            ids.push(add(&*store, new("a")).await);
            let task = claim_one(&*store).await;
            append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b"\"0123456789\""))).await;
            clock.advance(Duration::from_secs(1));
        }
        clock.advance(Duration::from_secs(30));
        let day = Duration::from_secs(86_400);
        let count = Prune { age: day, ended_max: Some(4), bytes_max: None, max: 1 };
        assert_eq!(store.prune(count).await.unwrap().logs, 1, "no more than it was told");
        assert_eq!(store.prune(Prune { max: 9, ..count }).await.unwrap().logs, 1);
        let bytes = Prune { age: day, ended_max: None, bytes_max: Some(24), max: 9 };
        assert_eq!(store.prune(bytes).await.unwrap().logs, 2);
        for (i, id) in ids.iter().enumerate() {
            let read = store.read(Read { id: *id, from_seq: 1, limit: 9, what: What::Events }).await;
            assert_eq!(read.is_ok(), i >= 4, "task {i}");
        }
        assert_eq!(record(&*store, running).await.status, Status::Running);
    }
}
