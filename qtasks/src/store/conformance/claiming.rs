//! Each task goes to one worker, the most urgent first.

use super::*;

cases! {
    /// Each task to one caller.
    a_claimed_task_is_not_claimed_twice(store, clock) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        assert_eq!((task.record.id, task.record.status, task.record.attempt), (id, Status::Running, 1));
        assert_eq!((task.record.worker.as_deref(), task.record.started_at), (Some("w"), Some(clock.now())));
        assert!(task.record.epoch >= 1);
        assert!(store.claim(claim("v", 9)).await.unwrap().tasks.is_empty());
    }

    /// Priority, then due, then the order of adding.
    the_most_urgent_task_comes_first(store, clock) {
        let late = add(&*store, NewTask { due: Due::In(Duration::from_secs(5)), ..new("a") }).await;
        clock.advance(Duration::from_secs(6));
        let mut ids = Vec::new();
        for (name, priority) in [("a", 5), ("b", 0), ("a", 0), ("b", -7), ("a", 0), ("b", 5)] {
            ids.push(add(&*store, NewTask { priority, ..new(name) }).await);
        }
        let claimed = store.claim(claim("w", 99)).await.unwrap().tasks;
        let order: Vec<_> = claimed.iter().map(|t| t.record.id).collect();
        assert_eq!(order, [ids[3], late, ids[1], ids[2], ids[4], ids[0], ids[5]]);
    }

    /// A worker gets what it offers to run, however much else there is.
    only_what_is_offered_is_claimed(store, _) {
        for name in ["x", "y", "a"] {
            add(&*store, new(name)).await;
        }
        add(&*store, NewTask { queue: "io".into(), ..new("a") }).await;
        let claimed = store.claim(claim("w", 9)).await.unwrap().tasks;
        assert_eq!(claimed.len(), 1);
        assert_eq!((&*claimed[0].record.name, &*claimed[0].record.queue), ("a", "default"));
    }

    /// At most as many of a pair as it allows.
    an_allowance_is_kept(store, _) {
        for _ in 0..5 {
            add(&*store, new("a")).await;
            add(&*store, new("b")).await;
        }
        let offer = |name: &str, allowance| Offer { queue: "default".into(), name: name.into(), allowance };
        let offers = [offer("a", 2), offer("b", 0)].into();
        let claimed = store.claim(Claim { offers, ..claim("w", 9) }).await.unwrap().tasks;
        assert_eq!(claimed.iter().map(|t| &*t.record.name).collect::<Vec<_>>(), ["a", "a"]);
    }

    /// A repeated claim costs no attempt.
    the_same_token_gives_the_same_tasks(store, _) {
        for _ in 0..3 {
            add(&*store, new("a")).await;
        }
        let asked = claim("w", 2);
        let first = store.claim(asked.clone()).await.unwrap().tasks;
        let again = store.claim(asked.clone()).await.unwrap().tasks;
        assert_eq!(first, again);
        assert_eq!(again[0].record.attempt, 1);
        append_one(&*store, append(&first[0], 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        let rest = store.claim(asked).await.unwrap().tasks;
        assert_eq!(rest.iter().map(|t| t.record.id).collect::<Vec<_>>(), [first[1].record.id]);
        assert_eq!(store.claim(claim("w", 9)).await.unwrap().tasks.len(), 1);
    }

    /// Not before it is due; a claim says how long that is.
    a_delayed_task_waits(store, clock) {
        let delayed = add(&*store, NewTask { due: Due::In(Duration::from_secs(5)), ..new("a") }).await;
        let at = clock.now() + Duration::from_secs(8);
        let later = add(&*store, NewTask { due: Due::At(at), ..new("a") }).await;
        let past = add(&*store, NewTask { due: Due::At(clock.now() - LEASE), ..new("a") }).await;
        let claimed = store.claim(claim("w", 9)).await.unwrap();
        assert_eq!(claimed.tasks.iter().map(|t| t.record.id).collect::<Vec<_>>(), [past]);
        assert_eq!(claimed.next_due, Some(Duration::from_secs(5)));
        let r = record(&*store, later).await;
        assert_eq!((r.status, r.due_at), (Status::Delayed, Some(at)));
        clock.advance(Duration::from_secs(5));
        assert_eq!(store.claim(claim("w", 9)).await.unwrap().tasks[0].record.id, delayed);
        clock.advance(Duration::from_secs(3));
        assert_eq!(store.sweep(SWEEP).await.unwrap().promoted, 1);
        assert_eq!(record(&*store, later).await.status, Status::Queued);
    }

    /// Too late is never, and ends `cancelled`.
    an_expired_task_is_never_claimed(store, clock) {
        let expires = Some(Duration::from_secs(5));
        let late = add(&*store, NewTask { expires, ..new("a") }).await;
        let held = add(&*store, NewTask { expires, held: true, ..new("a") }).await;
        let started = add(&*store, NewTask { expires, priority: -1, ..new("a") }).await;
        assert_eq!(claim_one(&*store).await.record.id, started);
        clock.advance(Duration::from_secs(5));
        assert!(store.claim(claim("v", 9)).await.unwrap().tasks.is_empty());
        assert_eq!(store.sweep(SWEEP).await.unwrap().expired, 2);
        for id in [late, held] {
            let r = record(&*store, id).await;
            assert_eq!((r.status, r.cancel_reason.as_deref()), (Status::Cancelled, Some("expired")));
            assert_eq!(events(&*store, id).await.len(), 1);
        }
        assert_eq!(record(&*store, started).await.status, Status::Running);
    }

    /// Tail, yields, bytes, the last value that holds, the checkpoint.
    a_claim_tells_where_to_go_on(store, _) {
        add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        assert_eq!((task.bytes, &task.last_yield, &task.checkpoint), (0, &None, &None));
        let write = |d: &mut DraftBuilder| {
            d.yielded(0, 1, b"\"kept\"");
            d.yielded(1, 1, b"\"void\"");
            d.rewind(1);
            d.custom(1, 5, "x", &Json::null());
        };
        let checkpoint = Some(Json::of(&[1, 2]).unwrap());
        let some = Append { checkpoint: checkpoint.clone(), ..append(&task, 0, Outcome::Running, write) };
        append_one(&*store, some).await;
        store.release(vec![lease(&task)]).await.unwrap();
        let again = claim_one(&*store).await;
        assert_eq!((again.record.tail, again.record.yields), (4, 1));
        assert_eq!((again.last_yield, again.checkpoint), (Some(Json::of("kept").unwrap()), checkpoint));
        assert!(again.bytes >= 12, "{}", again.bytes);
    }

    /// 16 at once, 400 tasks, each to one.
    many_claimers_share_without_overlap(store, _) {
        for _ in 0..4 {
            store.add((0..100).map(|_| new("a")).collect()).await.unwrap();
        }
        let together = Arc::new(tokio::sync::Barrier::new(16));
        let claimers = (0..16).map(|i| {
            let (store, together) = (Arc::clone(&store), Arc::clone(&together));
            tokio::spawn(async move {
                let mut mine = Vec::new();
                together.wait().await;
                loop {
                    let claimed = store.claim(claim(&format!("w{i}"), 7)).await.unwrap();
                    if claimed.tasks.is_empty() {
                        return mine;
                    }
                    mine.extend(claimed.tasks.into_iter().map(|t| t.record.id));
                    tokio::task::yield_now().await;
                }
            })
        });
        let all: Vec<_> = futures::future::join_all(claimers).await.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(all.len(), 400);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 400);
    }

    /// Its stamps are its own, and epochs never fall behind it.
    the_clock_is_the_store_s_own(store, clock) {
        let id = add(&*store, new("a")).await;
        clock.advance(Duration::from_secs(100));
        let task = claim_one(&*store).await;
        let ms = clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        assert_eq!(u128::from(task.record.epoch), ms);
        append_one(&*store, append(&task, 0, Outcome::Running, |d| d.yielded(0, 1, b"1"))).await;
        let event = &events(&*store, id).await[0];
        assert_eq!((event.at, event.epoch, event.attempt), (clock.now(), task.record.epoch, 1));
        store.release(vec![lease(&task)]).await.unwrap();
        assert!(claim_one(&*store).await.record.epoch > task.record.epoch + 1);
    }

    /// Also when it is started after its time.
    a_held_task_is_never_claimed(store, clock) {
        let expires = Some(Duration::from_secs(5));
        let held = add(&*store, NewTask { held: true, ..new("a") }).await;
        let late = add(&*store, NewTask { held: true, expires, ..new("a") }).await;
        clock.advance(Duration::from_secs(6));
        assert!(store.claim(claim("w", 9)).await.unwrap().tasks.is_empty());
        assert!(!store.start(vec![late]).await.unwrap().contains(&None));
        assert!(store.claim(claim("w", 9)).await.unwrap().tasks.is_empty());
        store.sweep(SWEEP).await.unwrap();
        assert!(store.claim(claim("w", 9)).await.unwrap().tasks.is_empty());
        assert_eq!(record(&*store, late).await.status, Status::Cancelled);
        assert_eq!(store.start(vec![late, held]).await.unwrap(), [Some(Status::Cancelled), Some(Status::Queued)]);
        assert_eq!(claim_one(&*store).await.record.id, held);
    }

    /// A worker without room takes nothing, and still learns when to look.
    no_room_takes_nothing(store, _) {
        add(&*store, new("a")).await;
        assert_eq!(store.claim(claim("w", 0)).await.unwrap(), Claimed::default());
        let allowance = 0;
        let offers = [Offer { queue: "default".into(), name: "a".into(), allowance }].into();
        assert_eq!(store.claim(Claim { offers, ..claim("w", 9) }).await.unwrap(), Claimed::default());
        add(&*store, NewTask { due: Due::In(LEASE), ..new("a") }).await;
        let claimed = store.claim(claim("w", 0)).await.unwrap();
        assert_eq!((claimed.tasks.len(), claimed.next_due), (0, Some(LEASE)));
        assert_eq!(claim_one(&*store).await.record.attempt, 1);
    }

    /// The least and the greatest of 16 bits.
    priorities_go_to_their_limits(store, _) {
        let mut ids = Vec::new();
        for priority in [i16::MAX, 1, 0, -1, i16::MIN] {
            ids.insert(0, add(&*store, NewTask { priority, ..new("a") }).await);
        }
        let claimed = store.claim(claim("w", 9)).await.unwrap().tasks;
        assert_eq!(claimed.iter().map(|t| t.record.id).collect::<Vec<_>>(), ids);
        assert_eq!((claimed[0].record.priority, claimed[4].record.priority), (i16::MIN, i16::MAX));
    }

    /// Long ago comes first, and the year 9999 will not come.
    due_in_any_year(store, clock) {
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        let at = |at: SystemTime| NewTask { due: Due::At(at), ..new("a") };
        let now = add(&*store, new("a")).await;
        let never = add(&*store, at(last)).await;
        let old = add(&*store, at(clock.now() - Duration::from_secs(86_400))).await;
        let oldest = add(&*store, at(SystemTime::UNIX_EPOCH)).await;
        let r = record(&*store, never).await;
        assert_eq!((r.status, r.due_at), (Status::Delayed, Some(last)));
        let r = record(&*store, old).await;
        assert_eq!((r.status, r.due_at), (Status::Queued, None));
        let claimed = store.claim(claim("w", 9)).await.unwrap();
        assert_eq!(claimed.tasks.iter().map(|t| t.record.id).collect::<Vec<_>>(), [oldest, old, now]);
        assert_eq!(claimed.next_due, Some(last.duration_since(clock.now()).unwrap()));
        clock.advance(Duration::from_secs(1000 * 366 * 86_400));
        assert!(store.claim(claim("w", 9)).await.unwrap().tasks.is_empty());
    }

    /// The longest duration is one like any other: nothing overflows.
    durations_may_be_for_ever(store, clock) {
        let ever = Duration::MAX;
        let delayed = add(&*store, NewTask { due: Due::In(ever), ..new("a") }).await;
        add(&*store, NewTask { expires: Some(ever), time_limit: Some(ever), ..new("a") }).await;
        store.sweep(SWEEP).await.unwrap();
        let claimed = store.claim(Claim { lease: ever, ..claim("w", 9) }).await.unwrap();
        assert!(claimed.next_due > Some(Duration::from_secs(1 << 32)));
        let [task] = &claimed.tasks[..] else { panic!("{claimed:?}") };
        assert!(task.time_limit > Some(Duration::from_secs(1 << 32)));
        let swept = pass(&*store, &clock, Duration::from_secs(3600)).await;
        assert_eq!(swept, Swept::default());
        let failure = TaskFailure::new(FailureKind::Error, "no");
        append_one(&*store, append(task, 0, Outcome::Retry(ever), |d| d.retry(0, &failure, ever))).await;
        assert_eq!(events(&*store, task.record.id).await.len(), 1);
        let longest = Sweep { lease: ever, heartbeat: ever, ..SWEEP };
        assert_eq!(store.sweep(longest).await.unwrap(), Swept::default());
        let put = DocPut { key: "k".into(), if_version: None, bytes: Vec::new(), expires: Some(ever) };
        assert!(store.doc_put(put).await.unwrap().is_some());
        assert!(store.doc_get("k".into()).await.unwrap().is_some());
        let keep = Prune { age: ever, ended_max: None, bytes_max: None, max: 9 };
        assert_eq!(store.prune(keep).await.unwrap(), Pruned::default());
        for id in [delayed, task.record.id] {
            assert_eq!(record(&*store, id).await.status, Status::Delayed);
        }
    }

    /// The greatest numbers are limits like any other, and places where nothing is.
    numbers_go_to_their_limits(store, clock) {
        add(&*store, new("a")).await;
        let task = store.claim(claim("w", usize::MAX)).await.unwrap().tasks.remove(0);
        yields(&*store, &task, 0, 0, 1).await;
        let mut far = append(&task, u64::MAX, Outcome::Running, |d| d.yielded(1, 1, b"1"));
        assert_eq!(append_one(&*store, far.clone()).await, Appended::Conflict { tail: 1 });
        far.epoch = u64::MAX;
        assert_eq!(append_one(&*store, far).await, Appended::Fenced);
        let of_nobody = Lease { epoch: u64::MAX, ..lease(&task) };
        store.release(vec![of_nobody]).await.unwrap();
        assert_eq!(store.extend(vec![of_nobody], LEASE).await.unwrap(), [Extended::Fenced]);
        for what in [What::Events, What::YieldHashes, What::EventHashes] {
            let read = Read { id: task.record.id, from_seq: u64::MAX, limit: usize::MAX, bytes_max: usize::MAX, what };
            let slice = store.read(read).await.unwrap();
            assert_eq!((slice.events.len(), slice.hashes.len(), slice.tail), (0, 0, 1));
            let read = Read { from_seq: 0, ..read };
            let slice = store.read(read).await.unwrap();
            let found = slice.events.iter().map(EventBatch::len).sum::<usize>() + slice.hashes.len();
            assert_eq!(found, usize::from(what != What::EventHashes));
        }
        assert_eq!(store.list(List { limit: usize::MAX, ..List::default() }).await.unwrap().tasks.len(), 1);
        clock.advance(LEASE);
        let all = Sweep { max: usize::MAX, crashes_max: u32::MAX, ..SWEEP };
        assert_eq!(store.sweep(all).await.unwrap().requeued, 1);
        let all = Prune { age: LEASE, ended_max: Some(u64::MAX), bytes_max: Some(u64::MAX), max: usize::MAX };
        assert_eq!(store.prune(all).await.unwrap(), Pruned::default());
        let put = DocPut { key: "k".into(), if_version: Some(u64::MAX), bytes: Vec::new(), expires: None };
        assert_eq!(store.doc_put(put).await.unwrap(), None);
    }

    /// What was asked for one task when it was added goes with it.
    a_claim_brings_the_task_s_own_limits(store, _) {
        let retry = crate::retry::RetryPolicy::times(7).exponential(Duration::from_millis(1), LEASE).jitter(false);
        let time_limit = Some(Duration::from_millis(1_500));
        let retry_of = Some(TaskId::new());
        let idle_limit = Some(Duration::from_micros(2_500));
        let own = NewTask { retry: Some(retry), time_limit, idle_limit, retry_of, ..new("a") };
        add(&*store, own).await;
        add(&*store, new("a")).await;
        let claimed = store.claim(claim("w", 2)).await.unwrap().tasks;
        assert_eq!((claimed[0].retry, claimed[0].time_limit), (Some(retry), time_limit));
        assert_eq!((claimed[0].record.retry_of, claimed[0].idle_limit), (retry_of, idle_limit));
        assert_eq!((claimed[1].retry, claimed[1].time_limit, claimed[1].idle_limit), (None, None, None));
        assert_eq!(claimed[1].record.retry_of, None);
    }

    /// A task is cancelled or handed out, and both are told the same.
    a_cancel_and_a_claim_agree(store, _) {
        let added = store.add((0..100).map(|_| new("a")).collect()).await.unwrap();
        let cancels = added.iter().map(|Added { id, .. }| {
            let (store, id) = (Arc::clone(&store), *id);
            tokio::spawn(async move { (id, store.cancel(id, "why".into()).await.unwrap()) })
        });
        let cancels: Vec<_> = cancels.collect();
        let claims = (0..4).map(|i| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut mine = Vec::new();
                for _ in 0..10 {
                    let claimed = store.claim(claim(&format!("w{i}"), 3)).await.unwrap();
                    mine.extend(claimed.tasks.into_iter().map(|t| t.record.id));
                }
                mine
            })
        });
        let claims: Vec<_> = futures::future::join_all(claims).await.into_iter().flat_map(Result::unwrap).collect();
        for cancel in cancels {
            let (id, answer) = cancel.await.unwrap();
            let r = record(&*store, id).await;
            let (status, tail) = match answer {
                Cancelled::Done => (Status::Cancelled, 1),
                Cancelled::Asked => (Status::Running, 0),
                Cancelled::Ended(status) => panic!("it had ended {status}"),
            };
            // What was asked to cancel was with a worker, and what was cancelled never came to one.
            assert_eq!((r.status, r.tail), (status, tail));
            assert_eq!(claims.contains(&id), status == Status::Running);
            assert_eq!(r.attempt, u32::from(status == Status::Running));
        }
    }

    /// At least the store's clock in milliseconds, and more each time that anyone but the owner moves the task: a
    /// store that forgot its last commits gives none out twice.
    an_epoch_is_the_clock_or_one_more(store, clock) {
        let ms = || u64::try_from(clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap();
        let id = add(&*store, new("a")).await;
        store.sweep(SWEEP).await.unwrap();
        let epoch = async || record(&*store, id).await.epoch;
        let mut before = epoch().await;
        // Twice within a millisecond each, then later.
        for round in 0..4 {
            let task = claim_one(&*store).await;
            assert_eq!(task.record.epoch, ms().max(before + 1), "claimed in round {round}");
            before = task.record.epoch;
            store.release(vec![lease(&task)]).await.unwrap();
            assert_eq!(epoch().await, ms().max(before + 1), "released in round {round}");
            before = epoch().await;
            if round == 1 {
                clock.advance(Duration::from_secs(1));
                store.sweep(SWEEP).await.unwrap();
            }
        }
        let task = claim_one(&*store).await;
        assert_eq!(pass(&*store, &clock, LEASE).await.requeued, 1);
        assert_eq!(epoch().await, ms());
        assert!(epoch().await > task.record.epoch);
        before = epoch().await;
        store.cancel(id, "why".into()).await.unwrap();
        assert_eq!(epoch().await, before + 1);
        let ended = add(&*store, NewTask { expires: Some(LEASE), ..new("a") }).await;
        pass(&*store, &clock, LEASE).await;
        let r = record(&*store, ended).await;
        assert_eq!((r.status, r.epoch), (Status::Cancelled, ms()));
    }

    /// A pair that is offered twice gives each of its tasks once.
    a_pair_offered_twice_is_one(store, _) {
        let ids = [add(&*store, new("a")).await, add(&*store, new("a")).await];
        let offer = Offer { queue: "default".into(), name: "a".into(), allowance: 9 };
        let offers = [offer.clone(), offer].into();
        let claimed = store.claim(Claim { offers, ..claim("w", 9) }).await.unwrap().tasks;
        assert_eq!(claimed.iter().map(|t| t.record.id).collect::<Vec<_>>(), ids);
    }

    /// The answer of a repeated claim is as good as that of the first: its lease runs from then.
    a_repeated_claim_renews_the_lease(store, clock) {
        add(&*store, new("a")).await;
        store.sweep(SWEEP).await.unwrap();
        let asked = claim("w", 1);
        store.claim(asked.clone()).await.unwrap();
        pass(&*store, &clock, LEASE - Duration::from_secs(1)).await;
        assert_eq!(store.claim(asked).await.unwrap().tasks.len(), 1);
        assert_eq!(pass(&*store, &clock, LEASE - Duration::from_secs(1)).await.requeued, 0);
    }
}
