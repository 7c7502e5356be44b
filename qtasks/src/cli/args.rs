//! What can be said: the doc comments are what `help` tells.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::task::Status;

const MORE: &str = "\
Examples, of the binary `qtasks`:
  qtasks run import_csv path=data.csv batch=500   add a task, and see its values as they come
  qtasks list --status running,failed             the newest of them
  qtasks tail @last                               the newest task, from its first value on

Exit codes: 0 done, 1 the task failed, 2 usage, 3 cancelled, 4 not found, 69 store unreachable,
124 --timeout was over, 130 detached by Ctrl-C (the task goes on), 141 nobody reads the output.";

/// What every command takes.
const EVERYWHERE: &str = "Options of every command";

/// Adds, watches and runs tasks that yield.
#[derive(Debug, Parser)]
#[command(max_term_width = 120, after_help = MORE)]
pub(super) struct Cli {
    /// The store, `sqlite:PATH`, of `dev` and `run` also `memory:`; or a server, `http://HOST:PORT` or `unix:PATH`
    /// [default: sqlite:qtasks.db, of `dev` memory:].
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "QTASKS_URL", hide_env_values = true, value_name = "URL")]
    pub(super) store: Option<String>,
    /// Writes JSON to stdout, as the HTTP server answers it.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(super) json: bool,
    /// Says nothing but data and errors.
    #[arg(short, long, global = true, help_heading = EVERYWHERE)]
    pub(super) quiet: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Adds a task and shows its values as they come.
    Run(Box<Run>),
    /// Lists tasks, the newest first.
    List(List),
    /// Shows all that is stored of a task.
    Show {
        #[command(flatten)]
        id: Id,
    },
    /// Shows the values of a task, from any place of its log on, live until its end.
    Tail(Tail),
    /// Cancels a task; again changes nothing.
    Cancel {
        #[command(flatten)]
        id: Id,
        /// Why: it stands in the task's log.
        #[arg(long, default_value = "cancelled from the command line")]
        reason: String,
    },
    /// Adds a task that does an ended one again, and prints its id.
    Retry {
        #[command(flatten)]
        id: Id,
    },
    /// Lets a task run that was added with `--held`.
    Start {
        #[command(flatten)]
        id: Id,
    },
    /// Lists the task functions: those of this program, and those that workers have published in the store.
    Tasks,
    /// Runs tasks until Ctrl-C or SIGTERM.
    Worker(Worker),
    /// Answers over HTTP until Ctrl-C or SIGTERM; who runs the tasks is another process.
    #[command(visible_alias = "runserver_stream")]
    Serve(Listen),
    /// A worker and a server in one process, by default with a store that is gone with it.
    Dev {
        #[command(flatten)]
        worker: Worker,
        #[command(flatten)]
        listen: Listen,
    },
    /// Brings the tables of a store to this version; again changes nothing.
    Migrate {
        /// The store, instead of `--store`.
        url: Option<String>,
    },
    /// Reads everything in a store and lists what is damaged; exits with 1 if anything is.
    Check {
        /// The store, instead of `--store`.
        url: Option<String>,
    },
    /// Takes the logs, arguments and values of tasks that ended long ago; their rows go as long after that.
    Prune {
        /// How long ago: `1h`, `7days`.
        #[arg(long, value_name = "AGE", value_parser = duration)]
        older_than: Duration,
        /// Tells what would go, and takes nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Writes what a shell completes this command by: `source <(qtasks completions bash)`.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Writes the man page: `qtasks man | man -l -`.
    Man {
        /// That of one command.
        command: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Id {
    /// Its id, at least four last digits of it (among the newest 1,000 tasks), or `@last`.
    pub(super) id: String,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The name of the task function.
    pub(super) task: String,
    /// Its arguments: each is JSON, and text if it is none, or where the function takes a `String`.
    #[arg(value_name = "KEY=VALUE", conflicts_with = "args")]
    pub(super) pairs: Vec<String>,
    /// All arguments as JSON: an object, or an array in their order; `@FILE` reads them from there.
    #[arg(long, value_name = "JSON")]
    pub(super) args: Option<String>,
    /// The queue. Defaults to the function's own.
    #[arg(long)]
    pub(super) queue: Option<String>,
    /// Lower numbers are run first. Defaults to the function's own.
    #[arg(long, allow_negative_numbers = true)]
    pub(super) priority: Option<i16>,
    /// Runs it after so long: `90s`.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) delay: Option<Duration>,
    /// How many failed attempts are followed by another.
    #[arg(long, value_name = "TIMES")]
    pub(super) retry: Option<u32>,
    /// The longest an attempt may take.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) time_limit: Option<Duration>,
    /// Cancels it unless a worker has started it within so long.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) expires: Option<Duration>,
    /// A word to find it by; may be given more than once.
    #[arg(long)]
    pub(super) tag: Vec<String>,
    /// If an unfinished task of this name has the same key, that one is watched instead.
    #[arg(long, value_name = "KEY")]
    pub(super) unique: Option<String>,
    /// If a task was ever added with this key, that one is watched instead.
    #[arg(long, value_name = "KEY")]
    pub(super) idempotency_key: Option<String>,
    /// Stores it without running it, until `start`. Implies `--no-wait`.
    #[arg(long)]
    pub(super) held: bool,
    /// Prints its id and leaves it alone.
    #[arg(long, visible_alias = "detach")]
    pub(super) no_wait: bool,
    #[command(flatten)]
    pub(super) watch: Watch,
}

#[derive(Debug, Args)]
pub(super) struct Tail {
    #[command(flatten)]
    pub(super) id: Id,
    /// The first entry of the log to show; 1 is the first that there is.
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    pub(super) from: u64,
    /// Shows what there is, and ends.
    #[arg(long)]
    pub(super) no_follow: bool,
    #[command(flatten)]
    pub(super) watch: Watch,
}

#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Shows each entry of the log as JSON, not only the values. So does `--json`.
    #[arg(long)]
    pub(super) events: bool,
    /// Shows values that are text as they are, without quotes.
    #[arg(long, conflicts_with = "events")]
    pub(super) raw: bool,
    /// Watches for so long at most; the task goes on.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Of any of these: held, delayed, queued, running, completed, failed, cancelled.
    #[arg(long, value_delimiter = ',')]
    pub(super) status: Vec<Status>,
    /// Of this name.
    #[arg(long, value_name = "NAME")]
    pub(super) task: Option<String>,
    /// Of this queue.
    #[arg(long)]
    pub(super) queue: Option<String>,
    /// With this tag.
    #[arg(long)]
    pub(super) tag: Option<String>,
    /// Added by the body of this task.
    #[arg(long, value_name = "ID")]
    pub(super) parent: Option<String>,
    /// At most so many, up to 1,000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) limit: u16,
    /// Where an earlier page ended.
    #[arg(long)]
    pub(super) cursor: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Worker {
    /// How many tasks it runs at once [default: 32].
    #[arg(long, value_name = "TASKS")]
    pub(super) concurrency: Option<usize>,
    /// Serves this queue and no other; may be given more than once.
    #[arg(long)]
    pub(super) queue: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Listen {
    /// The address to listen at. Other machines reach it only at one of this machine's own addresses.
    #[arg(long, default_value = "127.0.0.1")]
    pub(super) host: String,
    /// The port; 0 takes a free one.
    #[arg(long, default_value_t = 7717)]
    pub(super) port: u16,
    /// Listens at a Unix socket instead; without a path at one in a folder of your own.
    #[arg(long, value_name = "PATH", num_args = 0..=1, conflicts_with_all = ["host", "port"])]
    pub(super) socket: Option<Option<PathBuf>>,
    /// One more name that requests may give as their `Host`, such as that of a proxy; may be given more than once.
    #[arg(long, value_name = "NAME")]
    pub(super) allow_host: Vec<String>,
    /// Whoever can reach it may do everything: on this machine only.
    #[arg(long)]
    pub(super) no_auth: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}: write `90s`, `5m`, `1h 30m` or `7days`"))
}
