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
        assert_eq!(store.prune(keep).await.unwrap(), Pruned { logs: 1, rows: 0, more: false });
        assert_eq!(store.read(read).await.unwrap_err().kind(), ErrorKind::Gone);
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.yields, r.final_value), (Status::Completed, 1, None));
        clock.advance(Duration::from_secs(60));
        assert_eq!(store.prune(keep).await.unwrap(), Pruned { logs: 0, rows: 1, more: false });
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

    /// While there is a row its keys are taken; with the row they are free, and so is all that it was found by.
    keys_are_freed_with_the_row(store, clock) {
        let keyed = || NewTask {
            idempotency_key: Some("k".into()),
            unique: Some("u".into()),
            tags: vec!["x".into()],
            ..new("a")
        };
        let first = keyed();
        let id = add(&*store, first.clone()).await;
        let task = claim_one(&*store).await;
        append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        let keep = Prune { age: LEASE, ended_max: None, bytes_max: None, max: 10 };
        clock.advance(LEASE);
        assert_eq!(store.prune(keep).await.unwrap().logs, 1);
        assert_eq!(store.add(vec![first]).await.unwrap(), [Added { id, existed: true }], "its own id");
        clock.advance(LEASE);
        assert_eq!(store.prune(keep).await.unwrap().rows, 1);
        let tagged = List { tag: Some("x".into()), limit: 9, ..List::default() };
        assert_eq!(store.list(tagged.clone()).await.unwrap(), Listed::default());
        assert!(store.stats().await.unwrap().queues.into_values().flatten().all(|(_, n)| n == 0));
        let again = keyed();
        assert_eq!(store.add(vec![again.clone()]).await.unwrap(), [Added { id: again.id, existed: false }]);
        assert_eq!(store.add(vec![keyed()]).await.unwrap(), [Added { id: again.id, existed: true }]);
        assert_eq!(store.list(tagged).await.unwrap().tasks.len(), 1);
        assert_eq!(claim_one(&*store).await.record.id, again.id);
    }

    /// At most so many a call, of logs and of rows.
    pruning_goes_in_small_steps(store, clock) {
        for _ in 0..5 {
            let id = add(&*store, new("a")).await;
            store.cancel(id, "why".into()).await.unwrap();
        }
        let keep = Prune { age: LEASE, ended_max: None, bytes_max: None, max: 2 };
        clock.advance(LEASE);
        assert_eq!(store.prune(Prune { max: 0, ..keep }).await.unwrap(), Pruned::default());
        for logs in [2, 2, 1, 0] {
            assert_eq!(store.prune(keep).await.unwrap(), Pruned { logs, rows: 0, more: false });
        }
        clock.advance(LEASE);
        assert_eq!(store.prune(Prune { max: 0, ..keep }).await.unwrap(), Pruned::default());
        for rows in [2, 2, 1, 0] {
            assert_eq!(store.prune(keep).await.unwrap(), Pruned { logs: 0, rows, more: false });
        }
        assert_eq!(store.list(List { limit: 9, ..List::default() }).await.unwrap(), Listed::default());
    }

    /// From the end of the task, however long it took; what has not ended is not old.
    age_counts_from_the_end(store, clock) {
        let waiting = add(&*store, NewTask { held: true, ..new("a") }).await;
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let keep = Prune { age: LEASE, ended_max: Some(0), bytes_max: Some(0), max: 9 };
        clock.advance(LEASE * 10);
        assert_eq!(store.prune(keep).await.unwrap(), Pruned::default());
        append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        let keep = Prune { ended_max: None, bytes_max: None, ..keep };
        clock.advance(LEASE - Duration::from_millis(1));
        assert_eq!(store.prune(keep).await.unwrap(), Pruned::default());
        clock.advance(Duration::from_millis(1));
        assert_eq!(store.prune(keep).await.unwrap(), Pruned { logs: 1, rows: 0, more: false });
        assert_eq!(record(&*store, id).await.status, Status::Completed);
        assert_eq!(record(&*store, waiting).await.status, Status::Held);
    }

    /// It tells how the task ended and how long its log was, and answers as the task did; the log is gone from any
    /// place, never empty.
    a_bare_row_still_answers(store, clock) {
        let id = add(&*store, NewTask { tags: vec!["x".into()], ..new("a") }).await;
        let task = claim_one(&*store).await;
        let failure = TaskFailure::new(FailureKind::Error, "no").in_attempt(1);
        let end = append(&task, 0, Outcome::Ended, |d| {
            d.yielded(0, 1, b"1");
            d.rewind(0);
            d.failed(0, &failure);
        });
        append_one(&*store, end.clone()).await;
        let before = record(&*store, id).await;
        clock.advance(LEASE);
        let keep = Prune { age: LEASE, ended_max: None, bytes_max: None, max: 9 };
        assert_eq!(store.prune(keep).await.unwrap().logs, 1);
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.error, r.tail, r.yields), (Status::Failed, Some(failure), 3, 0));
        assert_eq!((r.tags, r.completed_at, r.rewinds), (before.tags, before.completed_at, before.rewinds));
        for (from_seq, limit) in [(0, 9), (1, 1), (4, 9), (9, 9)] {
            for what in [What::Events, What::YieldHashes, What::EventHashes] {
                let error = store.read(Read { id, from_seq, limit, what }).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Gone);
            }
        }
        assert_eq!(append_one(&*store, end.clone()).await, Appended::Stored { tail: 3, cancel: None });
        assert_eq!(store.cancel(id, "why".into()).await.unwrap(), Cancelled::Ended(Status::Failed));
        let tagged = List { tag: Some("x".into()), status: vec![Status::Failed], limit: 9, ..List::default() };
        assert_eq!(store.list(tagged).await.unwrap().tasks.len(), 1);
        clock.advance(LEASE);
        assert_eq!(store.prune(keep).await.unwrap().rows, 1);
        assert_eq!(append_one(&*store, end).await, Appended::Fenced);
        assert_eq!(store.cancel(id, "why".into()).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}
