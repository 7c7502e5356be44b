//! Small documents.

use super::*;

cases! {
    /// A put needs the version that its writer knows.
    documents_are_compared_and_set(store, _) {
        let put = |key: &str, if_version, bytes: &[u8]| DocPut {
            key: key.into(), if_version, bytes: bytes.to_vec(), expires: None,
        };
        assert_eq!(store.doc_get("k/1".into()).await.unwrap(), None);
        assert_eq!(store.doc_put(put("k/1", Some(3), b"x")).await.unwrap(), None);
        let first = store.doc_put(put("k/1", Some(0), b"x")).await.unwrap().unwrap();
        assert_eq!(store.doc_put(put("k/1", Some(0), b"y")).await.unwrap(), None);
        let second = store.doc_put(put("k/1", Some(first), b"y\0")).await.unwrap().unwrap();
        assert!(second > first);
        assert_eq!(store.doc_put(put("k/1", Some(first), b"z")).await.unwrap(), None);
        store.doc_put(put("k/0", None, b"0")).await.unwrap().unwrap();
        store.doc_put(put("l", None, b"0")).await.unwrap().unwrap();
        let doc = Doc { key: "k/1".into(), version: second, bytes: b"y\0".to_vec() };
        assert_eq!(store.doc_get("k/1".into()).await.unwrap().as_ref(), Some(&doc));
        let docs = store.doc_list("k/".into()).await.unwrap();
        assert_eq!(docs.iter().map(|d| &*d.key).collect::<Vec<_>>(), ["k/0", "k/1"]);
    }

    /// By themselves, by the store's clock.
    documents_expire(store, clock) {
        let expires = Some(Duration::from_secs(5));
        let put = |if_version| DocPut { key: "k".into(), if_version, bytes: b"x".to_vec(), expires };
        assert!(store.doc_put(put(Some(0))).await.unwrap().is_some());
        clock.advance(Duration::from_secs(4));
        assert!(store.doc_get("k".into()).await.unwrap().is_some());
        clock.advance(Duration::from_secs(1));
        assert_eq!(store.doc_get("k".into()).await.unwrap(), None);
        assert!(store.doc_list(String::new()).await.unwrap().is_empty());
        assert!(store.doc_put(put(Some(0))).await.unwrap().is_some());
    }

    /// Of 50 that put on the same version, whatever they put.
    one_of_50_puts_wins(store, _) {
        let mut version = 0;
        for round in 0..3_u64 {
            let puts = (0..50_u8).map(|i| {
                let store = Arc::clone(&store);
                let put = DocPut { key: "k".into(), if_version: Some(version), bytes: vec![i], expires: None };
                tokio::spawn(async move { store.doc_put(put).await.unwrap().map(|version| (version, vec![i])) })
            });
            let answers = futures::future::join_all(puts).await;
            let won: Vec<_> = answers.into_iter().filter_map(Result::unwrap).collect();
            let [(new, bytes)] = &won[..] else { panic!("round {round}: {won:?}") };
            assert!(*new > version);
            version = *new;
            let doc = Doc { key: "k".into(), version, bytes: bytes.clone() };
            assert_eq!(store.doc_get("k".into()).await.unwrap(), Some(doc));
        }
    }

    /// A document that expired is one that was never there: its version is 0, and the next is 1 again. Who must tell
    /// a new one from an old one under the same key says so in its bytes.
    a_document_begins_again_after_it_expired(store, clock) {
        let put = |if_version, expires| DocPut { key: "k".into(), if_version, bytes: b"x".to_vec(), expires };
        let short = Some(Duration::from_secs(5));
        assert_eq!(store.doc_put(put(Some(0), short)).await.unwrap(), Some(1));
        assert_eq!(store.doc_put(put(Some(1), short)).await.unwrap(), Some(2));
        clock.advance(Duration::from_secs(5));
        assert_eq!(store.doc_put(put(Some(2), None)).await.unwrap(), None);
        assert_eq!(store.doc_put(put(Some(0), short)).await.unwrap(), Some(1));
        clock.advance(Duration::from_secs(5));
        assert_eq!(store.doc_put(put(None, None)).await.unwrap(), Some(1));
        clock.advance(LEASE);
        assert!(store.doc_get("k".into()).await.unwrap().is_some(), "the last put said nothing of an end");
    }

    /// Each put says how long it lasts from then on.
    a_put_sets_a_new_end(store, clock) {
        let put = |secs: Option<u64>| {
            let expires = secs.map(Duration::from_secs);
            DocPut { key: "k".into(), if_version: None, bytes: b"x".to_vec(), expires }
        };
        for (secs, there) in [(Some(5), true), (Some(5), true), (None, true), (Some(2), false), (Some(0), false)] {
            store.doc_put(put(secs)).await.unwrap().unwrap();
            clock.advance(Duration::from_secs(3));
            assert_eq!(store.doc_get("k".into()).await.unwrap().is_some(), there, "{secs:?}");
            assert_eq!(store.doc_list("k".into()).await.unwrap().len(), usize::from(there));
        }
    }

    /// A prefix is text, no pattern; keys stand in the order of their bytes, and those that differ by case are others.
    prefixes_are_no_patterns(store, _) {
        let mut keys = [
            "a%b", "a%c", "a_b", "aXb", "axb", "a\\b", "a\\%", "A%b", "a", "a*", "a[b]", "a'b", "\u{e9}", "e\u{301}",
            "z\u{d7ff}", "z\u{e000}", "\u{10ffff}", "\u{10ffff}x", " a", "k:1", "k:10", "k:2", "K:1",
        ];
        for key in keys {
            let put = DocPut { key: key.into(), if_version: Some(0), bytes: key.into(), expires: None };
            assert_eq!(store.doc_put(put).await.unwrap(), Some(1), "{key:?} is new");
        }
        keys.sort_unstable();
        let prefixes = ["", "%", "_", "a%", "a_", "a\\", "A", "k:1", "z\u{d7ff}", "\u{10ffff}", "a[", "e", "nothing"];
        for prefix in prefixes {
            let docs = store.doc_list(prefix.into()).await.unwrap();
            let found: Vec<_> = docs.iter().map(|d| &*d.key).collect();
            let wanted: Vec<_> = keys.iter().copied().filter(|k| k.starts_with(prefix)).collect();
            assert_eq!(found, wanted, "prefix {prefix:?}");
            assert!(docs.iter().all(|d| d.bytes == d.key.as_bytes()));
        }
        for key in keys {
            assert_eq!(store.doc_get(key.into()).await.unwrap().unwrap().key, key);
        }
    }

    /// Any bytes, none, and many.
    documents_are_bytes(store, _) {
        let every: Vec<u8> = (0..=255).collect();
        let large = every.repeat(4096);
        for bytes in [Vec::new(), every, b"\0".to_vec(), b"\xff\xfe".to_vec(), large] {
            let put = DocPut { key: "k".into(), if_version: None, bytes: bytes.clone(), expires: None };
            store.doc_put(put).await.unwrap().unwrap();
            assert!(store.doc_get("k".into()).await.unwrap().unwrap().bytes == bytes, "{} bytes", bytes.len());
            assert!(store.doc_list("k".into()).await.unwrap()[0].bytes == bytes, "{} bytes", bytes.len());
        }
    }
}
