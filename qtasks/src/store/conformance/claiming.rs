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
        let claimers = (0..16).map(|i| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut mine = Vec::new();
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
}
