//! Text of tasks, on terminals and through pipes.

use std::fs::File;
use std::io::Read as _;

use tokio::task::JoinHandle;

use super::terminal::terminal;
use super::*;

const TELLING: &str = env!("CARGO_BIN_EXE_telling");

/// Moves the cursor, sets the title, rings, goes back, turns text around, hides, and begins a line of its own.
const HOSTILE: &str = "\x1b]0;title\x07\x1b[2J\x1b[35mx\x08\u{9b}2J\u{85}\u{7f}\r\nforged\u{202e}\u{2066}\u{61c}\u{200f}\u{2028}\
                       forged\rforged\n\u{200b}\u{feff}\u{e0041}\tim\u{200d}port";

/// Whether a character steers a terminal, or does not show.
fn is_hostile(c: char) -> bool {
    let hidden = "\u{61c}\u{200b}\u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{feff}\u{e0041}";
    c.is_control() || hidden.contains(c) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Fails if there is anything on a screen but lines that the program itself has begun.
#[track_caller]
fn assert_tame(screen: &str, what: &str) {
    for line in screen.split("\r\n").flat_map(|line| line.split('\n')) {
        assert!(!line.contains(is_hostile), "{what}: {line:?}");
        assert!(!line.starts_with("forged"), "{what}: {screen:?}");
    }
}

/// Reads what comes to a terminal until nobody writes to it any more.
fn read(mut master: File) -> JoinHandle<String> {
    tokio::task::spawn_blocking(move || {
        let (mut seen, mut bytes) = (Vec::new(), [0; 4096]);
        // The last writer's end is told as an error.
        while let Ok(n @ 1..) = master.read(&mut bytes) {
            seen.extend_from_slice(&bytes[..n]);
        }
        String::from_utf8(seen).unwrap()
    })
}

/// Runs a command on a terminal of its own: what is seen there, and its exit code.
async fn on_screen(mut command: Command) -> (String, Option<i32>) {
    let (master, end) = terminal();
    let mut child = command.stdout(end.try_clone().unwrap()).stderr(end).spawn().unwrap();
    // It has the terminal as well.
    drop(command);
    let screen = read(master);
    let code = tokio::time::timeout(soon(), child.wait()).await.expect("it ends").unwrap().code();
    (tokio::time::timeout(soon(), screen).await.expect("nobody writes any more").unwrap(), code)
}

/// A worker of the program whose log, panics and all else it says come to a terminal.
async fn worker_on_screen(home: &Home, log: bool) -> (Child, JoinHandle<String>) {
    let (master, end) = terminal();
    let mut command = home.command(TELLING, &["worker"]);
    command.env("RUST_LOG", "info").env("RUST_BACKTRACE", "0").stdout(Stdio::null()).stderr(end);
    if log {
        command.env("TELLING_LOG", "1");
    }
    let worker = command.spawn().unwrap();
    (worker, read(master))
}

async fn ended(mut worker: Child, screen: JoinHandle<String>) -> String {
    signal(&worker, "-TERM");
    tokio::time::timeout(soon(), worker.wait()).await.expect("it ends").unwrap();
    tokio::time::timeout(soon(), screen).await.expect("nobody writes any more").unwrap()
}

/// Without a bar and colours, so that nothing on the screen is of control characters.
fn plain(home: &Home, args: &[&str]) -> Command {
    let mut command = home.command(TELLING, args);
    command.env("NO_COLOR", "1").env("CI", "1");
    command
}

#[tokio::test]
async fn no_text_of_a_task_steers_a_terminal() {
    let home = Home::new();
    let (worker, said) = worker_on_screen(&home, true).await;
    until(|| home.0.join("q.db-turn").exists()).await;
    let text = format!("text={HOSTILE}");
    for (function, code) in
        [("yields", 0), ("returns", 0), ("sums_up", 0), ("fails", 1), ("panics", 1), ("panics_apart", 1), ("tells", 0)]
    {
        for more in [&[][..], &["--raw"], &["--events"], &["--json"]] {
            let args = [&["run", function, &text], more].concat();
            let (screen, ended) = on_screen(plain(&home, &args)).await;
            assert_eq!(ended, Some(code), "{args:?}: {screen}");
            assert_tame(&screen, &format!("{args:?}"));
            assert!(function == "panics_apart" || screen.contains("forged"), "{args:?}: it is not shown: {screen}");
        }
        for args in
            [&["show", "@last"][..], &["show", "@last", "--json"], &["list"], &["list", "--json"], &["tail", "@last"]]
        {
            assert_tame(&on_screen(plain(&home, args)).await.0, &format!("{function}: {args:?}"));
        }
    }
    let said = ended(worker, said).await;
    assert!(said.contains("panicked at") && said.contains("forged"), "{said}");
    assert_tame(&said, "the worker");

    // With a bar and colours there is nothing but these.
    let (worker, said) = worker_on_screen(&home, false).await;
    for function in ["yields", "fails", "tells", "sums_up"] {
        let mut command = home.command(TELLING, &["run", function, &text]);
        command.env("TERM", "xterm");
        let (screen, _) = on_screen(command).await;
        for part in ["\x1b]", "\x07", "\x1b[35m", "\x08", "\u{9b}", "\u{7f}", "\u{202e}", "\nforged", "\rforged"] {
            assert!(!screen.contains(part), "{function}: {screen:?}");
        }
    }
    let said = ended(worker, said).await;
    assert!(said.contains(" WARN ") && said.contains("forged"), "its log has what bodies say: {said}");
    assert_tame(&said, "the log");
}

#[tokio::test]
async fn what_was_stored_before_and_what_is_refused_steers_no_terminal() {
    let home = Home::new();
    home.run_as(TELLING, &["run", "returns", "text=x", "--no-wait", "--tag", "old"]).await.ends(0);
    // As an earlier version, or another program, may have stored it.
    let db = rusqlite::Connection::open(home.0.join("q.db")).unwrap();
    let tags = serde_json::to_string(&[HOSTILE, "old"]).unwrap();
    let sql = "UPDATE task SET tags = ?1, worker = ?2, sum = NULL, fixed_sum = NULL";
    db.execute(sql, [&*tags, HOSTILE]).unwrap();
    let shown = on_screen(plain(&home, &["show", "@last"])).await.0;
    assert_tame(&shown, "show");
    assert!(shown.contains("forged\\u202e") && shown.contains(", old\r\n"), "{shown}");
    assert_tame(&on_screen(plain(&home, &["show", "@last", "--json"])).await.0, "show --json");
    let (screen, code) = on_screen(plain(&home, &["cancel", "@last", "--reason", HOSTILE])).await;
    assert_eq!((&*screen, code), ("cancelled\r\n", Some(0)));
    // The tag of a stored task does not keep it from being retried.
    home.run_as(TELLING, &["retry", "@last"]).await.ends(0);
    home.run_as(TELLING, &["cancel", "@last", "--reason", HOSTILE]).await.ends(0);
    for args in [&["tail", "@last"][..], &["tail", "@last", "--events"], &["show", "@last"], &["list"], &["tasks"]] {
        assert_tame(&on_screen(plain(&home, args)).await.0, &format!("{args:?}"));
    }
    db.execute_batch("DELETE FROM pair_copy; UPDATE task SET fixed_sum = NULL").unwrap();
    db.execute("UPDATE pair SET name = ?1, queue = ?1", [HOSTILE]).unwrap();
    for args in [&["list"][..], &["list", "--json"], &["show", "@last"], &["tail", "@last"]] {
        let screen = on_screen(plain(&home, args)).await.0;
        assert!(screen.contains("forged"), "{args:?}: {screen}");
        assert_tame(&screen, &format!("{args:?}"));
    }
    let url = format!("sqlite:{HOSTILE}");
    for (args, code) in [
        (&["run", HOSTILE][..], 4),
        (&["run", "returns", HOSTILE], 2),
        (&["run", "returns", "text=x", "--no-wait", "--tag", HOSTILE], 2),
        (&["run", "returns", "text=x", "--no-wait", "--queue", HOSTILE], 2),
        (&["run", "returns", "--args", HOSTILE], 2),
        (&["tail", HOSTILE], 2),
        (&["show", HOSTILE], 2),
        (&["list", "--cursor", HOSTILE], 2),
        (&["list", "--status", HOSTILE], 2),
        (&["list", HOSTILE], 2),
        (&["man", HOSTILE], 2),
        (&["--store", &url, "list"], 69),
        (&["--store", HOSTILE, "list"], 2),
    ] {
        let (screen, ended) = on_screen(plain(&home, args)).await;
        assert_eq!(ended, Some(code), "{args:?}: {screen}");
        assert_tame(&screen, &format!("{args:?}"));
    }
}

/// What another program reads is what was stored; what people read stays a line a line, wherever it goes.
#[tokio::test]
async fn through_a_pipe_values_are_as_they_are_and_lines_stay_lines() {
    let home = Home::new();
    let _worker = home.worker_of(TELLING, 7).await;
    let text = format!("text={HOSTILE}");
    let run = async |args: &[&str]| home.run_as(TELLING, args).await.ends(0);
    let value = run(&["run", "returns", &text]).await.out;
    assert!(value.contains('\u{9b}') && value.contains('\u{202e}') && value.contains('\u{7f}'), "{value:?}");
    assert_eq!(serde_json::from_str::<String>(&value).unwrap(), HOSTILE);
    assert_eq!(run(&["run", "returns", &text, "--raw"]).await.out, format!("{HOSTILE}\n"));
    let shown = run(&["--json", "show", "@last"]).await;
    assert!(shown.out.contains('\u{9b}'), "{shown:?}");
    assert_eq!(shown.json()["final_value"], HOSTILE);
    // On a terminal it is the same value in other words.
    let screen = on_screen(plain(&home, &["--json", "show", "@last"])).await.0;
    assert_eq!(serde_json::from_str::<Value>(&screen).unwrap(), shown.json());
    assert_tame(&run(&["show", "@last"]).await.out, "show");

    let failed = home.run_as(TELLING, &["run", "fails", &text]).await.ends(1);
    assert_tame(&failed.err, "an error");
    assert_eq!(failed.err.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{failed:?}");
    // JSON with line ends between its tokens is still one line.
    let args = ["run", "returns", "--args", "{\n\"text\":\r\n\"x\"}", "--no-wait", "--json"];
    assert_eq!(run(&args).await.out.lines().count(), 1);
}
