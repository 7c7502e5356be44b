//! What runs in processes of its own, and what does not.

use std::io::Read as _;
use std::time::Duration;

use qtasks::prelude::*;
use qtasks::{Retry, StreamTask};
use serde::{Deserialize, Serialize};

/// Tells which process it is.
#[task]
pub(crate) fn here() -> u32 {
    std::process::id()
}

#[task(isolation = "process")]
pub(crate) fn there() -> u32 {
    std::process::id()
}

/// Ends its process after two values, in one of several ways.
#[task(isolation = "process")]
pub(crate) fn breaks(how: String) -> u32 {
    yield_!(std::process::id());
    yield_!(2);
    end(&how);
    yield_!(3);
}

#[task(isolation = "process")]
pub(crate) async fn breaks_async(how: String) -> u32 {
    yield_!(std::process::id());
    yield_!(2);
    end(&how);
    yield_!(3);
}

fn end(how: &str) {
    match how {
        "abort" => std::process::abort(),
        "exit" => std::process::exit(3),
        "well" => std::process::exit(0),
        "loop" => loop {
            std::hint::spin_loop();
        },
        // A shell has this built in; the process that it is told to end is its parent. The first `SEGV` only takes
        // away the handler that looks for overflown stacks.
        signal => loop {
            let _ = std::process::Command::new("sh").args(["-c", &format!("kill -{signal} $PPID")]).status();
        },
    }
}

