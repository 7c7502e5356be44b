//! A new task takes the place of one that waits.

use super::*;

fn last(args: &str, wait: u64) -> NewTask {
    let due = if wait == 0 { Due::Now } else { Due::In(Duration::from_secs(wait)) };
    let args = Json::of(&args).expect("JSON");
    NewTask { args, due, unique: Some("k".into()), replace: true, ..new("a") }
}

async fn add_last(store: &dyn Store, task: NewTask) -> Added {
    store.add(vec![task]).await.unwrap()[0]
}

/// How many tasks there are, whatever became of them.
async fn count(store: &dyn Store) -> usize {
    store.list(List { limit: 99, ..List::default() }).await.unwrap().tasks.len()
}

async fn args(store: &dyn Store, id: TaskId) -> String {
    record(store, id).await.args.get().unwrap()
}

cases! {
    /// Its arguments and its due time; all else stays as it was added.
    the_last_arguments_are_run(store, clock) {
        let first = NewTask { tags: vec!["x".into()], priority: 3, ..last("one", 5) };
        assert_eq!(add_last(&*store, first.clone()).await, Added { id: first.id, existed: false });
        clock.advance(Duration::from_secs(3));
        let second = NewTask { tags: vec!["y".into()], queue: "io".into(), ..last("two", 5) };
        assert_eq!(add_last(&*store, second.clone()).await, Added { id: first.id, existed: true });
        let r = record(&*store, first.id).await;
        assert_eq!((r.status, r.due_at, r.updated_at), (Status::Delayed, Some(clock.now() + Duration::from_secs(5)), clock.now()));
        assert_eq!((r.tags, &*r.queue, r.priority, r.tail), (first.tags, "default", 3, 0));
        assert_eq!(store.get(vec![second.id]).await.unwrap(), [None]);
        clock.advance(Duration::from_secs(4));
        let nothing = store.claim(claim("w", 9)).await.unwrap();
        assert_eq!((nothing.tasks.len(), nothing.next_due), (0, Some(Duration::from_secs(1))));
        clock.advance(Duration::from_secs(1));
        let task = claim_one(&*store).await;
        assert_eq!((task.record.id, task.record.args.get::<String>().unwrap()), (first.id, "two".into()));
        assert_eq!(count(&*store).await, 1);
    }

    /// Whether they are large or small, before or after.
    arguments_of_any_size_are_replaced(store, _) {
        let large = "x".repeat(50_000);
        let id = add_last(&*store, last("one", 0)).await.id;
        for text in [&*large, &large[1..], "two", "three", &large] {
            assert_eq!(add_last(&*store, last(text, 0)).await.id, id);
            assert_eq!(args(&*store, id).await, text);
        }
        assert_eq!(claim_one(&*store).await.record.args.get::<String>().unwrap(), large);
    }

    /// Delayed or ready, whichever it is to be; one that becomes ready is hinted at.
    a_replaced_task_is_due_earlier_or_later(store, clock) {
        let interest = Arc::new(Interest::default());
        interest.serve([("default".to_owned(), "a".to_owned())]);
        let mut hints = store.watch(Arc::clone(&interest)).await.unwrap();
        let id = add_last(&*store, last("one", 60)).await.id;
        add(&*store, NewTask { due: Due::In(Duration::from_secs(30)), ..new("b") }).await;
        let status = async || record(&*store, id).await.status;
        let due = async || store.claim(claim("w", 9)).await.unwrap().next_due.map(|due| due.as_secs());
        assert_eq!(due().await, Some(30));
        add_last(&*store, last("two", 20)).await;
        assert_eq!((status().await, due().await), (Status::Delayed, Some(20)));
        interest.rest();
        add_last(&*store, last("three", 0)).await;
        assert_eq!(status().await, Status::Queued);
        let hint = tokio::time::timeout(LEASE, hints.next()).await.expect("a hint");
        assert_eq!(hint, Some(Hint::Ready { queue: "default".into(), name: "a".into() }));
        add_last(&*store, last("four", 40)).await;
        assert_eq!((status().await, due().await), (Status::Delayed, Some(30)));
        let stats = store.stats().await.unwrap();
        assert_eq!(stats.queues["default"].get(&Status::Delayed), Some(&2));
        assert_eq!(stats.queues["default"].get(&Status::Queued).copied().unwrap_or(0), 0);
        clock.advance(Duration::from_secs(40));
        let tasks = store.claim(claim("w", 9)).await.unwrap().tasks;
        assert_eq!(tasks.iter().map(|t| &*t.record.name).collect::<Vec<_>>(), ["b", "a"]);
    }

    /// Until it is started; then it is due as the last one says.
    a_replaced_task_stays_held(store, _) {
        let id = add_last(&*store, NewTask { held: true, ..last("one", 0) }).await.id;
        assert_eq!(add_last(&*store, last("two", 5)).await.id, id);
        assert_eq!(record(&*store, id).await.status, Status::Held);
        assert_eq!(store.start(vec![id]).await.unwrap(), [Some(Status::Delayed)]);
        assert_eq!(add_last(&*store, NewTask { held: true, ..last("three", 0) }).await.id, id);
        assert_eq!((record(&*store, id).await.status, &*args(&*store, id).await), (Status::Queued, "three"));
    }

    /// What runs, or waits for another attempt, keeps its arguments; a new task has the key.
    a_task_that_was_started_is_not_replaced(store, _) {
        let first = add_last(&*store, last("one", 0)).await.id;
        let task = claim_one(&*store).await;
        let second = add_last(&*store, last("two", 0)).await;
        assert!(!second.existed && second.id != first);
        assert_eq!((&*args(&*store, first).await, &*args(&*store, second.id).await), ("one", "two"));
        append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        // The end of the first leaves the key where it is.
        assert_eq!(add(&*store, NewTask { unique: Some("k".into()), ..new("a") }).await, second.id);
        let task = claim_one(&*store).await;
        store.release(vec![lease(&task)]).await.unwrap();
        let third = add_last(&*store, last("three", 0)).await;
        assert!(!third.existed && third.id != second.id);
        assert_eq!(add_last(&*store, last("four", 0)).await, Added { id: third.id, existed: true });
        store.cancel(third.id, "why".into()).await.unwrap();
        assert!(!add_last(&*store, last("five", 0)).await.existed);
        assert_eq!(count(&*store).await, 4);
    }

    /// It is answered as before, and the due time does not move, also when the task has run since.
    a_repeated_replacement_changes_nothing(store, clock) {
        let id = add_last(&*store, last("one", 5)).await.id;
        let second = last("two", 5);
        let answer = Added { id, existed: true };
        assert_eq!(add_last(&*store, second.clone()).await, answer);
        let before = record(&*store, id).await;
        clock.advance(Duration::from_secs(1));
        assert_eq!(add_last(&*store, second.clone()).await, answer);
        assert_eq!(record(&*store, id).await, before);
        clock.advance(Duration::from_secs(4));
        let task = claim_one(&*store).await;
        assert_eq!(add_last(&*store, second.clone()).await, answer);
        append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        assert_eq!(add_last(&*store, second.clone()).await, answer);
        assert_eq!(count(&*store).await, 1);
        // Until its row is gone.
        clock.advance(LEASE);
        let keep = Prune { age: Duration::ZERO, ended_max: None, bytes_max: None, max: 9 };
        while count(&*store).await > 0 {
            clock.advance(Duration::from_secs(1));
            store.prune(keep).await.unwrap();
        }
        assert_eq!(add_last(&*store, second.clone()).await, Added { id: second.id, existed: false });
    }

    /// From the last replacement on.
    a_replacement_renews_the_time_to_start(store, clock) {
        let task = |expires| NewTask { expires, ..last("one", 0) };
        let id = add_last(&*store, task(Some(LEASE))).await.id;
        clock.advance(LEASE / 2);
        add_last(&*store, task(Some(LEASE))).await;
        clock.advance(LEASE / 2);
        assert_eq!(store.sweep(SWEEP).await.unwrap().expired, 0);
        add_last(&*store, task(None)).await;
        clock.advance(LEASE);
        assert_eq!(store.sweep(SWEEP).await.unwrap().expired, 0);
        // And nothing of the time before is in the way of others.
        let other = add(&*store, NewTask { expires: Some(LEASE), ..new("b") }).await;
        clock.advance(LEASE);
        assert_eq!(store.sweep(Sweep { max: 1, ..SWEEP }).await.unwrap().expired, 1);
        assert_eq!(record(&*store, other).await.status, Status::Cancelled);
        add_last(&*store, task(Some(LEASE))).await;
        clock.advance(LEASE);
        assert_eq!(store.sweep(SWEEP).await.unwrap().expired, 1);
        assert_eq!(record(&*store, id).await.status, Status::Cancelled);
    }

    /// As if they had been added one after the other, also when many do so at once.
    replacements_at_once_are_one_task(store, _) {
        let added = store.add(vec![last("one", 5), last("two", 5), NewTask { unique: Some("l".into()), ..last("x", 5) }]).await.unwrap();
        assert_eq!(added.iter().map(|a| a.existed).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(args(&*store, added[0].id).await, "two");
        let adds = (0..50).map(|i| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { add_last(&*store, last(&i.to_string(), 5)).await.id })
        });
        let ids: BTreeSet<_> = futures::future::join_all(adds).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(ids, BTreeSet::from([added[0].id]));
        assert_eq!(count(&*store).await, 2);
    }
}
