//! No more than limits leave, and nothing of a queue that is paused.

use super::*;
use crate::rate::Rate;

fn name(name: &str, concurrency: Option<u32>, rate: Option<Rate>) -> Limit {
    Limit { on: LimitOn::Name(name.into()), concurrency, rate }
}

fn queue(queue: &str, concurrency: Option<u32>, rate: Option<Rate>) -> Limit {
    Limit { on: LimitOn::Queue(queue.into()), concurrency, rate }
}

/// A claim of all pairs of two queues and two names.
fn limited(max: usize, limits: impl Into<Arc<[Limit]>>) -> Claim {
    let offer = |queue: &str, name: &str| Offer { queue: queue.into(), name: name.into(), allowance: u32::MAX };
    let offers = [("default", "a"), ("default", "b"), ("io", "a"), ("io", "b")].map(|(queue, name)| offer(queue, name));
    Claim { offers: offers.into(), limits: limits.into(), ..claim("w", max) }
}

async fn claimed(store: &dyn Store, limits: impl Into<Arc<[Limit]>>) -> Vec<ClaimedTask> {
    store.claim(limited(99, limits)).await.unwrap().tasks
}

/// Where the tasks of a claim were: `default/a io/b`.
fn places(tasks: &[ClaimedTask]) -> String {
    let place = |t: &ClaimedTask| format!("{}/{}", t.record.queue, t.record.name);
    tasks.iter().map(place).collect::<Vec<_>>().join(" ")
}

async fn add_many(store: &dyn Store, n: usize, task: NewTask) {
    store.add((0..n).map(|_| NewTask { id: TaskId::new(), ..task.clone() }).collect()).await.unwrap();
}

fn in_queue(queue: &str, name: &str) -> NewTask {
    NewTask { queue: queue.into(), ..new(name) }
}

fn pause(queue: &str, expires: Option<Duration>) -> DocPut {
    DocPut { key: format!("pause/{queue}"), if_version: None, bytes: Vec::new(), expires }
}

