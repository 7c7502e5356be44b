//! The command line: [`main`] gives it to a program with task functions; the binary `qtasks` is the same without any.
//!
//! ```no_run,standalone_crate
//! use qtasks::prelude::*;
//!
//! /// Counts to `n`.
//! #[task]
//! async fn count(n: u64) -> u64 {
//!     for i in 1..=n {
//!         yield_!(i);
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> std::process::ExitCode {
//!     qtasks::cli::main().await
//! }
//! ```
//!
//! `mybin worker` in one terminal and `mybin run count n=5` in another print 1 to 5; `mybin help` tells the rest. Data
//! goes to stdout, what is said about it to stderr. With `--json` stdout has what [HTTP](crate::http) answers.
//!
//! Text from tasks cannot control the terminal. Control characters (C0, DEL, C1), line breaks, bidirectional controls and
//! invisible characters are escaped as in JSON (`\u001b`). Text for people (tables, notes, errors, the log, panics) is
//! always escaped, so one line stays one line. Values and JSON are escaped when stdout is a terminal, with `--raw` too.
//! Through a pipe they are the stored text, each value on one line, and `--raw` is exact. What a body itself prints is not
//! escaped.
//!
//! A write beyond the file size limit (`ulimit -f`) is an ordinary error: [`main`] handles SIGXFSZ, which would otherwise
//! end the process. Programs that do not call it can do the same by `tokio::signal::unix::signal`.
//!
//! | exit code | |
//! | --- | --- |
//! | 0 | done; of `run` and `tail`: the task is completed |
//! | 1 | the task has failed |
//! | 2 | the call is wrong |
//! | 3 | the task is cancelled |
//! | 4 | there is no such task or task function, or retention has taken it |
//! | 69 | the store can't be reached |
//! | 124 | `--timeout` was over first; the task goes on |
//! | 130 | Ctrl-C: nobody watches any more; the task goes on |
//! | 141 | nobody reads the output any more |

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::app::Builder;
use crate::error::{Error, ErrorKind, Result};

mod args;
mod call;
mod find;
mod follow;
mod out;
mod progress;
mod seen;
mod serve;
mod show;
mod table;
mod target;
mod upkeep;

use args::{Cli, Command};
use out::Out;
use target::Target;

/// The store unless it is said otherwise.
const STORE: &str = "sqlite:qtasks.db";

/// Does what the arguments of this process say, with the task functions that are linked into it.
///
/// It does what [`child_entry`](crate::child_entry) does first, so isolated tasks need nothing else.
pub async fn main() -> ExitCode {
    main_with(Builder::default()).await
}

/// [`main`] for task functions that need more than a store: `.state(…)`, `.layer(…)` and whatever a [`Builder`] takes.
/// Its store is the one where neither `--store` nor `QTASKS_URL` names another.
pub async fn main_with(builder: Builder) -> ExitCode {
    seen::panics();
    crate::isolation::child_entry();
    ExitCode::from(run(std::env::args_os().collect(), builder).await as u8)
}

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum End {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Cancelled = 3,
    NotFound = 4,
    Unreachable = 69,
    TimedOut = 124,
    Detached = 130,
    Unread = 141,
}

impl End {
    /// Of a command that did not get through.
    fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::Gone => End::NotFound,
            ErrorKind::Unavailable | ErrorKind::Reset | ErrorKind::Fenced => End::Unreachable,
            ErrorKind::TaskFailed | ErrorKind::Damaged => End::Failed,
            ErrorKind::TimedOut => End::TimedOut,
            _ => End::Usage,
        }
    }
}

/// The command line under the name of this program.
fn command(name: &str) -> clap::Command {
    let version = match name {
        "qtasks" => env!("CARGO_PKG_VERSION"),
        _ => concat!("with qtasks ", env!("CARGO_PKG_VERSION")),
    };
    Cli::command().name(name.to_owned()).version(version)
}

/// The name that this program was called by.
fn name(args: &[OsString]) -> String {
    let path = args.first().map(std::path::Path::new);
    path.and_then(|path| path.file_stem()?.to_str()).unwrap_or("qtasks").to_owned()
}

