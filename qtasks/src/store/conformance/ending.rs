//! The ways out.

use super::*;

cases! {
    /// Status and last event change together, and never again.
    the_end_and_its_event_are_one_step(store, clock) {
        let failure = TaskFailure::new(FailureKind::Error, "no").in_attempt(1);
        type End = Box<dyn FnOnce(&mut DraftBuilder) + Send>;
        let error = failure.clone();
        let ends: Vec<(Status, End)> = vec![
            (Status::Completed, Box::new(|d| d.completed(1, b"[1]"))),
            (Status::Failed, Box::new(move |d| d.failed(1, &error))),
            (Status::Cancelled, Box::new(|d| d.cancelled(1, "why"))),
        ];
        for (status, end) in ends {
            let id = add(&*store, new("a")).await;
            let task = claim_one(&*store).await;
            let write = |d: &mut DraftBuilder| {
                d.started(0, "w");
                d.yielded(0, 1, b"1");
                end(d);
            };
            append_one(&*store, append(&task, 0, Outcome::Ended, write)).await;
            let r = record(&*store, id).await;
            assert_eq!((r.status, r.completed_at, r.tail, r.yields), (status, Some(clock.now()), 3, 1));
            assert_eq!(r.final_value, (status == Status::Completed).then(|| Json::of(&[1]).unwrap()));
            assert_eq!(r.error, (status == Status::Failed).then(|| failure.clone()));
            assert_eq!(r.cancel_reason.as_deref(), (status == Status::Cancelled).then_some("why"));
            let more = append(&task, 3, Outcome::Running, |d| d.yielded(1, 1, b"1"));
            assert_eq!(append_one(&*store, more).await, Appended::Fenced);
            assert_eq!(store.cancel(id, "x".into()).await.unwrap(), Cancelled::Ended(status));
        }
    }

    /// At once unless it is running.
    cancel_in_every_status(store, clock) {
        let running = add(&*store, new("a")).await;
        claim_one(&*store).await;
        let queued = add(&*store, new("a")).await;
        let held = add(&*store, NewTask { held: true, ..new("a") }).await;
        let delayed = add(&*store, NewTask { due: Due::In(LEASE), ..new("a") }).await;
        for id in [queued, held, delayed] {
            assert_eq!(store.cancel(id, "why".into()).await.unwrap(), Cancelled::Done);
            let r = record(&*store, id).await;
            assert_eq!((r.status, r.completed_at, r.tail), (Status::Cancelled, Some(clock.now()), 1));
            assert_eq!(store.cancel(id, "again".into()).await.unwrap(), Cancelled::Ended(Status::Cancelled));
        }
        assert_eq!(store.cancel(running, "why".into()).await.unwrap(), Cancelled::Asked);
        assert_eq!(record(&*store, running).await.status, Status::Running);
        clock.advance(LEASE * 2);
        assert!(store.claim(claim("v", 9)).await.unwrap().tasks.is_empty());
        let error = store.cancel(TaskId::new(), "why".into()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        store.sweep(SWEEP).await.unwrap();
        pass(&*store, &clock, LEASE * 2).await;
        assert_eq!(record(&*store, running).await.status, Status::Cancelled);
    }

    /// A cancelled task does not come back.
    a_retry_under_a_cancel_is_cancelled(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        store.cancel(id, "why".into()).await.unwrap();
        let write = |d: &mut DraftBuilder| {
            d.yielded(0, 1, b"1");
            d.retry(1, &TaskFailure::new(FailureKind::Error, "no"), LEASE);
        };
        append_one(&*store, append(&task, 0, Outcome::Retry(LEASE), write)).await;
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.yields, r.tail), (Status::Cancelled, 1, 2));
        assert!(matches!(&events(&*store, id).await[1].kind, EventKind::Cancelled { reason } if reason == "why"));
    }

    /// Of several reasons the first.
    the_first_reason_is_kept(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        store.cancel(id, "one".into()).await.unwrap();
        store.cancel(id, "two".into()).await.unwrap();
        let answer = append_one(&*store, append(&task, 0, Outcome::Running, |d| d.yielded(0, 1, b"1"))).await;
        assert_eq!(answer, Appended::Stored { tail: 1, cancel: Some("one".into()) });
        // The owner's stored end wins.
        append_one(&*store, append(&task, 1, Outcome::Ended, |d| d.completed(1, b"2"))).await;
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.cancel_reason), (Status::Completed, None));
    }

    /// Its owner keeps it, and its place in the log, until it hears of it.
    asking_a_running_task_to_cancel_moves_nothing(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        yields(&*store, &task, 0, 0, 2).await;
        let before = record(&*store, id).await;
        assert_eq!(store.cancel(id, "why".into()).await.unwrap(), Cancelled::Asked);
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.tail, r.epoch, r.attempt), (Status::Running, 2, before.epoch, 1));
        assert_eq!((r.cancel_reason.as_deref(), r.completed_at), (Some("why"), None));
        let more = append(&task, 2, Outcome::Running, |d| d.yielded(2, 1, b"1"));
        let answer = append_one(&*store, more).await;
        assert_eq!(answer, Appended::Stored { tail: 3, cancel: Some("why".into()) });
        append_one(&*store, append(&task, 3, Outcome::Ended, |d| d.cancelled(3, "why"))).await;
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.yields, r.epoch), (Status::Cancelled, 3, before.epoch));
    }

    /// What was yielded is kept on every way out.
    what_was_yielded_is_kept(store, clock) {
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(add(&*store, new("a")).await);
        }
        store.sweep(SWEEP).await.unwrap();
        let tasks = store.claim(claim("w", 4)).await.unwrap().tasks;
        for task in &tasks {
            yields(&*store, task, 0, 0, 3).await;
        }
        let failure = TaskFailure::new(FailureKind::Panic, "no");
        append_one(&*store, append(&tasks[0], 3, Outcome::Ended, |d| d.failed(3, &failure))).await;
        store.cancel(ids[1], "why".into()).await.unwrap();
        store.release(vec![lease(&tasks[1]), lease(&tasks[2])]).await.unwrap();
        store.cancel(ids[2], "why".into()).await.unwrap();
        pass(&*store, &clock, LEASE).await;
        store.cancel(ids[3], "why".into()).await.unwrap();
        for (id, tail) in ids.into_iter().zip([4, 4, 4, 5]) {
            let r = record(&*store, id).await;
            assert_eq!((r.yields, r.tail, r.status.is_ended()), (3, tail, true));
            let all = events(&*store, id).await;
            let kept = all.iter().filter(|e| matches!(e.kind, EventKind::Yield { .. })).count();
            assert_eq!((kept, all.len() as u64), (3, tail));
        }
    }
}
