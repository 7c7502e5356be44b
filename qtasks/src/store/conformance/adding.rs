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
}
