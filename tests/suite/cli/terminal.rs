//! What somebody at a terminal sees.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::*;

/// Both ends of a terminal.
pub(super) fn terminal() -> (File, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let end = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (File::from(master), OwnedFd::from(end))
}

/// Reads what comes to a terminal until a text is there.
async fn until_seen(mut master: File, text: &'static str) -> String {
    let read = tokio::task::spawn_blocking(move || {
        let (mut seen, mut bytes) = (String::new(), [0; 4096]);
        while !seen.contains(text) {
            let n = master.read(&mut bytes).unwrap_or_else(|e| panic!("{e}: {seen:?}"));
            seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
        seen
    });
    tokio::time::timeout(soon(), read).await.expect("it is seen").unwrap()
}

#[tokio::test]
async fn a_bar_shows_how_far_a_task_is_and_leaves_the_data_alone() {
    let home = Home::new();
    let _worker = home.worker().await;
    let until = home.0.join("go");
    let until_is = format!("until={}", until.display());
    let (master, end) = terminal();
    let mut command = home.command(PROGRAM, &["run", "gated", &until_is, "before=3"]);
    let run = command.env("TERM", "xterm").stderr(Stdio::from(end)).spawn().unwrap();
    drop(command);
    let kept = master.try_clone().unwrap();
    let seen = until_seen(master, " 3/4 75%").await;
    assert!(seen.contains("task 0") && seen.contains('█'), "{seen:?}");
    std::fs::write(&until, "").unwrap();
    let out = over(run).await.ends(0).out;
    assert_eq!(out.lines().count(), 4);
    assert!(out.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{out}");
    drop(kept);
}

#[tokio::test]
async fn colours_are_for_who_wants_them() {
    let home = Home::new();
    home.run(&["run", "count", "n=1", "--no-wait"]).await.ends(0);
    home.run(&["cancel", "@last"]).await.ends(0);
    for (name, coloured) in [("CLICOLOR_FORCE", true), ("NO_COLOR", false), ("LANG", false)] {
        let command = |args: &[&str]| home.command(PROGRAM, args).env(name, "1").spawn().unwrap();
        let (list, error) = (over(command(&["list"])).await.ends(0), over(command(&["show", "abcd"])).await.ends(4));
        assert_eq!(list.out.contains("\x1b[33mcancelled\x1b[0m"), coloured, "{name}: {list:?}");
        assert_eq!(error.err.contains('\x1b'), coloured, "{name}: {error:?}");
        assert!(!over(command(&["list", "--json"])).await.ends(0).out.contains('\x1b'));
    }
}