/// Makes writes beyond the file size limit fail with an error, where SIGXFSZ would end the process.
#[cfg(unix)]
fn outlive_file_limits() {
    use tokio::signal::unix::{SignalKind, signal};
    // A handled SIGXFSZ is harmless. The handler stays installed when the listener is dropped.
    let _ = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()));
}

async fn run(args: Vec<OsString>, builder: Builder) -> End {
    #[cfg(unix)]
    outlive_file_limits();
    let name = name(&args);
    let parse = |args: &[OsString]| {
        let found = command(&name).try_get_matches_from(args);
        found.and_then(|found| Cli::from_arg_matches(&found))
    };
    let cli = match parse(&args) {
        Ok(cli) => cli,
        Err(error) => {
            let is_help = !error.use_stderr();
            // The message quotes the arguments, so it is made from escaped ones.
            let error = out::shown(&args).and_then(|args| parse(&args).err()).unwrap_or(error);
            let _ = error.print();
            return if is_help { End::Done } else { End::Usage };
        }
    };
    let out = Out::new(cli.json, cli.quiet, name);
    match execute(cli, builder, &out).await {
        Ok(end) => end,
        Err(error) if out::is_unread(&error) => End::Unread,
        Err(error) => {
            out.error(&error);
            End::of(&error)
        }
    }
}

/// The man page of the whole, or of one of its commands.
fn man(page: Option<&str>, out: &Out) -> Result<End> {
    let mut whole = command(&out.name);
    whole.build();
    let Some(page) = page else { return out.bytes(|to| clap_mangen::Man::new(whole).render(to)) };
    let Some(of) = whole.find_subcommand(page) else {
        let name = &out.name;
        return Err(Error::invalid(format!("there is no command `{page}`: `{name} help` lists those that there are")));
    };
    let of = of.clone().name(format!("{}-{page}", out.name));
    out.bytes(|to| clap_mangen::Man::new(of).render(to))
}

async fn execute(cli: Cli, builder: Builder, out: &Out) -> Result<End> {
    let named = cli.store.filter(|url| !url.is_empty()).or_else(|| builder.url.clone());
    let url = named.clone().unwrap_or_else(|| STORE.to_owned());
    let target = async |builder: Builder| Target::open(&url, builder).await;
    match cli.command {
        Command::Completions { shell } => {
            return out.bytes(|to| {
                clap_complete::generate(shell, &mut command(&out.name), &out.name, to);
                Ok(())
            });
        }
        Command::Man { command: page } => return man(page.as_deref(), out),
        Command::Migrate { url: other } => return upkeep::migrate(other.as_deref().unwrap_or(&url), out).await,
        Command::Check { url: other } => return upkeep::check(other.as_deref().unwrap_or(&url), out),
        Command::Worker(worker) => return serve::worker(&url, builder, &worker, out).await,
        Command::Serve(listen) => return serve::serve(&url, builder, &listen, out).await,
        Command::Dev { worker, listen } => {
            let url = named.as_deref().unwrap_or("memory:");
            return serve::dev(url, builder, &worker, &listen, out).await;
        }
        Command::Tasks => return show::functions(&url, builder, out).await,
        Command::Run(run) => return follow::run(&Target::to_run(&url, builder).await?, *run, out).await,
        _ => {}
    }
    let target = target(builder).await?;
    let end = match cli.command {
        Command::List(filter) => show::list(&target, filter, out).await,
        Command::Show { id } => show::show(&target, &id, out).await,
        Command::Tail(tail) => follow::tail(&target, tail, out).await,
        Command::Cancel { id, reason } => show::cancel(&target, &id, reason, out).await,
        Command::Retry { id } => show::retry(&target, &id, out).await,
        Command::Start { id } => show::start(&target, &id, out).await,
        Command::Prune { older_than, dry_run } => upkeep::prune(&target, older_than, dry_run, out).await,
        _ => Ok(End::Done),
    };
    target.close().await;
    end
}
