//! What a repeat means after an answer that was lost, of operations that answer for what they find then. The others
//! answer the same again: [`Persistent::over_faults`] shows it in every case.

use super::*;

/// The same store, which does what it is told and never answers.
fn unanswered(store: &Arc<dyn Store>) -> Arc<dyn Store> {
    let always = Faults { refused_percent: 0, lost_percent: 100, slow_percent: 0, ..Faults::default() };
    Faulty::new(Arc::clone(store), always)
}

/// Nobody knows whether it was done.
fn unknown<T: fmt::Debug>(answer: Result<T>) {
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
}

cases! {
    /// The task has ended, for the first reason, with one event; one that runs is asked once more for the first.
    a_repeated_cancel_keeps_the_first(store, _) {
        let lost = unanswered(&store);
        let id = add(&*store, new("a")).await;
        unknown(lost.cancel(id, "one".into()).await);
        for reason in ["one", "two"] {
            assert_eq!(store.cancel(id, reason.into()).await.unwrap(), Cancelled::Ended(Status::Cancelled));
            let r = record(&*store, id).await;
            assert_eq!((r.cancel_reason.as_deref(), r.tail), (Some("one"), 1));
        }
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        unknown(lost.cancel(id, "one".into()).await);
        for reason in ["one", "two"] {
            assert_eq!(store.cancel(id, reason.into()).await.unwrap(), Cancelled::Asked);
        }
        assert_eq!(store.extend(vec![lease(&task)], LEASE).await.unwrap(), [Extended::Cancel("one".into())]);
        append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b""))).await;
        assert_eq!(store.cancel(id, "one".into()).await.unwrap(), Cancelled::Ended(Status::Completed));
        assert_eq!(record(&*store, id).await.cancel_reason, None);
    }

    /// It takes nothing from who has the task by then, and ends nothing twice.
    a_repeated_release_is_harmless(store, _) {
        let lost = unanswered(&store);
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        unknown(lost.release(vec![lease(&task)]).await);
        store.release(vec![lease(&task)]).await.unwrap();
        let other = claim_one(&*store).await;
        store.release(vec![lease(&task)]).await.unwrap();
        assert_eq!(store.extend(vec![lease(&other)], LEASE).await.unwrap(), [Extended::Held]);
        assert_eq!(record(&*store, id).await.epoch, other.record.epoch);
        store.cancel(id, "why".into()).await.unwrap();
        unknown(lost.release(vec![lease(&other)]).await);
        store.release(vec![lease(&other)]).await.unwrap();
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.tail, r.attempt), (Status::Cancelled, 1, 2));
    }

    /// On a version it answers none, and the document is its own: who repeats reads it to know. On any version it is
    /// put once more.
    a_repeated_document_put_shows_in_the_document(store, _) {
        let lost = unanswered(&store);
        let put = DocPut { key: "k".into(), if_version: Some(0), bytes: b"mine".to_vec(), expires: None };
        unknown(lost.doc_put(put.clone()).await);
        assert_eq!(store.doc_put(put.clone()).await.unwrap(), None);
        let doc = store.doc_get("k".into()).await.unwrap().unwrap();
        assert_eq!((doc.version, &*doc.bytes), (1, &b"mine"[..]));
        let any = DocPut { if_version: None, ..put };
        unknown(lost.doc_put(any.clone()).await);
        assert!(store.doc_put(any).await.unwrap().unwrap() > doc.version + 1);
        assert_eq!(store.doc_get("k".into()).await.unwrap().unwrap().bytes, b"mine");
    }

    /// What the first did is not in the second's count, and is done once.
    a_repeated_sweep_loses_nothing(store, clock) {
        let lost = unanswered(&store);
        let id = add(&*store, new("a")).await;
        let delayed = add(&*store, NewTask { due: Due::In(LEASE), ..new("x") }).await;
        let late = add(&*store, NewTask { expires: Some(LEASE), ..new("x") }).await;
        store.sweep(SWEEP).await.unwrap();
        claim_one(&*store).await;
        for _ in 0..3 {
            clock.advance(LEASE / 3);
            unknown(lost.sweep(SWEEP).await);
        }
        clock.advance(Duration::from_millis(1));
        unknown(lost.sweep(SWEEP).await);
        assert_eq!(store.sweep(SWEEP).await.unwrap(), Swept::default());
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.crashes, r.tail), (Status::Queued, 1, 1));
        assert_eq!(record(&*store, delayed).await.status, Status::Queued);
        let r = record(&*store, late).await;
        assert_eq!((r.status, r.tail), (Status::Cancelled, 1));
    }

    /// It goes on where the first stopped: never further than the policy says.
    a_repeated_prune_goes_on(store, clock) {
        let lost = unanswered(&store);
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(add(&*store, new("a")).await);
            store.cancel(ids[ids.len() - 1], "why".into()).await.unwrap();
        }
        clock.advance(LEASE);
        let young = add(&*store, new("a")).await;
        store.cancel(young, "why".into()).await.unwrap();
        let keep = Prune { age: LEASE, ended_max: None, bytes_max: None, max: 2 };
        unknown(lost.prune(keep).await);
        assert_eq!(store.prune(keep).await.unwrap(), Pruned { logs: 1, rows: 0, more: false });
        assert_eq!(store.prune(keep).await.unwrap(), Pruned::default());
        assert_eq!(events(&*store, young).await.len(), 1);
        assert!(store.get(ids).await.unwrap().iter().all(Option::is_some));
    }

    /// It answers for the status that the task has then.
    a_repeated_start_changes_nothing(store, _) {
        let lost = unanswered(&store);
        let id = add(&*store, NewTask { held: true, ..new("a") }).await;
        unknown(lost.start(vec![id]).await);
        assert_eq!(store.start(vec![id]).await.unwrap(), [Some(Status::Queued)]);
        let task = claim_one(&*store).await;
        assert_eq!(store.start(vec![id]).await.unwrap(), [Some(Status::Running)]);
        assert_eq!(record(&*store, id).await.epoch, task.record.epoch);
    }

    /// It finds what the first stored, whatever has become of it.
    a_repeated_add_finds_its_tasks(store, _) {
        let lost = unanswered(&store);
        let keyed = NewTask { idempotency_key: Some("k".into()), ..new("a") };
        let batch = vec![new("a"), keyed, NewTask { unique: Some("u".into()), ..new("a") }];
        let ids: Vec<_> = batch.iter().map(|task| task.id).collect();
        unknown(lost.add(batch.clone()).await);
        for task in store.claim(claim("w", 9)).await.unwrap().tasks {
            let added = store.add(batch.clone()).await.unwrap();
            assert_eq!(added.iter().map(|a| a.id).collect::<Vec<_>>(), ids);
            append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b""))).await;
        }
        let added = store.add(batch).await.unwrap();
        assert_eq!(added.iter().map(|a| a.id).collect::<Vec<_>>(), ids, "all have ended");
        assert!(store.claim(claim("w", 9)).await.unwrap().tasks.is_empty());
    }

    /// It gives the tasks that the first took and that are still the worker's, and takes no others.
    a_repeated_claim_takes_no_more(store, clock) {
        let lost = unanswered(&store);
        for _ in 0..4 {
            add(&*store, new("a")).await;
        }
        store.sweep(SWEEP).await.unwrap();
        let asked = claim("w", 2);
        unknown(lost.claim(asked.clone()).await);
        let others = store.claim(claim("v", 9)).await.unwrap().tasks;
        assert_eq!(others.len(), 2);
        let mine = store.claim(asked.clone()).await.unwrap().tasks;
        assert_eq!(mine.iter().map(|t| t.record.attempt).collect::<Vec<_>>(), [1, 1]);
        assert!(mine.iter().all(|t| others.iter().all(|o| o.record.id != t.record.id)));
        assert_eq!(store.extend(mine.iter().map(lease).collect(), LEASE).await.unwrap(), vec![Extended::Held; 2]);
        store.release(others.iter().map(lease).collect()).await.unwrap();
        assert_eq!(store.claim(asked.clone()).await.unwrap().tasks, mine, "there is room for no more");
        pass(&*store, &clock, LEASE).await;
        assert!(store.claim(asked.clone()).await.unwrap().tasks.is_empty(), "it holds none any more");
        let others = store.claim(claim("v", 9)).await.unwrap().tasks;
        assert_eq!(others.len(), 4);
        assert!(store.claim(asked).await.unwrap().tasks.is_empty(), "another holds them");
    }

    /// A batch of several tasks, some of which have moved on.
    a_repeated_batch_is_taken_once(store, _) {
        let lost = unanswered(&store);
        for _ in 0..3 {
            add(&*store, new("a")).await;
        }
        let tasks = store.claim(claim("w", 3)).await.unwrap().tasks;
        let (failure, wait) = (TaskFailure::new(FailureKind::Error, "no"), Duration::ZERO);
        let mut batch: Vec<_> =
            tasks.iter().map(|t| append(t, 0, Outcome::Running, |d| d.yielded(0, 1, b"1"))).collect();
        batch[1] = append(&tasks[1], 0, Outcome::Ended, |d| d.completed(0, b""));
        batch[2] = append(&tasks[2], 0, Outcome::Retry(wait), |d| d.retry(0, &failure, wait));
        unknown(lost.append(batch.clone()).await);
        let other = claim_one(&*store).await;
        assert_eq!(other.record.id, tasks[2].record.id);
        let stored = Appended::Stored { tail: 1, cancel: None };
        assert_eq!(store.append(batch).await.unwrap(), vec![stored; 3]);
        for task in &tasks {
            assert_eq!(events(&*store, task.record.id).await.len(), 1);
        }
        assert_eq!(record(&*store, other.record.id).await.failures, 1);
    }
}
