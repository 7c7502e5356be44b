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
}
