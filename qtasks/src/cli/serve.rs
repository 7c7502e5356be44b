//! `worker`, `serve`, `dev`: what runs until it is told to stop.

use std::path::PathBuf;
use std::pin::pin;
use std::task::Poll;

use super::End;
use super::args::{Listen, Worker};
use super::out::Out;
use super::seen;
use super::target::{self, Target};
use crate::app::{Builder, Qtasks};
use crate::error::{Error, Result};
use crate::http::{Config, Server};

/// A worker on a store that others can reach.
pub(super) async fn worker(url: &str, builder: Builder, worker: &Worker, out: &Out) -> Result<End> {
    if builder.store.is_none() && target::is_memory(url) {
        let message = format!("no other process can reach `{url}`: give `--store sqlite:PATH`, or take `dev`");
        return Err(Error::invalid(message));
    }
    target::check(url, "worker")?;
    seen::log();
    let app = start(url, builder, worker, out).await?;
    until_told(&app, out, || {
        works(&app, url, out);
        Ok(())
    })
    .await
}

/// A server without a worker.
pub(super) async fn serve(url: &str, builder: Builder, listen: &Listen, out: &Out) -> Result<End> {
    seen::log();
    let config = config(listen)?;
    target::check(url, "serve")?;
    let target = Target::to_serve(url, builder).await?;
    let app = target.app("serve")?;
    let server = app.serve(config).await?;
    let end = until_told(app, out, || listens(&server, listen, out)).await;
    server.shutdown().await;
    end
}

/// Both.
pub(super) async fn dev(url: &str, builder: Builder, worker: &Worker, listen: &Listen, out: &Out) -> Result<End> {
    target::check(url, "dev")?;
    seen::log();
    let config = config(listen)?;
    let app = start(url, builder, worker, out).await?;
    let server = app.serve(config).await?;
    let end = until_told(&app, out, || {
        works(&app, url, out);
        listens(&server, listen, out)
    });
    let end = end.await;
    server.shutdown().await;
    end
}

/// Runs an app until a signal comes. It is announced when signals are heard: whoever reads that may send one.
async fn until_told(app: &Qtasks, out: &Out, announce: impl FnOnce() -> Result<()>) -> Result<End> {
    let mut run = pin!(app.run_until_told(|| {
        if let Some(grace) = app.busy_for() {
            let grace = humantime::format_duration(grace);
            out.note(format_args!("tasks are running: waiting for them, at most {grace}; Ctrl-C again ends at once"));
        }
    }));
    match futures::poll!(run.as_mut()) {
        Poll::Ready(over) => over?,
        Poll::Pending => {
            announce()?;
            run.await?;
        }
    }
    Ok(End::Done)
}

async fn start(url: &str, mut builder: Builder, worker: &Worker, out: &Out) -> Result<Qtasks> {
    if !builder.has_tasks() {
        return Err(Error::invalid(format!(
            "`{}` has no task functions to run: call `qtasks::cli::main()` in the program that has them, and start its \
             `worker`",
            out.name
        )));
    }
    if let Some(tasks) = worker.concurrency {
        builder = builder.concurrency(tasks);
    }
    if !worker.queue.is_empty() {
        builder = builder.queues(&worker.queue);
    }
    builder.store(url).install().start().await
}

fn works(app: &Qtasks, url: &str, out: &Out) {
    let functions = app.registered().count();
    let s = if functions == 1 { "" } else { "s" };
    out.note(format_args!("a worker for {functions} task function{s} runs on `{url}`; Ctrl-C ends it"));
}

fn config(listen: &Listen) -> Result<Config> {
    let config = match &listen.socket {
        None => Config::default().listen(address(&listen.host, listen.port)),
        #[cfg(unix)]
        Some(path) => Config::default().socket(match path {
            Some(path) => path.clone(),
            None => private_socket()?,
        }),
        #[cfg(not(unix))]
        Some(_) => return Err(Error::invalid("`--socket` needs Unix: leave it out")),
    };
    let config = listen.allow_host.iter().fold(config, |config, name| config.host(name));
    Ok(seen::counted(if listen.no_auth { config.no_auth() } else { config }))
}

fn listens(server: &Server, listen: &Listen, out: &Out) -> Result<()> {
    match out.json {
        true => out.json(&serde_json::json!({ "url": server.url() }))?,
        false => out.data(server.url())?,
    }
    if listen.no_auth {
        out.note("whoever can reach it may do everything");
    } else if let Some((file, token)) = server.new_token() {
        out.note(format_args!("its token is new, and kept in {}", file.display()));
        out.note(format_args!("send it with each request: `Authorization: Bearer {token}`"));
    } else {
        out.note(match server.tokens_file() {
            Some(file) => format!("requests need a token: it is in {}", file.display()),
            None => "requests need a token: that of `QTASKS_TOKEN`".to_owned(),
        });
    }
    if let Some(page) = seen::page(server, listen.no_auth) {
        out.note(format_args!("in a browser: {page}"));
    }
    Ok(())
}

/// An address and a port; an IPv6 address stands in brackets.
fn address(host: &str, port: u16) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// A socket in a folder that nobody else can enter.
#[cfg(unix)]
fn private_socket() -> Result<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let home = || folder("HOME").map(|home| home.join(".local/state"));
    let base = folder("XDG_RUNTIME_DIR").or_else(|| folder("XDG_STATE_HOME")).or_else(home);
    let Some(folder) = base.map(|base| base.join("qtasks")) else {
        return Err(Error::invalid("there is no folder for the socket: give `--socket PATH`, or set `HOME`"));
    };
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let made = builder.recursive(true).create(&folder);
    made.map_err(|error| Error::invalid(format!("the folder {} can't be made: {error}", folder.display())))?;
    Ok(folder.join("http.sock"))
}
