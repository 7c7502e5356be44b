//! Logs, lists and counts.

use super::*;

/// What matches a filter, in pages of `limit`.
async fn listed(store: &dyn Store, filter: List, limit: usize) -> Vec<TaskId> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.list(List { cursor, limit, ..filter.clone() }).await.expect("listed");
        assert!(page.tasks.len() <= limit);
        found.extend(page.tasks.iter().map(|t| t.id));
        cursor = page.next;
        if cursor.is_none() {
            return found;
        }
    }
}

cases! {
    /// In order and without overlap, whatever the size of the pages.
    reading_pages_through_a_log(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let mut tail = 0;
        for (from, to) in [(0, 100), (100, 101), (101, 250)] {
            tail = yields(&*store, &task, tail, from, to).await;
        }
        append_one(&*store, append(&task, tail, Outcome::Ended, |d| d.completed(250, b""))).await;
        for limit in [1, 7, 100, 1000] {
            let (mut seqs, mut from_seq) = (Vec::new(), 0);
            loop {
                let slice = store.read(Read { id, from_seq, limit, bytes_max: usize::MAX, what: What::Events }).await.unwrap();
                assert_eq!((slice.tail, slice.ended), (251, true));
                let seqs_of = |b: &EventBatch| b.iter().map(|e| e.seq).collect::<Vec<_>>();
                let page: Vec<_> = slice.events.iter().flat_map(seqs_of).collect();
                assert!(page.len() <= limit);
                if page.is_empty() {
                    break;
                }
                assert_eq!(slice.next_seq, page[page.len() - 1] + 1);
                from_seq = slice.next_seq;
                seqs.extend(page);
            }
            assert_eq!(seqs, (1..=251).collect::<Vec<_>>(), "pages of {limit}");
        }
        let read = Read { id: TaskId::new(), from_seq: 1, limit: 1, bytes_max: usize::MAX, what: What::Events };
        assert_eq!(store.read(read).await.unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// No page has more bytes of data than were asked for, or one event; none is left out, and a batch may be cut.
    reading_stops_at_a_number_of_bytes(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let value = |i: u64| vec![b'1'; if i == 40 { 9_000 } else { 100 + usize::try_from(i).unwrap() }];
        let mut tail = 0;
        for (from, to) in [(0, 60), (60, 61), (61, 62), (62, 63), (63, 90)] {
            let write = |d: &mut DraftBuilder| (from..to).for_each(|i| d.yielded(i, i, &value(i)));
            append_one(&*store, append(&task, tail, Outcome::Running, write)).await;
            tail = to;
        }
        append_one(&*store, append(&task, tail, Outcome::Ended, |d| d.completed(90, b""))).await;
        for (limit, bytes_max) in [(100, 0), (100, 1), (100, 250), (7, 4_000), (100, 4_000), (100, 20_000), (100, usize::MAX)] {
            let (mut seq, mut pages) = (0, 0);
            while seq <= 90 {
                let read = Read { id, from_seq: seq + 1, limit, bytes_max, what: What::Events };
                let slice = store.read(read).await.unwrap();
                let (mut events, mut bytes) = (0, 0);
                for event in slice.events.iter().flat_map(EventBatch::iter) {
                    assert_eq!(event.seq, seq + 1, "{read:?}");
                    if event.code == EventCode::Yield {
                        assert!(event.data == value(event.index), "{read:?}");
                    }
                    (seq, events, bytes) = (event.seq, events + 1, bytes + event.data.len());
                }
                assert!(events > 0 && events <= limit, "{events} events of {read:?}");
                assert!(events == 1 || bytes <= bytes_max, "{events} events with {bytes} bytes of {read:?}");
                let data_bytes: usize = slice.events.iter().map(EventBatch::data_bytes).sum();
                assert_eq!((data_bytes, slice.next_seq, slice.tail), (bytes, seq + 1, 91), "{read:?}");
                pages += 1;
            }
            // The data is 22 KB. Half a page is the least that one has beside the large value.
            assert!(bytes_max < 4_000 || pages <= 91 / limit + 22_000 / (bytes_max / 2) + 3, "{pages} pages of {bytes_max} bytes");
        }
        let read = Read { id, from_seq: 1, limit: 100, bytes_max: 0, what: What::YieldHashes };
        assert_eq!(store.read(read).await.unwrap().hashes.len(), 90, "hashes have no data");
    }

    /// Without the void ones, in pages.
    hashes_are_those_that_hold(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let write = |d: &mut DraftBuilder| {
            d.custom(0, 70, "x", &Json::null());
            (0..6).for_each(|i| d.yielded(i, 10 + i, b"1"));
            d.custom(6, 71, "x", &Json::null());
            d.rewind(4);
            d.custom(4, 72, "x", &Json::null());
            d.yielded(4, 24, b"1");
        };
        append_one(&*store, append(&task, 0, Outcome::Running, write)).await;
        let mut found = Vec::new();
        let mut from_seq = 1;
        loop {
            let slice = store.read(Read { id, from_seq, limit: 2, bytes_max: usize::MAX, what: What::YieldHashes }).await.unwrap();
            assert!(slice.events.is_empty() && slice.hashes.len() <= 2);
            found.extend(slice.hashes.iter().map(|h| (h.index, h.hash)));
            if slice.next_seq > slice.tail {
                break;
            }
            from_seq = slice.next_seq;
        }
        assert_eq!(found, [(0, 10), (1, 11), (2, 12), (3, 13), (4, 24)]);
        let slice = store.read(Read { id, from_seq: 1, limit: 9, bytes_max: usize::MAX, what: What::EventHashes }).await.unwrap();
        assert_eq!(slice.hashes.iter().map(|h| (h.index, h.hash)).collect::<Vec<_>>(), [(0, 70), (4, 72)]);
    }

    /// The newest first, by any filter, page by page.
    lists_page_through_what_matches(store, _) {
        let mut ids = Vec::new();
        for i in 0..10 {
            let tags = if i % 2 == 0 { vec!["even".to_owned()] } else { Vec::new() };
            let queue = if i < 5 { "default" } else { "io" }.to_owned();
            let name = if i % 3 == 0 { "a" } else { "b" };
            ids.push(add(&*store, NewTask { tags, queue, parent: (i > 7).then(|| ids[0]), ..new(name) }).await);
        }
        let pick = |of: &[usize]| of.iter().map(|i| ids[*i]).collect::<Vec<_>>();
        assert_eq!(listed(&*store, List::default(), 3).await, pick(&[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]));
        let even = List { tag: Some("even".into()), ..List::default() };
        assert_eq!(listed(&*store, even, 3).await, pick(&[8, 6, 4, 2, 0]));
        assert_eq!(listed(&*store, List { name: Some("a".into()), ..List::default() }, 3).await, pick(&[9, 6, 3, 0]));
        let io = List { queue: Some("io".into()), ..List::default() };
        assert_eq!(listed(&*store, io, 3).await, pick(&[9, 8, 7, 6, 5]));
        assert_eq!(listed(&*store, List { parent: Some(ids[0]), ..List::default() }, 3).await, pick(&[9, 8]));
        claim_one(&*store).await;
        assert_eq!(listed(&*store, List { status: vec![Status::Running], ..List::default() }, 3).await, pick(&[0]));
        let bad = List { cursor: Some("nonsense".into()), limit: 1, ..List::default() };
        assert_eq!(store.list(bad).await.unwrap_err().kind(), ErrorKind::Invalid);
    }

    /// By queue and status.
    stats_count_by_queue_and_status(store, _) {
        for queue in ["default", "default", "io"] {
            add(&*store, NewTask { queue: queue.into(), ..new("a") }).await;
        }
        claim_one(&*store).await;
        let stats = store.stats().await.unwrap();
        assert_eq!(stats.queues["default"], [(Status::Queued, 1), (Status::Running, 1)].into());
        assert_eq!(stats.queues["io"], [(Status::Queued, 1)].into());
    }

    /// Empty, and tells where the log ends, and whether that is the end.
    reading_past_the_tail_is_empty(store, _) {
        let id = add(&*store, new("a")).await;
        let look = async |from_seq: u64, limit: usize| {
            let slice = store.read(Read { id, from_seq, limit, bytes_max: usize::MAX, what: What::Events }).await.unwrap();
            assert!(slice.events.iter().all(EventBatch::is_empty), "from {from_seq}: {slice:?}");
            (slice.next_seq, slice.tail, slice.ended)
        };
        assert_eq!(look(1, 9).await, (1, 0, false));
        let task = claim_one(&*store).await;
        yields(&*store, &task, 0, 0, 2).await;
        assert_eq!(look(3, 9).await, (3, 2, false));
        assert_eq!(look(2, 0).await, (2, 2, false), "there was no room");
        append_one(&*store, append(&task, 2, Outcome::Ended, |d| d.completed(2, b""))).await;
        assert_eq!(look(4, 9).await, (4, 3, true));
        let (_, tail, ended) = look(100, 9).await;
        assert_eq!((tail, ended), (3, true));
    }

    /// All that is asked for at once.
    lists_match_every_word_of_a_filter(store, _) {
        let parents = [TaskId::new(), TaskId::new()];
        let mut all = Vec::new();
        for i in 0..32_usize {
            let of = |bit: usize, words: [&str; 2]| words[i >> bit & 1].to_owned();
            let task = NewTask {
                queue: of(0, ["default", "io"]),
                tags: vec![of(1, ["x", "y"]), "all".into(), of(1, ["x", "y"])],
                parent: Some(parents[i >> 2 & 1]),
                held: i >> 3 & 1 == 1,
                ..new(&of(4, ["a", "b"]))
            };
            add(&*store, task.clone()).await;
            all.push(task);
        }
        all.reverse();
        for i in 0..32_usize {
            let on = |bit: usize| i >> bit & 1 == 1;
            let filter = List {
                queue: on(0).then(|| "io".to_owned()),
                tag: on(1).then(|| "y".to_owned()),
                parent: on(2).then_some(parents[1]),
                status: if on(3) { vec![Status::Held, Status::Failed] } else { Vec::new() },
                name: on(4).then(|| "b".to_owned()),
                ..List::default()
            };
            let wanted: Vec<_> = all
                .iter()
                .filter(|t| {
                    (!on(0) || t.queue == "io")
                        && (!on(1) || t.tags.contains(&"y".to_owned()))
                        && (!on(2) || t.parent == Some(parents[1]))
                        && (!on(3) || t.held)
                        && (!on(4) || t.name == "b")
                })
                .map(|t| t.id)
                .collect();
            assert_eq!(listed(&*store, filter.clone(), 3).await, wanted, "{filter:?}");
        }
    }

    /// A word of a filter is a whole word: no pattern, no part, and in its case.
    lists_match_whole_words(store, _) {
        let tags = ["even", "Even", "ev_n", "ev%", "ev", "e\"v", "a,b", "a", "\u{e9}ven"];
        let mut ids = Vec::new();
        for tag in tags {
            ids.push(add(&*store, NewTask { tags: vec![tag.into()], queue: tag.into(), ..new(tag) }).await);
        }
        for (tag, id) in tags.into_iter().zip(ids) {
            let by_tag = List { tag: Some(tag.into()), ..List::default() };
            assert_eq!(listed(&*store, by_tag, 99).await, [id], "tag {tag}");
            let by_name = List { name: Some(tag.into()), ..List::default() };
            assert_eq!(listed(&*store, by_name, 99).await, [id], "name {tag}");
            let by_queue = List { queue: Some(tag.into()), ..List::default() };
            assert_eq!(listed(&*store, by_queue, 99).await, [id], "queue {tag}");
        }
        let nothing = List { tag: Some(String::new()), ..List::default() };
        assert_eq!(listed(&*store, nothing, 99).await, []);
    }

    /// What is added, or moves, while somebody turns the pages neither shifts them nor comes twice.
    pages_hold_still_while_tasks_are_added(store, _) {
        let mut ids = Vec::new();
        for _ in 0..9 {
            ids.insert(0, add(&*store, new("a")).await);
        }
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.list(List { cursor, limit: 2, ..List::default() }).await.unwrap();
            found.extend(page.tasks.iter().map(|t| t.id));
            add(&*store, new("a")).await;
            claim_one(&*store).await;
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, ids);
    }

    /// Mended by who calls; never read as another place.
    a_cursor_of_nothing_is_invalid(store, _) {
        add(&*store, new("a")).await;
        for cursor in ["", " ", "nonsense", "1.5", "-1", "99999999999999999999999", "1; drop table tasks", "\u{661}"] {
            let bad = List { cursor: Some(cursor.into()), limit: 9, ..List::default() };
            let error = store.list(bad).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{cursor:?}");
        }
        let none = store.list(List { limit: 0, ..List::default() }).await.unwrap();
        assert!(none.tasks.is_empty());
    }

    /// In step with every way that a task goes.
    stats_follow_every_step(store, clock) {
        let count = async || {
            let stats = store.stats().await.unwrap();
            let all = stats.queues.into_values().flatten().filter(|(_, n)| *n > 0);
            all.collect::<std::collections::BTreeMap<Status, u64>>()
        };
        assert_eq!(count().await, [].into());
        store.sweep(SWEEP).await.unwrap();
        let due = Due::In(Duration::from_secs(1));
        let id = add(&*store, NewTask { held: true, due, ..new("a") }).await;
        assert_eq!(count().await, [(Status::Held, 1)].into());
        store.start(vec![id]).await.unwrap();
        assert_eq!(count().await, [(Status::Delayed, 1)].into());
        pass(&*store, &clock, Duration::from_secs(1)).await;
        assert_eq!(count().await, [(Status::Queued, 1)].into());
        let task = claim_one(&*store).await;
        assert_eq!(count().await, [(Status::Running, 1)].into());
        store.release(vec![lease(&task)]).await.unwrap();
        assert_eq!(count().await, [(Status::Queued, 1)].into());
        claim_one(&*store).await;
        pass(&*store, &clock, LEASE).await;
        assert_eq!(count().await, [(Status::Queued, 1)].into());
        let task = claim_one(&*store).await;
        let (failure, tail) = (TaskFailure::new(FailureKind::Error, "no"), task.record.tail);
        append_one(&*store, append(&task, tail, Outcome::Retry(LEASE), |d| d.retry(0, &failure, LEASE))).await;
        assert_eq!(count().await, [(Status::Delayed, 1)].into());
        store.cancel(id, "why".into()).await.unwrap();
        assert_eq!(count().await, [(Status::Cancelled, 1)].into());
        for (status, n) in [(Status::Completed, 1), (Status::Failed, 2)] {
            add(&*store, new("a")).await;
            let task = claim_one(&*store).await;
            let end = |d: &mut DraftBuilder| match status {
                Status::Completed => d.completed(0, b""),
                _ => d.failed(0, &failure),
            };
            append_one(&*store, append(&task, 0, Outcome::Ended, end)).await;
            assert_eq!(count().await.len(), n + 1);
        }
        let keep = Prune { age: LEASE, ended_max: None, bytes_max: None, max: 9 };
        clock.advance(LEASE);
        store.prune(keep).await.unwrap();
        assert_eq!(count().await.len(), 3, "the rows are there");
        clock.advance(LEASE);
        store.prune(keep).await.unwrap();
        assert_eq!(count().await, [].into());
    }
}