cases! {
    /// By what is running, however it came to run, and however it stopped.
    concurrency_is_what_is_running(store, clock) {
        add_many(&*store, 9, new("a")).await;
        store.sweep(SWEEP).await.unwrap();
        let more = async || claimed(&*store, [name("a", Some(2), None)]).await;
        let first = more().await;
        assert_eq!(first.len(), 2);
        assert!(more().await.is_empty());
        append_one(&*store, append(&first[0], 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        let second = more().await;
        assert_eq!(second.len(), 1);
        let failure = TaskFailure::new(FailureKind::Error, "no");
        let retry = append(&first[1], 0, Outcome::Retry(Duration::ZERO), |d| d.retry(0, &failure, Duration::ZERO));
        append_one(&*store, retry).await;
        let third = more().await;
        assert_eq!(third.len(), 1);
        store.release(vec![lease(&second[0])]).await.unwrap();
        let fourth = more().await;
        assert_eq!(fourth.len(), 1);
        store.cancel(fourth[0].record.id, "why".into()).await.unwrap();
        assert!(more().await.is_empty());
        append_one(&*store, append(&fourth[0], 0, Outcome::Ended, |d| d.cancelled(0, "why"))).await;
        assert_eq!(more().await.len(), 1);
        assert!(more().await.is_empty());
        // Lost with their worker: both are free.
        assert_eq!(pass(&*store, &clock, LEASE + Duration::from_secs(1)).await.requeued, 2);
        assert_eq!(more().await.len(), 2);
        assert!(more().await.is_empty());
    }

    /// What takes no slot is not counted: what it waits for may be in the same queue.
    a_limit_of_a_queue_leaves_built_ins_out(store, _) {
        add_many(&*store, 2, new("qtasks.iter")).await;
        let offers = [Offer { queue: "default".into(), name: "qtasks.iter".into(), allowance: 9 }];
        let wholes = Claim { offers: offers.into(), ..claim("w", 9) };
        assert_eq!(store.claim(wholes).await.unwrap().tasks.len(), 2);
        add_many(&*store, 2, new("a")).await;
        assert_eq!(claimed(&*store, [queue("default", Some(1), None)]).await.len(), 1);
        assert!(claimed(&*store, [queue("default", Some(1), None)]).await.is_empty());
    }

    /// Of a name in all queues.
    a_limit_of_a_name_counts_all_queues(store, _) {
        for queue in ["default", "io"] {
            add_many(&*store, 3, in_queue(queue, "a")).await;
            add_many(&*store, 1, in_queue(queue, "b")).await;
        }
        let limits = [name("a", Some(4), None)];
        let tasks = claimed(&*store, limits.clone()).await;
        assert_eq!(places(&tasks), "default/a default/a default/a default/b io/a io/b");
        assert!(claimed(&*store, limits.clone()).await.is_empty());
        append_one(&*store, append(&tasks[0], 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        assert_eq!(places(&claimed(&*store, limits).await), "io/a");
    }

    /// Of a queue under all names.
    a_limit_of_a_queue_counts_all_names(store, _) {
        for name in ["a", "b"] {
            add_many(&*store, 2, in_queue("io", name)).await;
            add_many(&*store, 1, in_queue("default", name)).await;
        }
        let limits = [queue("io", Some(3), None)];
        let tasks = claimed(&*store, limits.clone()).await;
        assert_eq!(places(&tasks), "io/a io/a default/a io/b default/b");
        assert!(claimed(&*store, limits.clone()).await.is_empty());
        store.release(vec![lease(&tasks[0])]).await.unwrap();
        assert_eq!(places(&claimed(&*store, limits).await), "io/a");
    }

    /// A task needs room under each.
    limits_of_name_and_queue_hold_at_once(store, _) {
        for queue in ["default", "io"] {
            add_many(&*store, 3, in_queue(queue, "a")).await;
            add_many(&*store, 3, in_queue(queue, "b")).await;
        }
        let limits = [name("a", Some(2), None), queue("default", Some(4), None), queue("io", Some(1), None)];
        let tasks = claimed(&*store, limits.clone()).await;
        assert_eq!(places(&tasks), "default/a default/a default/b default/b io/b");
        store.release(vec![lease(&tasks[4])]).await.unwrap();
        store.release(vec![lease(&tasks[0])]).await.unwrap();
        // Of `io` one, whichever comes first; of `default` one.
        assert_eq!(places(&claimed(&*store, limits).await), "default/a io/b");
    }

    /// However many there are, and however urgent.
    a_limited_name_hides_no_other(store, _) {
        add_many(&*store, 1_000, NewTask { priority: -5, ..new("a") }).await;
        add_many(&*store, 3, new("b")).await;
        let limits = [name("a", Some(1), None)];
        let first = store.claim(limited(3, limits.clone())).await.unwrap().tasks;
        assert_eq!(places(&first), "default/a default/b default/b");
        assert_eq!(places(&store.claim(limited(3, limits)).await.unwrap().tasks), "default/b");
        let rate = [name("a", None, Some(Rate::per_hour(2)))];
        add_many(&*store, 3, new("b")).await;
        assert_eq!(places(&store.claim(limited(3, rate.clone())).await.unwrap().tasks), "default/a default/b default/b");
        assert_eq!(places(&store.claim(limited(3, rate)).await.unwrap().tasks), "default/b");
    }

    /// A burst, then one by one, and a claim tells when the next may start.
    a_rate_is_kept(store, clock) {
        add_many(&*store, 20, new("a")).await;
        let ask = async |max| {
            let claimed = store.claim(limited(max, [name("a", None, Some(Rate::per_second(10).burst(3)))])).await.unwrap();
            (claimed.tasks.len(), claimed.next_due.map(|due| due.as_millis()))
        };
        assert_eq!(ask(1).await, (1, None));
        assert_eq!(ask(99).await, (2, Some(100)));
        assert_eq!(ask(99).await, (0, Some(100)));
        clock.advance(Duration::from_millis(99));
        assert_eq!(ask(99).await, (0, Some(1)));
        clock.advance(Duration::from_millis(1));
        assert_eq!(ask(99).await, (1, Some(100)));
        clock.advance(Duration::from_millis(250));
        assert_eq!(ask(99).await, (2, Some(50)));
        // No more at once after a rest, however long; nor when a sweep has tidied up.
        clock.advance(Duration::from_secs(86_400));
        assert_eq!(ask(99).await, (3, Some(100)));
        store.sweep(SWEEP).await.unwrap();
        assert_eq!(ask(99).await, (0, Some(100)));
        clock.advance(Duration::from_secs(60));
        store.sweep(SWEEP).await.unwrap();
        assert_eq!(ask(99).await, (3, Some(100)));
    }

    /// What is lost or fails has started all the same.
    every_attempt_counts_for_a_rate(store, _) {
        add_many(&*store, 1, new("a")).await;
        let limits = [queue("default", None, Some(Rate::per_second(1)))];
        let first = claimed(&*store, limits.clone()).await;
        store.release(vec![lease(&first[0])]).await.unwrap();
        assert!(claimed(&*store, limits).await.is_empty());
    }

    /// Whichever is sooner: a delay that is over, or a rate that lets one go that is offered and ready.
    the_next_is_due_when_delay_or_rate_is(store, clock) {
        let (slow, fast) = (Rate::per_minute(6), Rate::per_second(1));
        let limits = [name("a", None, Some(slow)), name("b", None, Some(fast)), queue("io", Some(1), Some(slow))];
        let due = async || store.claim(limited(99, limits.clone())).await.unwrap().next_due.map(|due| due.as_secs());
        add_many(&*store, 2, new("a")).await;
        assert_eq!(due().await, Some(10));
        add_many(&*store, 1, NewTask { due: Due::In(Duration::from_secs(20)), ..new("b") }).await;
        assert_eq!(due().await, Some(10));
        add_many(&*store, 1, NewTask { due: Due::In(Duration::from_secs(5)), ..new("b") }).await;
        assert_eq!(due().await, Some(5));
        clock.advance(Duration::from_secs(1));
        add_many(&*store, 2, new("b")).await;
        assert_eq!(due().await, Some(1));
        // One that waits for an end is not waited for by the clock: room for it comes with the end.
        add_many(&*store, 3, in_queue("io", "b")).await;
        clock.advance(Duration::from_secs(1));
        assert_eq!(due().await, Some(1));
        let offers = [Offer { queue: "io".into(), name: "b".into(), allowance: 9 }];
        let io = Claim { offers: offers.into(), ..limited(99, [queue("io", Some(1), Some(slow))]) };
        for taken in [1, 0] {
            let claimed = store.claim(Claim { token: 1 << 40 | taken, ..io.clone() }).await.unwrap();
            assert_eq!((claimed.tasks.len() as u64, claimed.next_due), (taken, Some(Duration::from_secs(3))));
        }
    }

    /// The same answer, and no more room taken.
    a_repeated_claim_starts_nothing_more(store, clock) {
        add_many(&*store, 9, new("a")).await;
        let limits = [name("a", Some(3), Some(Rate::per_second(1).burst(2)))];
        let asked = limited(1, limits.clone());
        let first = store.claim(asked.clone()).await.unwrap();
        assert_eq!(first.tasks.len(), 1);
        for _ in 0..3 {
            assert_eq!(store.claim(asked.clone()).await.unwrap(), first);
        }
        let asked = limited(9, limits.clone());
        let second = store.claim(asked.clone()).await.unwrap();
        assert_eq!((second.tasks.len(), second.next_due), (1, Some(Duration::from_secs(1))));
        assert_eq!(store.claim(asked).await.unwrap(), second);
        clock.advance(Duration::from_secs(1));
        assert_eq!(claimed(&*store, limits.clone()).await.len(), 1);
        assert!(claimed(&*store, limits).await.is_empty());
    }

    /// They hold for the claims that have them, together with what others run.
    limits_are_those_of_the_claim(store, _) {
        add_many(&*store, 9, new("a")).await;
        assert_eq!(store.claim(limited(3, [])).await.unwrap().tasks.len(), 3);
        assert!(claimed(&*store, [name("a", Some(3), None)]).await.is_empty());
        assert_eq!(claimed(&*store, [name("a", Some(5), None)]).await.len(), 2);
        assert_eq!(claimed(&*store, [name("b", Some(0), None), queue("io", Some(0), None)]).await.len(), 4);
    }

    /// However many claim at once.
    many_claimers_share_a_limit(store, _) {
        add_many(&*store, 50, new("a")).await;
        add_many(&*store, 50, new("b")).await;
        let limits: Arc<[Limit]> = [name("a", Some(3), None), name("b", None, Some(Rate::per_hour(50).burst(4)))].into();
        for round in 0..5 {
            let asked = |worker| Claim { worker: format!("w{worker}"), ..limited(5, Arc::clone(&limits)) };
            let claims: Vec<_> = (0..20).map(|worker| store.claim(asked(worker))).collect();
            let answers = futures::future::join_all(claims).await;
            let tasks: Vec<_> = answers.into_iter().flat_map(|claimed| claimed.unwrap().tasks).collect();
            let of = |name: &str| tasks.iter().filter(|t| t.record.name == name).count();
            assert_eq!((of("a"), of("b")), (3, if round == 0 { 4 } else { 0 }), "in round {round}");
            store.release(tasks.iter().map(lease).collect()).await.unwrap();
        }
    }

    /// A claim that leaves tasks wakes another worker for them if they may start, and only then.
    what_has_no_room_wakes_nobody(store, _) {
        let interest = Arc::new(Interest::default());
        interest.serve([("default".to_owned(), "a".to_owned())]);
        let mut hints = store.watch(Arc::clone(&interest)).await.unwrap();
        add_many(&*store, 4, new("a")).await;
        for (max, hint) in [(1, Hint::Look), (3, Hint::Ready { queue: "default".into(), name: "a".into() })] {
            interest.rest();
            assert_eq!(store.claim(limited(1, [name("a", Some(max), None)])).await.unwrap().tasks.len(), 1);
            interest.work();
            store.doc_put(pause("io", None)).await.unwrap().unwrap();
            let first = tokio::time::timeout(LEASE, hints.next()).await.expect("a hint").expect("hints go on");
            assert_eq!(first, hint, "with room for {max}");
        }
    }

    /// What is running goes on; nothing of it starts before it is resumed, or the document is over.
    a_paused_queue_is_left_alone(store, clock) {
        add_many(&*store, 2, in_queue("io", "a")).await;
        let first = store.claim(limited(1, [])).await.unwrap().tasks;
        store.doc_put(pause("io", None)).await.unwrap().unwrap();
        add_many(&*store, 1, in_queue("default", "a")).await;
        assert_eq!(places(&store.claim(limited(1, [])).await.unwrap().tasks), "default/a");
        assert_eq!(yields(&*store, &first[0], 0, 0, 2).await, 2);
        store.release(vec![lease(&first[0])]).await.unwrap();
        assert_eq!(store.claim(limited(9, [])).await.unwrap(), Claimed::default());
        // Over at once: resumed.
        store.doc_put(pause("io", Some(Duration::ZERO))).await.unwrap().unwrap();
        let again = claimed(&*store, []).await;
        assert_eq!(places(&again), "io/a io/a");
        store.release(again.iter().map(lease).collect()).await.unwrap();
        store.doc_put(pause("io", Some(LEASE))).await.unwrap().unwrap();
        store.doc_put(pause("i", None)).await.unwrap().unwrap();
        store.doc_put(pause("io/", None)).await.unwrap().unwrap();
        assert!(claimed(&*store, []).await.is_empty());
        clock.advance(LEASE);
        assert_eq!(claimed(&*store, []).await.len(), 2);
    }

    /// Pausing and resuming, so that workers look.
    a_pause_is_told_to_everyone(store, _) {
        let interest = Arc::new(Interest::default());
        let mut hints = store.watch(Arc::clone(&interest)).await.unwrap();
        for expires in [None, Some(Duration::ZERO)] {
            store.doc_put(pause("io", expires)).await.unwrap().unwrap();
            let hint = tokio::time::timeout(LEASE, hints.next()).await.expect("a hint").expect("hints go on");
            assert_eq!(hint, Hint::Look);
        }
    }
}
