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
        let read = Read { id, from_seq: 3, limit: 9, what: What::Events };
        assert_eq!(store.read(read).await.unwrap().rewinds, rewinds);
        store.release(vec![lease(&task)]).await.unwrap();
        assert_eq!(claim_one(&*store).await.record.rewinds, rewinds);
    }
}
