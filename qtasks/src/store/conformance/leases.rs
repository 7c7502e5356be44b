//! Who has a task, and how it comes back from one that is gone.

use super::*;

cases! {
    /// Any process that sweeps brings it back.
    a_lost_lease_comes_back_with_a_higher_epoch(store, clock) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        yields(&*store, &task, 0, 0, 1).await;
        store.sweep(SWEEP).await.unwrap();
        assert_eq!(pass(&*store, &clock, LEASE - Duration::from_secs(1)).await.requeued, 0);
        assert_eq!(pass(&*store, &clock, Duration::from_secs(1)).await.requeued, 1);
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.crashes, r.failures, r.yields), (Status::Queued, 1, 0, 1));
        assert!(r.epoch > task.record.epoch);
        let EventKind::Retry { error, .. } = &events(&*store, id).await[1].kind else { panic!() };
        assert_eq!(error.kind, FailureKind::Lost);
        let again = claim_one(&*store).await;
        assert_eq!(again.record.attempt, 2);
        assert_eq!(store.extend(vec![lease(&task)], LEASE).await.unwrap(), [Extended::Fenced]);
    }

    /// A poison task ends.
    too_many_crashes_fail_the_task(store, clock) {
        let id = add(&*store, new("a")).await;
        for crash in 1..=4 {
            assert_eq!(claim_one(&*store).await.record.attempt, crash);
            pass(&*store, &clock, LEASE).await;
        }
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.error.map(|e| e.kind)), (Status::Failed, Some(FailureKind::Lost)));
        assert!(matches!(events(&*store, id).await.last().unwrap().kind, EventKind::Failed { .. }));
    }

    /// A task that gets further each time is no poison.
    progress_forgives_crashes(store, clock) {
        let id = add(&*store, new("a")).await;
        let mut tail = 0;
        for i in 0..8 {
            let task = claim_one(&*store).await;
            tail = yields(&*store, &task, tail, i, i + 1).await + 1;
            pass(&*store, &clock, LEASE).await;
        }
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.crashes, r.yields), (Status::Queued, 1, 8));
    }

    /// A machine that slept loses nothing before it had the time to say that it is there.
    a_gap_in_sweeping_takes_no_lease(store, clock) {
        let id = add(&*store, new("a")).await;
        store.sweep(SWEEP).await.unwrap();
        let task = claim_one(&*store).await;
        clock.advance(Duration::from_secs(3600));
        assert_eq!(store.sweep(SWEEP).await.unwrap().requeued, 0);
        assert_eq!(pass(&*store, &clock, Duration::from_secs(3)).await.requeued, 0);
        assert_eq!(store.extend(vec![lease(&task)], LEASE).await.unwrap(), [Extended::Held]);
        assert_eq!(pass(&*store, &clock, Duration::from_secs(8)).await.requeued, 0);
        assert_eq!(pass(&*store, &clock, Duration::from_secs(4)).await.requeued, 1);
        assert_eq!(record(&*store, id).await.status, Status::Queued);
    }

    /// Held, fenced, or asked to cancel.
    extend_tells_what_became_of_a_lease(store, _) {
        for _ in 0..3 {
            add(&*store, new("a")).await;
        }
        let tasks = store.claim(claim("w", 3)).await.unwrap().tasks;
        store.cancel(tasks[1].record.id, "why".into()).await.unwrap();
        store.release(vec![lease(&tasks[2])]).await.unwrap();
        let answers = store.extend(tasks.iter().map(lease).collect(), LEASE).await.unwrap();
        assert_eq!(answers, [Extended::Held, Extended::Cancel("why".into()), Extended::Fenced]);
    }

    /// A lease that ran out and was not taken is renewed.
    extend_saves_a_lease_that_ran_out(store, clock) {
        add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        clock.advance(LEASE * 2);
        assert_eq!(store.extend(vec![lease(&task)], LEASE).await.unwrap(), [Extended::Held]);
        store.sweep(SWEEP).await.unwrap();
        assert_eq!(pass(&*store, &clock, Duration::from_secs(9)).await.requeued, 0);
    }

    /// Unharmed, and without an event.
    release_gives_back_without_counting(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        yields(&*store, &task, 0, 0, 2).await;
        store.release(vec![lease(&task)]).await.unwrap();
        store.release(vec![lease(&task)]).await.unwrap();
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.crashes, r.failures, r.tail), (Status::Queued, 0, 0, 2));
        assert!(r.epoch > task.record.epoch);
        let late = append(&task, 2, Outcome::Running, |d| d.yielded(2, 1, b"1"));
        assert_eq!(append_one(&*store, late).await, Appended::Fenced);
        assert_eq!(claim_one(&*store).await.record.attempt, 2);
    }

    /// What was to be cancelled is not given to anybody again.
    release_under_a_cancel_ends_the_task(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        store.cancel(id, "why".into()).await.unwrap();
        store.release(vec![lease(&task)]).await.unwrap();
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.cancel_reason.as_deref()), (Status::Cancelled, Some("why")));
        assert!(matches!(&events(&*store, id).await[0].kind, EventKind::Cancelled { reason } if reason == "why"));
    }

    /// Any process that has the store open puts right what time has changed.
    a_sweep_needs_no_worker(store, clock) {
        let ids = [
            add(&*store, NewTask { priority: -1, ..new("a") }).await,
            add(&*store, NewTask { due: Due::In(LEASE), ..new("x") }).await,
            add(&*store, NewTask { expires: Some(LEASE), ..new("x") }).await,
        ];
        let other = store.on_this_runtime().await.unwrap();
        other.sweep(SWEEP).await.unwrap();
        claim_one(&*store).await;
        let swept = pass(&*other, &clock, LEASE).await;
        assert_eq!(swept, Swept { promoted: 1, requeued: 1, ended: 0, expired: 1, over: vec![ids[2]] });
        for (id, status) in ids.into_iter().zip([Status::Queued, Status::Queued, Status::Cancelled]) {
            assert_eq!(record(&*store, id).await.status, status);
        }
    }

    /// Who sweeps can tell others of each.
    a_sweep_tells_what_it_ended(store, clock) {
        let lost = add(&*store, NewTask { priority: -2, ..new("a") }).await;
        let cancelled = add(&*store, NewTask { priority: -1, ..new("a") }).await;
        let again = add(&*store, new("b")).await;
        let late = add(&*store, NewTask { expires: Some(LEASE), ..new("x") }).await;
        store.sweep(SWEEP).await.unwrap();
        assert_eq!(store.claim(claim("w", 9)).await.unwrap().tasks.len(), 3);
        store.cancel(cancelled, "why".into()).await.unwrap();
        for _ in 0..3 {
            clock.advance(LEASE / 3);
            assert_eq!(store.sweep(SWEEP).await.unwrap(), Swept::default());
        }
        clock.advance(Duration::from_millis(1));
        let swept = store.sweep(Sweep { crashes_max: 0, ..SWEEP }).await.unwrap();
        assert_eq!((swept.ended, swept.expired, swept.requeued), (3, 1, 0));
        let mut over = swept.over;
        over.sort();
        let mut expected = vec![lost, cancelled, again, late];
        expected.sort();
        assert_eq!(over, expected);
        assert_eq!(store.sweep(SWEEP).await.unwrap().over, []);
    }

    /// Who looks in vain has looked: no gap is seen after it.
    a_sweep_that_finds_nothing_is_marked(store, clock) {
        store.sweep(SWEEP).await.unwrap();
        for _ in 0..3 {
            clock.advance(Duration::from_secs(4));
            assert_eq!(store.sweep(SWEEP).await.unwrap(), Swept::default(), "there is nothing");
        }
        add(&*store, new("a")).await;
        store.claim(Claim { lease: LEASE / 2, ..claim("w", 1) }).await.unwrap();
        clock.advance(Duration::from_secs(4));
        assert_eq!(store.sweep(SWEEP).await.unwrap(), Swept::default(), "there is nothing lost");
        clock.advance(Duration::from_secs(1));
        assert_eq!(store.sweep(SWEEP).await.unwrap().requeued, 1);
    }

    /// One heartbeat and a second after the first look, however many look in between; what is no lease waits for
    /// nothing.
    a_gap_is_counted_once(store, clock) {
        let delayed = add(&*store, NewTask { due: Due::In(LEASE), ..new("x") }).await;
        add(&*store, NewTask { expires: Some(LEASE), ..new("x") }).await;
        let id = add(&*store, new("a")).await;
        store.sweep(SWEEP).await.unwrap();
        for gap in 1..=2 {
            claim_one(&*store).await;
            clock.advance(Duration::from_secs(3600));
            let first = store.sweep(SWEEP).await.unwrap();
            let found = usize::from(gap == 1);
            assert_eq!((first.promoted, first.expired, first.requeued + first.ended), (found, found, 0));
            for ms in [0, 1_500, 1_500, 999] {
                clock.advance(Duration::from_millis(ms));
                assert_eq!(store.sweep(SWEEP).await.unwrap(), Swept::default());
            }
            clock.advance(Duration::from_millis(1));
            assert_eq!(store.sweep(SWEEP).await.unwrap().requeued, 1, "after gap {gap}");
            assert_eq!(record(&*store, id).await.crashes, gap);
        }
        assert_eq!(record(&*store, delayed).await.status, Status::Queued);
    }

    /// At most so many of each sort; the rest the next time.
    a_sweep_does_no_more_than_it_is_told(store, clock) {
        for _ in 0..5 {
            add(&*store, new("a")).await;
            add(&*store, NewTask { due: Due::In(LEASE), ..new("x") }).await;
            add(&*store, NewTask { expires: Some(LEASE), ..new("x") }).await;
        }
        assert_eq!(store.claim(claim("w", 9)).await.unwrap().tasks.len(), 5);
        let small = Sweep { max: 2, ..SWEEP };
        for _ in 0..3 {
            store.sweep(SWEEP).await.unwrap();
            clock.advance(LEASE / 3);
        }
        clock.advance(Duration::from_millis(1));
        assert_eq!(store.sweep(Sweep { max: 0, ..SWEEP }).await.unwrap(), Swept::default());
        for left in [2, 2, 1, 0] {
            let swept = store.sweep(small).await.unwrap();
            assert_eq!([swept.promoted, swept.requeued, swept.ended, swept.expired], [left, left, 0, left]);
        }
    }

    /// A budget of none ends the first that is lost; without progress, not with.
    a_budget_of_no_crash_fails_at_once(store, clock) {
        let id = add(&*store, new("a")).await;
        store.sweep(SWEEP).await.unwrap();
        claim_one(&*store).await;
        for _ in 0..2 {
            clock.advance(LEASE / 2);
            let strict = Sweep { crashes_max: 0, ..SWEEP };
            store.sweep(strict).await.unwrap();
        }
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.attempt, r.tail), (Status::Failed, 1, 1));
        assert_eq!(r.completed_at, Some(clock.now()));
    }

    /// Only claim, sweep, release and cancel move them, and only up.
    epoch_and_attempt_only_grow(store, clock) {
        let id = add(&*store, NewTask { held: true, ..new("a") }).await;
        store.sweep(SWEEP).await.unwrap();
        store.start(vec![id]).await.unwrap();
        let mut last = (0, 0);
        let mut look = async |what: &str| {
            let r = record(&*store, id).await;
            assert!(r.epoch >= last.0 && r.attempt >= last.1, "{what}: {last:?} before {r:?}");
            last = (r.epoch, r.attempt);
            last
        };
        look("start").await;
        for attempt in 1..=3 {
            let task = claim_one(&*store).await;
            assert_eq!(look("claim").await, (task.record.epoch, attempt));
            store.extend(vec![lease(&task)], LEASE).await.unwrap();
            store.sweep(SWEEP).await.unwrap();
            store.start(vec![id]).await.unwrap();
            assert_eq!(look("extend").await, (task.record.epoch, attempt));
            if attempt == 2 {
                pass(&*store, &clock, LEASE).await;
            } else {
                store.release(vec![lease(&task)]).await.unwrap();
            }
            let (epoch, now) = look("given back").await;
            assert!(epoch > task.record.epoch && now == attempt);
        }
        store.cancel(id, "why".into()).await.unwrap();
        assert_eq!(look("cancel").await.1, 3);
    }

    /// As long as any other duration.
    a_lease_may_be_extended_for_ever(store, clock) {
        add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        store.sweep(SWEEP).await.unwrap();
        assert_eq!(store.extend(vec![lease(&task)], Duration::MAX).await.unwrap(), [Extended::Held]);
        assert_eq!(pass(&*store, &clock, Duration::from_secs(3600)).await, Swept::default());
    }

    /// Also where the scans are further apart than half a lease: a gap that is counted once comes to its end.
    a_short_lease_comes_back_too(store, clock) {
        let short = Duration::from_secs(3);
        let sweep = Sweep { lease: short, heartbeat: short * 3 / 10, ..SWEEP };
        add(&*store, new("a")).await;
        store.sweep(sweep).await.unwrap();
        store.claim(Claim { lease: short, ..claim("w", 1) }).await.unwrap();
        let mut requeued = 0;
        for _ in 0..30 {
            clock.advance(Duration::from_secs(2));
            requeued += store.sweep(sweep).await.unwrap().requeued;
        }
        assert_eq!(requeued, 1);
    }
}
