//! What is added is there, once.

use super::*;

cases! {
    /// What was added is there, with every field.
    an_added_task_can_be_read_again(store, clock) {
        let task = NewTask {
            priority: -3,
            tags: vec!["x".into(), "y".into()],
            queue: "io".into(),
            parent: Some(TaskId::new()),
            expires: Some(Duration::from_secs(60)),
            ..new("a")
        };
        let id = add(&*store, task.clone()).await;
        let r = record(&*store, id).await;
        assert_eq!((r.id, &*r.name, &*r.queue, r.priority), (task.id, "a", "io", -3));
        assert_eq!((r.status, r.attempt, r.tail, r.yields), (Status::Queued, 0, 0, 0));
        assert_eq!((r.tags, r.args, r.parent), (task.tags, task.args, task.parent));
        assert_eq!((r.created_at, r.updated_at), (clock.now(), clock.now()));
        assert_eq!(r.expires_at, Some(clock.now() + Duration::from_secs(60)));
        assert_eq!((r.started_at, r.completed_at, r.due_at), (None, None, None));
        assert_eq!(store.get(vec![TaskId::new()]).await.unwrap(), [None]);
        assert!(events(&*store, id).await.is_empty());
    }

    /// The trace of a task is what it was added with, for whoever reads or claims it, in each attempt.
    a_trace_is_kept_as_it_was_given(store, _) {
        let trace = TraceContext::new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        let trace = Some(trace.with_state("vendor=\"1\",other=a b").unwrap());
        let id = add(&*store, NewTask { trace: trace.clone(), ..new("a") }).await;
        let bare = add(&*store, NewTask { priority: 1, ..new("a") }).await;
        assert_eq!((record(&*store, id).await.trace, record(&*store, bare).await.trace), (trace.clone(), None));
        for _ in 0..2 {
            let task = claim_one(&*store).await;
            assert_eq!((task.record.id, &task.record.trace), (id, &trace));
            store.release(vec![lease(&task)]).await.unwrap();
        }
        let task = claim_one(&*store).await;
        append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        let listed = store.list(List { limit: 9, ..List::default() }).await.unwrap().tasks;
        assert_eq!(listed.into_iter().map(|task| task.trace).collect::<Vec<_>>(), [None, trace]);
    }

    /// An id that is stored already answers that task.
    adding_again_adds_nothing(store, _) {
        let task = new("a");
        assert_eq!(store.add(vec![task.clone()]).await.unwrap(), [Added { id: task.id, existed: false }]);
        assert_eq!(store.add(vec![task.clone()]).await.unwrap(), [Added { id: task.id, existed: true }]);
        assert_eq!(store.claim(claim("w", 9)).await.unwrap().tasks.len(), 1);
        assert!(store.add(vec![task.clone()]).await.unwrap()[0].existed);
        assert_eq!(store.list(List { limit: 9, ..List::default() }).await.unwrap().tasks.len(), 1);
    }

    /// All of a batch or none of it.
    a_batch_with_a_conflict_adds_nothing(store, _) {
        let key = |name: &str| NewTask { idempotency_key: Some("k".into()), ..new(name) };
        add(&*store, key("a")).await;
        let error = store.add(vec![new("a"), key("b"), new("a")]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let other_args = NewTask { args: Json::null(), ..key("a") };
        assert_eq!(store.add(vec![other_args]).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(store.list(List { limit: 9, ..List::default() }).await.unwrap().tasks.len(), 1);
    }

    /// One task per idempotency key, also under 100 adds at once.
    an_idempotency_key_is_used_once_under_100_adds(store, _) {
        let adds = (0..100).map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { add(&*store, NewTask { idempotency_key: Some("k".into()), ..new("a") }).await })
        });
        let ids: BTreeSet<_> = futures::future::join_all(adds).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(ids.len(), 1);
        // Also after the end.
        let task = claim_one(&*store).await;
        append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        let again = NewTask { idempotency_key: Some("k".into()), ..new("a") };
        assert_eq!(add(&*store, again).await, task.record.id);
    }

    /// One unfinished task per name and unique key.
    a_unique_key_holds_while_the_task_does(store, _) {
        let unique = |name: &str| NewTask { unique: Some("k".into()), ..new(name) };
        let first = add(&*store, unique("a")).await;
        assert_eq!(add(&*store, unique("a")).await, first);
        assert_ne!(add(&*store, unique("b")).await, first);
        let task = claim_one(&*store).await;
        assert_eq!(task.record.id, first);
        assert_eq!(add(&*store, unique("a")).await, first);
        append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        assert_ne!(add(&*store, unique("a")).await, first);
    }

    /// Stored, and not run before it is started.
    a_held_task_waits_for_start(store, clock) {
        let held = add(&*store, NewTask { held: true, ..new("a") }).await;
        let due = Due::In(Duration::from_secs(5));
        let delayed = add(&*store, NewTask { held: true, due, ..new("a") }).await;
        clock.advance(Duration::from_secs(1));
        assert!(store.claim(claim("w", 9)).await.unwrap().tasks.is_empty());
        let answers = store.start(vec![held, delayed, TaskId::new()]).await.unwrap();
        assert_eq!(answers, [Some(Status::Queued), Some(Status::Delayed), None]);
        assert_eq!(claim_one(&*store).await.record.id, held);
        assert_eq!(store.start(vec![held]).await.unwrap(), [Some(Status::Running)]);
    }

    /// And lets nothing of the second be seen.
    an_id_twice_in_a_batch_is_one_task(store, _) {
        let task = new("a");
        let twice = vec![task.clone(), new("b"), NewTask { priority: 7, ..task.clone() }];
        let existed: Vec<_> = store.add(twice).await.unwrap().iter().map(|added| added.existed).collect();
        assert_eq!(existed, [false, false, true]);
        assert_eq!(record(&*store, task.id).await.priority, 0);
        assert_eq!(store.list(List { limit: 9, ..List::default() }).await.unwrap().tasks.len(), 2);
    }

    /// As if they had been added one after the other.
    a_key_twice_in_a_batch_is_one_task(store, _) {
        let key = |name: &str| NewTask { idempotency_key: Some("k".into()), ..new(name) };
        let error = store.add(vec![key("a"), key("b")]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let unique = || NewTask { unique: Some("u".into()), ..new("a") };
        let added = store.add(vec![key("a"), key("a"), unique(), unique()]).await.unwrap();
        assert_eq!(added.iter().map(|a| a.existed).collect::<Vec<_>>(), [false, true, false, true]);
        assert_eq!((added[0].id, added[2].id), (added[1].id, added[3].id));
        assert_eq!(store.list(List { limit: 9, ..List::default() }).await.unwrap().tasks.len(), 2);
    }

    /// However many add it at once.
    a_unique_key_holds_under_50_adds(store, _) {
        let adds = (0..50).map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { add(&*store, NewTask { unique: Some("k".into()), ..new("a") }).await })
        });
        let ids: BTreeSet<_> = futures::future::join_all(adds).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(ids.len(), 1);
        assert_eq!(store.list(List { limit: 99, ..List::default() }).await.unwrap().tasks.len(), 1);
    }

    /// A key is its bytes: case, blanks and signs count; a unique one is per name.
    keys_that_look_alike_are_others(store, _) {
        let keys = ["k", "K", " k", "k ", "k%", "k_", "k\\", "k'", "", "\u{e9}", "e\u{301}"];
        let mut ids = BTreeSet::new();
        for key in keys {
            ids.insert(add(&*store, NewTask { idempotency_key: Some(key.into()), ..new("a") }).await);
            ids.insert(add(&*store, NewTask { unique: Some(key.into()), ..new("a") }).await);
            ids.insert(add(&*store, NewTask { unique: Some(key.into()), ..new("A") }).await);
        }
        assert_eq!(ids.len(), keys.len() * 3);
    }

    /// 1,000 tasks in one call, in the order in which they were given.
    a_large_batch_is_added_in_order(store, _) {
        let batch: Vec<_> = (0..1_000).map(|_| new("a")).collect();
        let ids: Vec<_> = batch.iter().map(|task| task.id).collect();
        let added = store.add(batch).await.unwrap();
        assert_eq!(added.iter().map(|a| a.id).collect::<Vec<_>>(), ids);
        assert!(added.iter().all(|a| !a.existed));
        let claimed = store.claim(claim("w", 2_000)).await.unwrap().tasks;
        assert_eq!(claimed.iter().map(|t| t.record.id).collect::<Vec<_>>(), ids);
        let records = store.get(ids.clone()).await.unwrap();
        assert_eq!(records.into_iter().map(|r| r.unwrap().id).collect::<Vec<_>>(), ids);
    }

    /// Nothing asked, nothing answered.
    an_empty_batch_is_answered_empty(store, _) {
        add(&*store, new("a")).await;
        assert_eq!(store.add(Vec::new()).await.unwrap(), []);
        assert_eq!(store.append(Vec::new()).await.unwrap(), []);
        assert_eq!(store.extend(Vec::new(), LEASE).await.unwrap(), []);
        assert_eq!(store.start(Vec::new()).await.unwrap(), []);
        assert_eq!(store.get(Vec::new()).await.unwrap(), []);
        store.release(Vec::new()).await.unwrap();
        let nothing = Claim { offers: Arc::new([]), ..claim("w", 9) };
        assert_eq!(store.claim(nothing).await.unwrap(), Claimed::default());
        assert_eq!(claim_one(&*store).await.record.attempt, 1);
    }

    /// Told of each, in its place; what there is beside them is done.
    unknown_ids_are_told(store, _) {
        add(&*store, new("a")).await;
        let held = add(&*store, NewTask { held: true, ..new("a") }).await;
        let (task, id) = (claim_one(&*store).await, TaskId::new());
        let there = task.record.id;
        let found = store.get(vec![id, there, id]).await.unwrap();
        assert_eq!(found.iter().map(|r| r.as_ref().map(|r| r.id)).collect::<Vec<_>>(), [None, Some(there), None]);
        assert_eq!(store.start(vec![id, held]).await.unwrap(), [None, Some(Status::Queued)]);
        let unknown = Lease { id, epoch: task.record.epoch };
        let extended = store.extend(vec![unknown, lease(&task)], LEASE).await.unwrap();
        assert_eq!(extended, [Extended::Fenced, Extended::Held]);
        let mine = append(&task, 0, Outcome::Running, |d| d.yielded(0, 1, b"1"));
        let answers = store.append(vec![Append { id, ..mine.clone() }, mine]).await.unwrap();
        assert_eq!(answers, [Appended::Fenced, Appended::Stored { tail: 1, cancel: None }]);
        assert_eq!(store.cancel(id, "why".into()).await.unwrap_err().kind(), ErrorKind::NotFound);
        for what in [What::Events, What::YieldHashes, What::EventHashes] {
            let read = Read { id, from_seq: 1, limit: 9, bytes_max: usize::MAX, what };
            assert_eq!(store.read(read).await.unwrap_err().kind(), ErrorKind::NotFound);
        }
        let children = List { parent: Some(id), limit: 9, ..List::default() };
        assert_eq!(store.list(children).await.unwrap(), Listed::default());
        store.release(vec![unknown, lease(&task)]).await.unwrap();
        assert_eq!(record(&*store, there).await.status, Status::Queued);
    }

    /// The key is the task's as long as there is a row, also when retention took the arguments: the same again is
    /// answered with the task, others are refused.
    a_key_outlives_the_log(store, clock) {
        let keyed = || NewTask { idempotency_key: Some("k".into()), ..new("a") };
        let id = add(&*store, keyed()).await;
        store.cancel(id, "why".into()).await.unwrap();
        clock.advance(LEASE);
        let keep = Prune { age: LEASE, ended_max: None, bytes_max: None, max: 9 };
        assert_eq!(store.prune(keep).await.unwrap(), Pruned { logs: 1, rows: 0, more: false });
        assert_eq!(store.add(vec![keyed()]).await.unwrap(), [Added { id, existed: true }]);
        let other = NewTask { args: Json::null(), ..keyed() };
        assert_eq!(store.add(vec![other]).await.unwrap_err().kind(), ErrorKind::Conflict);
    }

    /// An id that is stored answers its task, whatever became of the key that it came with.
    an_id_answers_before_its_key(store, _) {
        add(&*store, NewTask { idempotency_key: Some("k".into()), ..new("b") }).await;
        let task = new("a");
        add(&*store, task.clone()).await;
        let again = NewTask { idempotency_key: Some("k".into()), ..task.clone() };
        assert_eq!(store.add(vec![again]).await.unwrap(), [Added { id: task.id, existed: true }]);
    }

    /// Also before a unique key that is another one's by now: a repeat is answered with what it asked for.
    an_id_answers_before_its_unique_key(store, _) {
        let task = NewTask { unique: Some("u".into()), ..new("a") };
        add(&*store, task.clone()).await;
        store.cancel(task.id, "why".into()).await.unwrap();
        add(&*store, NewTask { unique: Some("u".into()), ..new("a") }).await;
        assert_eq!(store.add(vec![task.clone()]).await.unwrap(), [Added { id: task.id, existed: true }]);
    }
}
