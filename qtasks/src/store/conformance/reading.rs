//! Logs, lists and counts.

use super::*;

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
                let slice = store.read(Read { id, from_seq, limit, what: What::Events }).await.unwrap();
                assert_eq!((slice.tail, slice.ended), (251, true));
                let page: Vec<_> = slice.events.iter().flat_map(|b| b.iter().map(|e| e.seq).collect::<Vec<_>>()).collect();
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
        let read = Read { id: TaskId::new(), from_seq: 1, limit: 1, what: What::Events };
        assert_eq!(store.read(read).await.unwrap_err().kind(), ErrorKind::NotFound);
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
            let slice = store.read(Read { id, from_seq, limit: 2, what: What::YieldHashes }).await.unwrap();
            assert!(slice.events.is_empty() && slice.hashes.len() <= 2);
            found.extend(slice.hashes.iter().map(|h| (h.index, h.hash)));
            if slice.next_seq > slice.tail {
                break;
            }
            from_seq = slice.next_seq;
        }
        assert_eq!(found, [(0, 10), (1, 11), (2, 12), (3, 13), (4, 24)]);
        let slice = store.read(Read { id, from_seq: 1, limit: 9, what: What::EventHashes }).await.unwrap();
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
        let list = |filter: List| {
            let store = Arc::clone(&store);
            async move {
                let (mut found, mut cursor) = (Vec::new(), None);
                loop {
                    let page = store.list(List { cursor, limit: 3, ..filter.clone() }).await.unwrap();
                    assert!(page.tasks.len() <= 3);
                    found.extend(page.tasks.iter().map(|t| t.id));
                    cursor = page.next;
                    if cursor.is_none() {
                        return found;
                    }
                }
            }
        };
        let pick = |of: &[usize]| of.iter().map(|i| ids[*i]).collect::<Vec<_>>();
        assert_eq!(list(List::default()).await, pick(&[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]));
        assert_eq!(list(List { tag: Some("even".into()), ..List::default() }).await, pick(&[8, 6, 4, 2, 0]));
        assert_eq!(list(List { name: Some("a".into()), ..List::default() }).await, pick(&[9, 6, 3, 0]));
        assert_eq!(list(List { queue: Some("io".into()), ..List::default() }).await, pick(&[9, 8, 7, 6, 5]));
        assert_eq!(list(List { parent: Some(ids[0]), ..List::default() }).await, pick(&[9, 8]));
        claim_one(&*store).await;
        assert_eq!(list(List { status: vec![Status::Running], ..List::default() }).await, pick(&[0]));
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
}
