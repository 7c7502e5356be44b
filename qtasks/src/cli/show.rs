//! `list`, `show`, `cancel`, `retry`, `start`, `tasks`: one question, one answer.

use std::time::SystemTime;

use anstyle::Style;

use super::out::Out;
use super::target::{self, Function, Target};
use super::{End, args, find, table};
use crate::app::Builder;
use crate::error::Result;
use crate::store::{Cancelled, List};
use crate::task::{TaskId, TaskRecord};

/// The place of the status in a row of `list`, behind an id.
const STATUS_AT: usize = 38;

pub(super) async fn list(target: &Target, filter: args::List, out: &Out) -> Result<End> {
    let args::List { status, task: name, queue, tag, parent, limit, cursor } = filter;
    let parent = match parent {
        Some(parent) => Some(find::id(target, &parent).await?),
        None => None,
    };
    let limit = usize::from(limit);
    let listed = target.list(List { status, name, queue, tag, parent, cursor, limit }).await?;
    if out.json {
        out.json(&listed)?;
        return Ok(End::Done);
    }
    if listed.tasks.is_empty() {
        out.note("no such tasks");
        return Ok(End::Done);
    }
    let mut rows = vec![["ID", "STATUS", "TASK", "QUEUE", "ATTEMPT", "VALUES", "ADDED"].map(str::to_owned).to_vec()];
    rows.extend(listed.tasks.iter().map(row));
    for (at, line) in table::lines(&rows).iter().enumerate() {
        let Some(record) = at.checked_sub(1).and_then(|at| listed.tasks.get(at)) else {
            out.coloured(&[(Style::new(), line)])?;
            continue;
        };
        let (id, rest) = line.split_at(STATUS_AT);
        let (status, rest) = rest.split_at(record.status.as_str().len());
        out.coloured(&[(Style::new(), id), (table::style(record.status), status), (Style::new(), rest)])?;
    }
    if let Some(next) = listed.next {
        out.note(format_args!("there are more: --cursor {next}"));
    }
    Ok(End::Done)
}

fn row(record: &TaskRecord) -> Vec<String> {
    let TaskRecord { id, status, name, queue, attempt, yields, created_at, .. } = record;
    let ago = SystemTime::now().duration_since(*created_at).unwrap_or_default();
    vec![
        id.to_string(),
        status.to_string(),
        name.clone(),
        queue.clone(),
        attempt.to_string(),
        yields.to_string(),
        format!("{} ago", span(ago.as_secs())),
    ]
}

/// A time in its largest unit.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

pub(super) async fn show(target: &Target, id: &args::Id, out: &Out) -> Result<End> {
    let record = target.record(find::id(target, &id.id).await?).await?;
    if out.json {
        out.json(&record)?;
        return Ok(End::Done);
    }
    let time = |at: SystemTime| humantime::format_rfc3339_seconds(at).to_string();
    let fields = [
        ("id", Some(record.id.to_string())),
        ("task", Some(record.name.clone())),
        ("status", Some(record.status.to_string())),
        ("reason", record.cancel_reason.clone()),
        ("error", record.error.as_ref().map(ToString::to_string)),
        ("arguments", Some(record.args.to_string())),
        ("values", Some(record.yields.to_string())),
        ("final value", record.final_value.as_ref().map(ToString::to_string)),
        ("queue", Some(record.queue.clone())),
        ("priority", Some(record.priority.to_string())),
        ("tags", (!record.tags.is_empty()).then(|| record.tags.join(", "))),
        ("attempt", Some(record.attempt.to_string())),
        ("worker", record.worker.clone()),
        ("log entries", Some(record.tail.to_string())),
        ("added", Some(time(record.created_at))),
        ("due", record.due_at.map(time)),
        ("expires", record.expires_at.map(time)),
        ("started", record.started_at.map(time)),
        ("ended", record.completed_at.map(time)),
        ("retry of", record.retry_of.map(|id| id.to_string())),
        ("parent", record.parent.map(|id| id.to_string())),
    ];
    let there = fields.into_iter().filter_map(|(name, value)| Some(vec![name.to_owned(), value?]));
    for line in table::lines(&there.collect::<Vec<_>>()) {
        out.data(line)?;
    }
    Ok(End::Done)
}

/// A word, or in JSON the record.
async fn answer(target: &Target, id: TaskId, word: &str, out: &Out) -> Result<End> {
    match out.json {
        true => out.json(&target.record(id).await?)?,
        false => out.data(word)?,
    }
    Ok(End::Done)
}

pub(super) async fn cancel(target: &Target, id: &args::Id, reason: String, out: &Out) -> Result<End> {
    let id = find::id(target, &id.id).await?;
    let word = match target.cancel(id, reason).await? {
        Cancelled::Done => "cancelled",
        Cancelled::Asked => {
            out.note(format_args!("task {id} is running: its worker ends it at its next value or await"));
            "asked"
        }
        Cancelled::Ended(status) => {
            out.note(format_args!("task {id} had ended before"));
            status.as_str()
        }
    };
    answer(target, id, word, out).await
}

pub(super) async fn retry(target: &Target, id: &args::Id, out: &Out) -> Result<End> {
    let again = target.retry(find::id(target, &id.id).await?).await?;
    answer(target, again, &again.to_string(), out).await
}

pub(super) async fn start(target: &Target, id: &args::Id, out: &Out) -> Result<End> {
    let id = find::id(target, &id.id).await?;
    let status = target.start(id).await?;
    answer(target, id, status.as_str(), out).await
}

/// The task functions of this program, and those of the store, if it is there.
pub(super) async fn functions(url: &str, builder: Builder, out: &Out) -> Result<End> {
    let own = builder.store.is_some() || target::is_server(url);
    let functions = match own || (!target::is_memory(url) && target::is_there(url)) {
        true => {
            let target = Target::open(url, builder).await?;
            let functions = target.functions().await;
            target.close().await;
            functions?
        }
        false => target::linked(&builder.store("memory:").open().await?),
    };
    if out.json {
        out.json(&serde_json::json!({ "tasks": functions }))?;
        return Ok(End::Done);
    }
    if functions.is_empty() {
        out.note(format_args!("no task functions: this program has none, and no worker has made any known in `{url}`"));
    }
    let row = |function: &Function| {
        let describes = function.description.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
        vec![format!("{}{}", function.name, signature(function)), describes.to_owned()]
    };
    for line in table::lines(&functions.iter().map(row).collect::<Vec<_>>()) {
        out.data(line)?;
    }
    Ok(End::Done)
}

/// `(to: u32, step: u32 = 1)`.
fn signature(function: &Function) -> String {
    let args = function.args.iter().map(|arg| match (&arg.default, arg.required) {
        (Some(default), _) => format!("{}: {} = {default}", arg.name, arg.ty),
        (None, true) => format!("{}: {}", arg.name, arg.ty),
        (None, false) => format!("{}: {} = …", arg.name, arg.ty),
    });
    format!("({})", args.collect::<Vec<_>>().join(", "))
}
