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
}
