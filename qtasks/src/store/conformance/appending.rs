//! A log grows by its owner only, and once.

use super::*;

cases! {
    /// 1, 2, 3 … whatever batches they came in.
    seqs_are_dense(store, clock) {
        add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let mut tail = 0;
        for (from, to) in [(0, 1), (1, 4), (4, 5), (5, 300), (300, 301)] {
            clock.advance(Duration::from_millis(10));
            tail = yields(&*store, &task, tail, from, to).await;
        }
        let all = events(&*store, task.record.id).await;
        assert_eq!(all.iter().map(|e| e.seq).collect::<Vec<_>>(), (1..=301).collect::<Vec<_>>());
        let index = |e: &crate::Event| match &e.kind {
            EventKind::Yield { index, hash, value } => {
                assert_eq!((*hash, value.as_str()), (index * 7, &*index.to_string()));
                *index
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(all.iter().map(index).collect::<Vec<_>>(), (0..301).collect::<Vec<_>>());
        let r = record(&*store, task.record.id).await;
        assert_eq!((r.tail, r.yields, r.yields_high, r.updated_at), (301, 301, 301, clock.now()));
        assert!(all.windows(2).all(|w| w[0].at <= w[1].at));
    }

    /// An answer that was lost can be asked for again.
    a_repeated_append_changes_nothing(store, _) {
        add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let some = append(&task, 0, Outcome::Running, |d| d.yielded(0, 1, b"1"));
        let stored = Appended::Stored { tail: 1, cancel: None };
        assert_eq!(append_one(&*store, some.clone()).await, stored);
        assert_eq!(append_one(&*store, some.clone()).await, stored);
        let end = append(&task, 1, Outcome::Ended, |d| d.completed(1, b"2"));
        let stored = Appended::Stored { tail: 2, cancel: None };
        assert_eq!(append_one(&*store, end.clone()).await, stored);
        assert_eq!(append_one(&*store, end).await, stored);
        assert_eq!(append_one(&*store, some).await, Appended::Fenced);
        assert_eq!(events(&*store, task.record.id).await.len(), 2);
    }

    /// Refused for another epoch and for another tail.
    an_append_needs_its_epoch_and_its_place(store, clock) {
        add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        yields(&*store, &task, 0, 0, 2).await;
        let misplaced = append(&task, 1, Outcome::Running, |d| d.yielded(1, 1, b"1"));
        assert_eq!(append_one(&*store, misplaced).await, Appended::Conflict { tail: 2 });
        let mut other = append(&task, 2, Outcome::Running, |d| d.yielded(2, 1, b"1"));
        other.epoch -= 1;
        assert_eq!(append_one(&*store, other.clone()).await, Appended::Fenced);
        other.id = TaskId::new();
        assert_eq!(append_one(&*store, other).await, Appended::Fenced);
        pass(&*store, &clock, LEASE + Duration::from_secs(2)).await;
        let zombie = append(&task, 2, Outcome::Running, |d| d.yielded(2, 1, b"1"));
        assert_eq!(append_one(&*store, zombie).await, Appended::Fenced);
        assert_eq!(record(&*store, task.record.id).await.yields, 2);
    }

    /// One entry never affects another.
    a_refused_append_leaves_the_others(store, _) {
        for _ in 0..3 {
            add(&*store, new("a")).await;
        }
        let tasks = store.claim(claim("w", 3)).await.unwrap().tasks;
        let mut batch: Vec<_> =
            tasks.iter().map(|t| append(t, 0, Outcome::Running, |d| d.yielded(0, 1, b"1"))).collect();
        batch[1].epoch += 1;
        let answers = store.append(batch).await.unwrap();
        let stored = Appended::Stored { tail: 1, cancel: None };
        assert_eq!(answers, [stored.clone(), Appended::Fenced, stored]);
    }

    /// Queued again when the backoff is over.
    a_retry_comes_back_after_its_delay(store, clock) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let (failure, wait) = (TaskFailure::new(FailureKind::Error, "no"), Duration::from_secs(5));
        let retry = append(&task, 0, Outcome::Retry(wait), |d| d.retry(0, &failure, wait));
        append_one(&*store, retry.clone()).await;
        assert_eq!(append_one(&*store, retry).await, Appended::Stored { tail: 1, cancel: None });
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.failures, r.due_at), (Status::Delayed, 1, Some(clock.now() + wait)));
        let EventKind::Retry { at, .. } = &events(&*store, id).await[0].kind else { panic!() };
        assert_eq!(*at, clock.now() + wait);
        assert!(store.claim(claim("w", 1)).await.unwrap().tasks.is_empty());
        clock.advance(wait);
        let again = claim_one(&*store).await;
        assert_eq!((again.record.attempt, again.record.failures), (2, 1));
        assert!(again.record.epoch > task.record.epoch);
    }

    /// `get`, `claim` and `read` tell what is void.
    rewinds_are_kept(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let write = |d: &mut DraftBuilder| {
            (0..4).for_each(|i| d.yielded(i, i, b"1"));
            d.rewind(2);
            d.yielded(2, 9, b"2");
        };
        append_one(&*store, append(&task, 0, Outcome::Running, write)).await;
        let rewinds = [Rewind { seq: 5, to: 2 }];
        let r = record(&*store, id).await;
        assert_eq!((r.yields, r.yields_high, &*r.rewinds), (3, 4, &rewinds[..]));
        let read = Read { id, from_seq: 3, limit: 9, bytes_max: usize::MAX, what: What::Events };
        assert_eq!(store.read(read).await.unwrap().rewinds, rewinds);
        store.release(vec![lease(&task)]).await.unwrap();
        assert_eq!(claim_one(&*store).await.record.rewinds, rewinds);
    }

    /// Also when another has the task since.
    an_append_is_known_again_after_the_task_moved_on(store, clock) {
        let id = add(&*store, new("a")).await;
        store.sweep(SWEEP).await.unwrap();
        let task = claim_one(&*store).await;
        let last = append(&task, 0, Outcome::Running, |d| (0..3).for_each(|i| d.yielded(i, i, b"1")));
        let stored = Appended::Stored { tail: 3, cancel: None };
        assert_eq!(append_one(&*store, last.clone()).await, stored);
        pass(&*store, &clock, LEASE).await;
        assert_eq!(append_one(&*store, last.clone()).await, stored, "queued again");
        let other = claim_one(&*store).await;
        assert_eq!(append_one(&*store, last.clone()).await, stored, "with another");
        // What looks like it and is not it is refused.
        let longer = append(&task, 0, Outcome::Running, |d| (0..4).for_each(|i| d.yielded(i, i, b"1")));
        assert_eq!(append_one(&*store, longer).await, Appended::Fenced);
        let later = append(&task, 3, Outcome::Running, |d| (0..3).for_each(|i| d.yielded(i, i, b"1")));
        assert_eq!(append_one(&*store, later).await, Appended::Fenced);
        append_one(&*store, append(&other, 4, Outcome::Ended, |d| d.completed(3, b""))).await;
        assert_eq!(append_one(&*store, last).await, Appended::Fenced, "an owner after it has written");
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.tail, r.yields), (Status::Completed, 5, 3));
    }

    /// Too small or too large.
    an_append_after_another_tail_is_refused(store, _) {
        add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        yields(&*store, &task, 0, 0, 3).await;
        for after_seq in [0, 1, 2, 4, 100] {
            for outcome in [Outcome::Running, Outcome::Ended] {
                let refused = append(&task, after_seq, outcome, |d| d.completed(3, b""));
                assert_eq!(append_one(&*store, refused).await, Appended::Conflict { tail: 3 }, "after {after_seq}");
            }
        }
        let r = record(&*store, task.record.id).await;
        assert_eq!((r.status, r.tail, r.final_value), (Status::Running, 3, None));
        assert_eq!(yields(&*store, &task, 3, 3, 4).await, 4);
    }

    /// Whatever it says: neither its own yields nor its own end make it another's.
    an_owner_s_append_keeps_the_epoch(store, clock) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        clock.advance(Duration::from_secs(1));
        yields(&*store, &task, 0, 0, 2).await;
        let r = record(&*store, id).await;
        assert_eq!((r.epoch, r.attempt), (task.record.epoch, 1));
        let failure = TaskFailure::new(FailureKind::Error, "no");
        append_one(&*store, append(&task, 2, Outcome::Retry(Duration::ZERO), |d| d.retry(2, &failure, Duration::ZERO)))
            .await;
        let r = record(&*store, id).await;
        assert_eq!((r.epoch, r.status, r.attempt), (task.record.epoch, Status::Queued, 1));
        let again = claim_one(&*store).await;
        append_one(&*store, append(&again, 3, Outcome::Ended, |d| d.completed(2, b""))).await;
        let r = record(&*store, id).await;
        assert_eq!((r.epoch, r.attempt), (again.record.epoch, 2));
        assert!(events(&*store, id).await.iter().all(|e| {
            let task = if e.attempt == 1 { &task } else { &again };
            e.epoch == task.record.epoch
        }));
    }

    /// With the events or not at all; kept until the next one.
    a_checkpoint_goes_with_its_append(store, _) {
        add(&*store, new("a")).await;
        let mut task = claim_one(&*store).await;
        let with = |task: &ClaimedTask, after: u64, text: &str| Append {
            checkpoint: Some(Json::parse(text).unwrap()),
            ..append(task, after, Outcome::Running, |d| d.yielded(after, 1, b"1"))
        };
        let again = async |task: &ClaimedTask| {
            store.release(vec![lease(task)]).await.unwrap();
            claim_one(&*store).await
        };
        let first = with(&task, 0, "1");
        append_one(&*store, first.clone()).await;
        append_one(&*store, Append { checkpoint: Some(Json::null()), ..first }).await;
        append_one(&*store, with(&task, 7, "2")).await;
        append_one(&*store, Append { epoch: 1, ..with(&task, 1, "3") }).await;
        yields(&*store, &task, 1, 1, 2).await;
        let late = with(&task, 2, "4");
        task = again(&task).await;
        assert_eq!(task.checkpoint.as_ref().map(Json::as_str), Some("1"));
        assert_eq!(append_one(&*store, late).await, Appended::Fenced);
        append_one(&*store, with(&task, 2, "5")).await;
        task = again(&task).await;
        assert_eq!((task.checkpoint.as_ref().map(Json::as_str), task.record.tail), (Some("5"), 3));
    }

    /// In the order in which they stand. Only the last of them is known again: who repeats a batch has one entry of
    /// each task in it.
    two_appends_of_one_task_are_taken_in_order(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let batch = vec![
            append(&task, 0, Outcome::Running, |d| d.yielded(0, 1, b"1")),
            append(&task, 1, Outcome::Ended, |d| d.completed(1, b"2")),
        ];
        let answers = store.append(batch.clone()).await.unwrap();
        let stored = |tail| Appended::Stored { tail, cancel: None };
        // Of a call that had to be repeated, the first is answered like any that another has followed.
        assert!([stored(1), Appended::Fenced].contains(&answers[0]), "{answers:?}");
        assert_eq!(answers[1], stored(2));
        assert_eq!(store.append(batch).await.unwrap(), [Appended::Fenced, stored(2)]);
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.tail, r.yields), (Status::Completed, 2, 1));
        assert_eq!(events(&*store, id).await.len(), 2);
    }

    /// Of all that write to one place at once.
    one_of_many_appends_is_taken(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let writes = (1..=16).map(|n| {
            let store = Arc::clone(&store);
            // Each has another number of events: none is a repeat of another.
            let this = append(&task, 0, Outcome::Running, |d| (0..n).for_each(|i| d.yielded(i, n, b"1")));
            tokio::spawn(async move { append_one(&*store, this).await })
        });
        let writes: Vec<_> = writes.collect();
        let mut tails = Vec::new();
        for write in writes {
            match write.await.unwrap() {
                Appended::Stored { tail, .. } => tails.push(tail),
                Appended::Conflict { .. } => {}
                Appended::Fenced => panic!("it is the owner"),
            }
        }
        let [tail] = tails[..] else { panic!("{tails:?}") };
        let r = record(&*store, id).await;
        assert_eq!((r.tail, r.yields), (tail, tail));
        let read = Read { id, from_seq: 1, limit: 99, bytes_max: usize::MAX, what: What::YieldHashes };
        let slice = store.read(read).await.unwrap();
        assert_eq!(slice.hashes.len() as u64, tail);
        assert!(slice.hashes.iter().all(|h| h.hash == tail));
    }
}
