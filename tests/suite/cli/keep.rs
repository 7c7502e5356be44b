//! Stores that are kept in order, and what is made for shells and readers of manuals.

use super::*;

#[tokio::test]
async fn tables_are_brought_to_this_version_once() {
    let home = Home::new();
    let first = home.run(&["migrate", "--json"]).await.ends(0).json();
    let latest = first["after"].as_u64().unwrap();
    assert!(first["before"] == 0 && latest >= 5, "{first}");
    let again = home.run_as(ALONE, &["migrate", &home.url()]).await.ends(0);
    assert_eq!(again.out, format!("{}: schema {latest}, the latest: nothing to do\n", home.url()));

    let path = home.0.join("q.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let newer = home.run(&["migrate"]).await.ends(2);
    assert!(newer.err.contains("was written by a later version of qtasks (schema 99"), "{newer:?}");
    home.run(&["list"]).await.ends(2);
    let none = home.run(&["migrate", "memory:"]).await.ends(2);
    assert!(none.err.contains("`memory:` has no tables to migrate"), "{none:?}");
}

#[tokio::test]
async fn a_dry_run_takes_nothing_and_tells_what_would_go() {
    let home = Home::new();
    let worker = home.worker().await;
    for _ in 0..3 {
        home.run(&["run", "count", "n=2"]).await.ends(0);
    }
    let (id, _) = home.gated().await;
    let old = home.run(&["prune", "--older-than", "1h", "--dry-run"]).await.ends(0);
    assert_eq!(old.out, "would take the logs of 0 tasks, and at most 0 bare rows\n");
    let before = home.run(&["list", "--status", "completed", "--json"]).await.ends(0).json();
    for _ in 0..2 {
        let dry = home.run(&["prune", "--older-than", "0s", "--dry-run", "--json"]).await.ends(0).json();
        assert_eq!(dry, serde_json::json!({ "dry_run": true, "logs": 3, "rows": 0 }));
    }
    assert_eq!(home.run(&["list", "--status", "completed", "--json"]).await.ends(0).json(), before);
    let ended = before["tasks"][0]["id"].as_str().unwrap();
    assert_eq!(home.run(&["tail", ended]).await.ends(0).out, "1\n2\n");

    let took = home.run(&["prune", "--older-than", "0s", "--json"]).await.ends(0).json();
    assert_eq!((took["dry_run"].as_bool(), &took["logs"]), (Some(false), &3.into()));
    home.run(&["tail", ended]).await.ends(4);
    assert_eq!(home.run(&["show", &id, "--json"]).await.ends(0).json()["args"]["before"], 1, "what runs is kept");
    drop(worker);
}

#[tokio::test]
async fn shells_and_manuals_know_every_command() {
    let home = Home::new();
    let commands = [
        "run", "list", "show", "tail", "cancel", "retry", "start", "tasks", "worker", "serve", "dev", "migrate",
        "prune",
    ];
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&["completions", shell]).await.ends(0).out;
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}");
        assert!(script.contains("cli-program"), "{shell}: it completes the program that wrote it");
    }
    let page = home.run_as(ALONE, &["man"]).await.ends(0).out;
    assert!(page.contains(".TH") && commands.iter().all(|command| page.contains(command)), "{page}");
    let of = home.run_as(ALONE, &["man", "tail"]).await.ends(0).out;
    assert!(of.starts_with(".") && of.contains("qtasks\\-alone\\-tail") && of.contains("no\\-follow"), "{of}");
    let error = home.run_as(ALONE, &["man", "tial"]).await.ends(2).err;
    assert!(error.contains("no command `tial`"), "{error}");
}

#[tokio::test]
async fn who_stops_reading_ends_the_command_without_a_word() {
    let home = Home::new();
    let _worker = home.worker().await;
    let mut run = home.command(PROGRAM, &["-q", "run", "count", "n=50000"]).spawn().unwrap();
    assert_eq!(first_line(run.stdout.as_mut().unwrap()).await, "1");
    drop(run.stdout.take());
    assert_eq!(over(run).await.ends(141).err, "");
}