/// Does all that a context can, and returns at the end.
#[task(isolation = "process", generate_handler = tenfold, yield = u32)]
pub(crate) async fn talks(ctx: Context) -> String {
    for i in 0..3_u32 {
        ctx.send_event("before", i);
        yield_!(i);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let flushed = ctx.flush().await.is_ok();
    ctx.send_event("flushed", flushed);
    return "done".to_owned();
}

async fn tenfold(i: u32) -> Result<u32, String> {
    tokio::task::yield_now().await;
    if i < 3 { Ok(i * 10) } else { Err("too many".to_owned()) }
}

#[task(isolation = "process", generate_handler = tenfold)]
pub(crate) fn too_many() -> u32 {
    for i in 0..9 {
        yield_!(i);
    }
}

/// Its first attempt ends halfway; the second begins where that was.
#[task(isolation = "process", retry = 1, backoff = none)]
pub(crate) fn resumes(ctx: Context, from: Resume<u64>) -> u64 {
    for i in from.count()..6 {
        if i == 3 && ctx.attempt() == 1 {
            std::process::abort();
        }
        ctx.checkpoint(&(i, from.checkpoint::<(u64, u64)>().map_or(0, |(last, _)| last)));
        yield_!(i * 100 + from.last().copied().unwrap_or_default());
    }
}

/// Its second attempt yields the same again.
#[task(isolation = "process", retry = 1, backoff = none)]
pub(crate) fn replays(ctx: Context) -> u32 {
    for i in 0..6 {
        if i == 3 && ctx.attempt() == 1 {
            std::process::abort();
        }
        yield_!(i);
    }
}

#[task(isolation = "process")]
pub(crate) async fn panics() -> u32 {
    yield_!(1);
    panic!("not again");
}

#[task(isolation = "process", retry = 5, backoff = fixed("1h"))]
pub(crate) fn fails(ctx: Context) -> Result<u32, Retry> {
    match ctx.attempt() {
        1 => Err(Retry::now().because("once more")),
        _ => Err(Retry::never("no use")),
    }
}

#[task(isolation = "process")]
pub(crate) async fn cancels(ctx: Context) -> u32 {
    yield_!(std::process::id());
    ctx.cancel("had enough").await;
    yield_!(2);
}

/// What a body finds that has no app and no stdin.
#[task(isolation = "process")]
pub(crate) async fn looks_around() -> (String, usize, Option<String>) {
    let added = here::add_task().await;
    let mut stdin = String::new();
    let read = std::io::stdin().read_to_string(&mut stdin).unwrap_or(usize::MAX);
    (added.map_or_else(|error| error.to_string(), |_| "added".to_owned()), read, std::env::args().nth(1))
}

/// Uses the grace that it has after `SIGTERM`, if it is to end by itself then; else it goes on and on.
#[task(isolation = "process", time_limit = "2s")]
pub(crate) async fn takes_leave(ctx: Context, note: String, leaves: bool) -> u32 {
    let mut asked = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a signal");
    yield_!(std::process::id());
    asked.recv().await;
    while !ctx.cancelled() {
        tokio::task::yield_now().await;
    }
    std::fs::write(note, "good bye").expect("written");
    if leaves {
        std::process::exit(0);
    }
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A value, and no more.
#[task(isolation = "process")]
pub(crate) fn trace(ctx: Context) -> Option<String> {
    ctx.traceparent().map(str::to_owned)
}

#[task(isolation = "process", idle_limit = "2s")]
pub(crate) async fn stalls() -> u32 {
    yield_!(std::process::id());
    loop {
        std::hint::spin_loop();
    }
}

/// Takes more arguments than a socket has room for, and returns what a plain task returns.
#[task(isolation = "process")]
pub(crate) async fn adds(numbers: Vec<u64>) -> u64 {
    numbers.iter().sum()
}

/// Starts a process of its own, and waits for it.
#[task(isolation = "process")]
pub(crate) fn starts() -> u32 {
    let mut child = std::process::Command::new("sleep").arg("3600").spawn().expect("started");
    yield_!(child.id());
    let _ = child.wait();
}

/// Says which process it is in, and stays until there is a file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Stays {
    pub(crate) until: std::path::PathBuf,
}

#[task]
impl StreamTask for Stays {
    async fn process(&self, ctx: Context) -> String {
        ctx.send_event("start", std::process::id());
        while !self.until.exists() {
            ctx.sleep(Duration::from_millis(1)).await;
        }
        "left".to_owned()
    }
}

/// Takes a thread for a while.
#[task]
pub(crate) fn dozes() -> u32 {
    std::thread::sleep(Duration::from_millis(100));
    std::process::id()
}

/// Takes a process for a while.
#[task(isolation = "process")]
pub(crate) fn dozes_apart() -> u32 {
    std::thread::sleep(Duration::from_millis(100));
    std::process::id()
}

/// Writes to the socket between its process and the worker, which it has no business with, and goes on for ever.
#[task(isolation = "process")]
pub(crate) fn garbles(bytes: Vec<u8>) -> u32 {
    use std::io::Write as _;
    use std::os::fd::OwnedFd;

    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    yield_!(std::process::id());
    let me = pidfd_open(getpid(), PidfdFlags::empty()).expect("this process");
    let mut found = 0;
    for fd in 3..64 {
        let Ok(link) = std::fs::read_link(format!("/proc/self/fd/{fd}")) else { continue };
        if link.to_string_lossy().starts_with("socket:") {
            let socket: OwnedFd = pidfd_getfd(&me, fd, PidfdGetfdFlags::empty()).expect("its own");
            // Others belong to the runtime; they are told as well.
            found += usize::from(std::fs::File::from(socket).write_all(&bytes).is_ok());
        }
    }
    assert!(found > 0, "no socket");
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Makes what is too large for its worker.
#[task(isolation = "process", generate_handler = large -> String)]
pub(crate) fn floods_handled(bytes: usize) -> usize {
    yield_!(1);
    yield_!(bytes);
}

fn large(bytes: usize) -> String {
    "x".repeat(bytes)
}

#[task(isolation = "process", yield = String)]
pub(crate) fn floods(ctx: Context, how: String, bytes: usize) -> String {
    yield_!("first".to_owned());
    match &*how {
        "value" => yield_!("x".repeat(bytes)),
        "event" => ctx.send_event("much", "x".repeat(bytes)),
        "name" => ctx.send_event(&"x".repeat(bytes), 1),
        "checkpoint" => ctx.checkpoint(&"x".repeat(bytes)),
        "error" => panic!("{}", "x".repeat(bytes)),
        "cancel" => drop(ctx.cancel("x".repeat(bytes))),
        _ => return "x".repeat(bytes),
    }
    yield_!("last".to_owned());
    return String::new();
}
