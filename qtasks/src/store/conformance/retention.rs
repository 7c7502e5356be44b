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
        let read = Read { id, from_seq: 1, limit: 9, bytes_max: usize::MAX, what: What::Events };
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
            let read = store.read(Read { id: *id, from_seq: 1, limit: 9, bytes_max: usize::MAX, what: What::Events }).await;
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
                let error = store.read(Read { id, from_seq, limit, bytes_max: usize::MAX, what }).await.unwrap_err();
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

    /// However long or short that of the others is, and however many there are.
    a_task_may_have_a_retention_of_its_own(store, clock) {
        let ttl = |seconds| Some(Duration::from_secs(seconds));
        for (name, retention) in [("a", ttl(5)), ("a", ttl(5_000)), ("a", None)] {
            add(&*store, NewTask { retention, ..new(name) }).await;
        }
        let mut ids = Vec::new();
        for _ in 0..3 {
            let task = claim_one(&*store).await;
            append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
            ids.push(task.record.id);
        }
        let keep = Prune { age: Duration::from_secs(60), ended_max: Some(0), bytes_max: Some(0), max: 10 };
        let logs = async || {
            let mut has = Vec::new();
            for id in &ids {
                let read = store.read(Read { id: *id, from_seq: 1, limit: 9, bytes_max: usize::MAX, what: What::Events }).await;
                has.push(read.map_or_else(|e| Err(e.kind()), |slice| Ok(slice.tail)));
            }
            has
        };
        clock.advance(Duration::from_millis(4_999));
        assert_eq!(store.prune(keep).await.unwrap(), Pruned::default());
        clock.advance(Duration::from_millis(1));
        assert_eq!(store.prune(keep).await.unwrap().logs, 1);
        assert_eq!(logs().await, [Err(ErrorKind::Gone), Ok(1), Ok(1)]);
        clock.advance(Duration::from_millis(4_999));
        assert_eq!(store.prune(keep).await.unwrap().rows, 0, "its row stays as long again");
        clock.advance(Duration::from_millis(1));
        let pruned = store.prune(keep).await.unwrap();
        assert_eq!((pruned.logs, pruned.rows), (1, 1), "that of no retention is one too many by now");
        assert_eq!(logs().await, [Err(ErrorKind::NotFound), Ok(1), Err(ErrorKind::Gone)]);
        clock.advance(Duration::from_secs(4_990));
        assert_eq!(store.prune(keep).await.unwrap().logs, 1);
        assert_eq!(logs().await, [Err(ErrorKind::NotFound), Err(ErrorKind::Gone), Err(ErrorKind::NotFound)]);
    }

    /// What is running, or is to be tried again, is left alone.
    what_has_ended_or_never_began_can_be_removed(store, clock) {
        let held = add(&*store, NewTask { held: true, ..new("c") }).await;
        let delayed = add(&*store, NewTask { due: Due::In(Duration::from_secs(9)), ..new("c") }).await;
        let queued = add(&*store, new("c")).await;
        let ended = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        let again = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let failure = TaskFailure::new(FailureKind::Error, "no");
        let retry = Outcome::Retry(Duration::from_secs(5));
        append_one(&*store, append(&task, 0, retry, |d| d.retry(0, &failure, Duration::from_secs(5)))).await;
        let running = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let all = vec![held, delayed, queued, ended, again, running, TaskId::new()];
        use Removed::{Absent, Done, Unfinished};
        let removed = store.remove(all.clone()).await.unwrap();
        assert_eq!(removed, [Done, Done, Done, Done, Unfinished, Unfinished, Absent]);
        let removed = store.remove(all.clone()).await.unwrap();
        assert_eq!(removed, [Absent, Absent, Absent, Absent, Unfinished, Unfinished, Absent]);
        let there: Vec<bool> = store.get(all).await.unwrap().into_iter().map(|r| r.is_some()).collect();
        assert_eq!(there, [false, false, false, false, true, true, false]);
        assert_eq!(yields(&*store, &task, 0, 0, 3).await, 3, "its owner goes on");
        clock.advance(Duration::from_secs(20));
        let names = [Offer { queue: "default".into(), name: "c".into(), allowance: 9 }].into();
        assert_eq!(store.claim(Claim { offers: names, ..claim("w", 9) }).await.unwrap().tasks, []);
        let read = store.read(Read { id: ended, from_seq: 1, limit: 9, bytes_max: usize::MAX, what: What::Events }).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// Lists, counts and keys are as if it had never been there.
    a_removed_task_leaves_nothing_behind(store, clock) {
        let large = Json::of(&"x".repeat(100_000)).unwrap();
        let keyed = |args: Json| NewTask {
            idempotency_key: Some("k".into()),
            unique: Some("u".into()),
            tags: vec!["x".into()],
            expires: Some(Duration::from_secs(1)),
            args,
            ..new("a")
        };
        for end in [false, true] {
            let id = add(&*store, keyed(large.clone())).await;
            if end {
                let task = claim_one(&*store).await;
                let write = |d: &mut DraftBuilder| {
                    (0..50).for_each(|i| d.yielded(i, i, b"\"some text of a value\""));
                    d.completed(50, b"");
                };
                append_one(&*store, append(&task, 0, Outcome::Ended, write)).await;
            }
            assert_eq!(store.remove(vec![id]).await.unwrap(), [Removed::Done]);
            let tagged = List { tag: Some("x".into()), limit: 9, ..List::default() };
            assert_eq!(store.list(tagged).await.unwrap().tasks, []);
            assert_eq!(store.list(List { limit: 9, ..List::default() }).await.unwrap().tasks, []);
            let stats = store.stats().await.unwrap();
            assert_eq!(stats.queues.values().flat_map(|s| s.values()).sum::<u64>(), 0, "{stats:?}");
            let other = store.add(vec![keyed(Json::null())]).await.unwrap()[0];
            assert!(!other.existed, "its keys are free");
            store.remove(vec![other.id]).await.unwrap();
        }
        // What retention counts is what is there.
        let kept = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        clock.advance(Duration::from_secs(30));
        assert_eq!(store.sweep(SWEEP).await.unwrap(), Swept::default());
        let keep = Prune { age: Duration::from_secs(86_400), ended_max: Some(1), bytes_max: Some(1), max: 9 };
        assert_eq!(store.prune(keep).await.unwrap().logs, 0);
        assert_eq!(store.prune(Prune { bytes_max: Some(0), ..keep }).await.unwrap().logs, 1);
        assert_eq!(store.remove(vec![kept]).await.unwrap(), [Removed::Done], "a bare row goes as well");
        clock.advance(Duration::from_secs(86_400));
        assert_eq!(store.prune(keep).await.unwrap().rows, 0);
    }

    /// The results and what they are of: there is no moment at which both, or neither, are there.
    an_append_removes_in_the_same_step(store, _) {
        let parent = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let child = add(&*store, NewTask { parent: Some(parent), ..new("a") }).await;
        let work = claim_one(&*store).await;
        append_one(&*store, append(&work, 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        let running = add(&*store, new("a")).await;
        claim_one(&*store).await;
        let removes = vec![child, running, TaskId::new()];
        let with = Append { removes, ..append(&task, 0, Outcome::Running, |d| d.yielded(0, 7, b"1")) };
        let stored = Appended::Stored { tail: 1, cancel: None };
        assert_eq!(append_one(&*store, with.clone()).await, stored);
        assert_eq!(store.get(vec![child]).await.unwrap(), [None]);
        assert_eq!(record(&*store, running).await.status, Status::Running);
        // Another of the same id would be another task: a repeat takes nothing away.
        add(&*store, NewTask { id: child, ..new("a") }).await;
        assert_eq!(append_one(&*store, with).await, stored);
        assert_eq!(record(&*store, child).await.status, Status::Queued);
    }

    /// Who is fenced takes nothing away.
    a_refused_append_removes_nothing(store, _) {
        add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let child = add(&*store, NewTask { held: true, ..new("a") }).await;
        let write = |d: &mut DraftBuilder| d.yielded(0, 7, b"1");
        let zombie = Append { removes: vec![child], epoch: 1, ..append(&task, 0, Outcome::Running, write) };
        assert_eq!(append_one(&*store, zombie).await, Appended::Fenced);
        let late = Append { removes: vec![child], ..append(&task, 5, Outcome::Running, write) };
        assert_eq!(append_one(&*store, late).await, Appended::Conflict { tail: 0 });
        assert_eq!(record(&*store, child).await.status, Status::Held);
    }
}
