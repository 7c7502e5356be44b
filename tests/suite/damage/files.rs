//! Files that are deleted, replaced or spoiled while a store has them open.

use std::path::{Path, PathBuf};
use std::time::Duration;

use qtasks::prelude::*;
use qtasks::{ErrorKind, Qtasks};
use tower::ServiceExt as _;

use crate::{scratch, soon};

#[task]
async fn value(n: u64) -> u64 {
    n
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

async fn open(path: &Path) -> Qtasks {
    let url = format!("sqlite:{}", path.display());
    Qtasks::builder().store(url).tasks([value::spec()]).scan(Duration::from_millis(200)).start().await.unwrap()
}

/// Adds until the store refuses.
async fn refused(app: &Qtasks) -> qtasks::Error {
    let adding = async {
        loop {
            if let Err(error) = value::add_task(1).on(app).await {
                return error;
            }
        }
    };
    tokio::time::timeout(soon(), adding).await.expect("the loss is noticed")
}

async fn status(app: &Qtasks, path: &str) -> (u16, String) {
    let request = axum::http::Request::get(path).header("host", "127.0.0.1").body(axum::body::Body::empty()).unwrap();
    let response = qtasks::http::service(app).no_auth().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_deleted_or_replaced_is_noticed_and_nothing_is_acknowledged_any_more() {
    type Lose = fn(&Path);
    let ways: [(&str, Lose); 5] = [
        ("deleted", |path| std::fs::remove_file(path).unwrap()),
        ("moved away", |path| std::fs::rename(path, beside(path, ".old")).unwrap()),
        ("replaced", |path| {
            std::fs::copy(path, beside(path, ".copy")).unwrap();
            std::fs::rename(beside(path, ".copy"), path).unwrap();
        }),
        ("its WAL deleted", |path| std::fs::remove_file(beside(path, "-wal")).unwrap()),
        ("its index deleted", |path| std::fs::remove_file(beside(path, "-shm")).unwrap()),
    ];
    for (how, lose) in ways {
        let path = scratch().join("q.db");
        let app = open(&path).await;
        value::add_task(1).on(&app).timeout(soon()).await.unwrap();
        assert_eq!(status(&app, "/ready").await.0, 200, "{how}");
        lose(&path);
        let error = refused(&app).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{how}: {error}");
        assert!(error.to_string().contains("was deleted or replaced while it was open"), "{how}: {error}");
        assert!(value::add_task(1).on(&app).await.is_err(), "{how}: refused once, refused from then on");
        let (ready, said) = status(&app, "/ready").await;
        assert_eq!(ready, 503, "{how}: {said}");
        assert!(!said.contains("q.db"), "{how}: {said}");
        assert_eq!(status(&app, "/v1/tasks").await.0, 503, "{how}");
        tokio::time::timeout(soon(), app.shutdown()).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_deleted_under_an_idle_process_is_noticed_within_a_scan() {
    let path = scratch().join("q.db");
    let app = open(&path).await;
    std::fs::remove_file(&path).unwrap();
    crate::until_async(async || status(&app, "/ready").await.0 == 503).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_put_back_is_gone_on_with() {
    let path = scratch().join("q.db");
    let app = open(&path).await;
    std::fs::rename(&path, beside(&path, ".old")).unwrap();
    refused(&app).await;
    std::fs::rename(beside(&path, ".old"), &path).unwrap();
    crate::until_async(async || value::add_task(2).on(&app).await.is_ok()).await;
    assert_eq!(value::add_task(3).on(&app).timeout(soon()).await.unwrap().returning, 3);
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_spoiled_after_it_was_opened_is_unavailable_and_its_path_is_not_told() {
    let path = scratch().join("q.db");
    let app = open(&path).await;
    value::add_task(1).on(&app).timeout(soon()).await.unwrap();
    // All of it, in place: the same files with other bytes.
    for ending in ["", "-wal"] {
        let file = beside(&path, ending);
        let bytes = std::fs::metadata(&file).unwrap().len();
        std::fs::write(&file, vec![b'x'; usize::try_from(bytes).unwrap()]).unwrap();
    }
    // What is kept of it in memory may answer for a while.
    let answered = crate::until_async(async || status(&app, "/v1/tasks").await.0 != 200);
    answered.await;
    let (code, said) = status(&app, "/v1/tasks").await;
    assert_eq!(code, 503, "{said}");
    assert!(!said.contains("q.db") && !said.contains(&*path.to_string_lossy()), "{said}");
    drop(app);
}
