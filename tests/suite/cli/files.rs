//! The file of a store among other users, and at the limit of a process.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[tokio::test]
async fn a_file_that_everybody_may_write_to_is_not_taken_without_a_word() {
    let home = Home::new();
    let path = home.0.join("q.db");
    home.run(&["migrate"]).await.ends(0);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let mut worker = home.command(PROGRAM, &["worker"]).spawn().unwrap();
    let said = first_line(worker.stderr.as_mut().unwrap()).await;
    assert!(said.contains("other users may write to the store's file") && said.contains("mode=0666"), "{said}");
    signal(&worker, "-KILL");
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: only root can give a file to another user; a unit test of `owner` has the rule");
        return;
    }
    std::os::unix::fs::chown(&path, Some(65_533), None).unwrap();
    let refused = home.run(&["list"]).await.ends(2);
    assert!(refused.err.contains("belongs to another user (uid 65533)"), "{refused:?}");
    assert!(refused.err.contains(&format!("`chmod o-w {}`", path.display())), "{refused:?}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    home.run(&["list"]).await.ends(0);
    // SQLite would take what it finds beside the file.
    for end in ["-wal", "-shm"] {
        let home = Home::new();
        let beside = home.0.join(format!("q.db{end}"));
        std::fs::write(&beside, "").unwrap();
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o666)).unwrap();
        std::os::unix::fs::chown(&beside, Some(65_533), None).unwrap();
        let refused = home.run(&["migrate"]).await.ends(2);
        assert!(refused.err.contains(&format!("`{}` is refused", beside.display())), "{refused:?}");
    }
}

#[tokio::test]
async fn what_others_put_beside_the_file_leads_nowhere() {
    let home = Home::new();
    let (turn, elsewhere) = (home.0.join("q.db-turn"), home.0.join("elsewhere"));
    std::os::unix::fs::symlink(&elsewhere, &turn).unwrap();
    home.run(&["run", "count", "n=1", "--no-wait"]).await.ends(0);
    assert!(!elsewhere.exists(), "the link was followed");
    std::fs::remove_file(&turn).unwrap();
    // Who opens a pipe to write waits for somebody who reads it.
    assert!(std::process::Command::new("mkfifo").arg(&turn).status().unwrap().success());
    home.run(&["run", "count", "n=1", "--no-wait"]).await.ends(0);
}

/// A process that may not write larger files is told so; SIGXFSZ would end it without a word.
#[tokio::test]
async fn the_limit_on_file_sizes_is_an_error_and_not_the_end() {
    let home = Home::new();
    // In blocks of 512 bytes, or of 1,024.
    let limited = |blocks: u32, args: &str| format!("ulimit -f {blocks}; exec {PROGRAM} {args}");
    let small = home.run_as("sh", &["-c", &limited(16, "migrate")]).await.ends(69);
    assert!(small.err.starts_with("error: the store `") && small.out.is_empty(), "{small:?}");

    let large = home.0.join("large.json");
    std::fs::write(&large, format!("[\"{}\"]", "x".repeat(900_000))).unwrap();
    home.run(&["migrate"]).await.ends(0);
    let args = format!("run say --no-wait --args @{}", large.display());
    let refused = home.run_as("sh", &["-c", &limited(600, &args)]).await.ends(69);
    assert!(refused.err.starts_with("error: the store `"), "{refused:?}");
    assert_eq!(home.run(&["list", "--json"]).await.ends(0).json()["tasks"], serde_json::json!([]));
    // Output that goes to a file is no other thing.
    let printed = home.run_as("sh", &["-c", &limited(1, "man > man.txt")]).await.ends(69);
    assert!(printed.err.starts_with("error: stdout can't be written: "), "{printed:?}");
    home.run(&["run", "say", "--no-wait", "--args", &format!("@{}", large.display())]).await.ends(0);
}
