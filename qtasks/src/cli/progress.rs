//! [`Progress`]: how far a task is, as its values and events tell; and the bar that shows it.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::out::Out;
use crate::visible;

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    done: u64,
    total: u64,
}

impl Progress {
    /// Of an object `current` (or `step`) of `total` (or `total_steps`), or `percent` (or `percentage`); of text, or
    /// the `message` or `progress` of an object, the first `n/m`.
    pub(super) fn of(value: &Value) -> Option<Self> {
        let Value::Object(fields) = value else { return Self::of_text(value.as_str()?) };
        let number = |names: [&str; 2]| names.iter().find_map(|name| fields.get(*name)?.as_f64());
        let parts = number(["current", "step"]).zip(number(["total", "total_steps"]));
        let percent = || number(["percent", "percentage"]).map(|percent| (percent, 100.0));
        let text = || ["progress", "message"].iter().find_map(|name| Self::of_text(fields.get(*name)?.as_str()?));
        parts.or_else(percent).and_then(|(done, total)| Self::new(done, total)).or_else(text)
    }

    fn new(done: f64, total: f64) -> Option<Self> {
        let holds = total >= 1.0 && (0.0..=total).contains(&done);
        // A number of floating point saturates.
        holds.then_some(Progress { done: done as u64, total: total as u64 })
    }

    /// `3/10`, but no date and no path.
    fn of_text(text: &str) -> Option<Self> {
        let apart = |c: char| !(c.is_alphanumeric() || "/.-_".contains(c));
        text.split(apart).find_map(|word| {
            let (done, total) = word.trim_end_matches('.').split_once('/')?;
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            if !(digits(done) && digits(total)) {
                return None;
            }
            Self::new(done.parse().ok()?, total.parse().ok()?)
        })
    }
}

/// A bar on stderr, if anybody sees it there.
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    pub(super) fn new(out: &Out) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb") || std::env::var_os("CI").is_some();
        let seen = !out.quiet && !dumb && std::io::stderr().is_terminal();
        Bar(seen.then(|| {
            let bar = ProgressBar::no_length();
            bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("a template"));
            bar.set_message("waiting");
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        }))
    }

    pub(super) fn is_seen(&self) -> bool {
        self.0.is_some()
    }

    /// What the task does, as long as it does not say how far it is.
    pub(super) fn says(&self, what: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(visible::escaped(what).into_owned());
        }
    }

    pub(super) fn show(&self, progress: Progress) {
        let Some(bar) = &self.0 else { return };
        if bar.length() != Some(progress.total) {
            let template = "{bar:40} {pos}/{len} {percent}% {elapsed} {msg}";
            bar.set_style(ProgressStyle::with_template(template).expect("a template"));
            bar.set_length(progress.total);
        }
        bar.set_position(progress.done);
    }

    /// Writes data: where that goes elsewhere, the bar need not make room.
    pub(super) fn data<T>(&self, write: impl FnOnce() -> T) -> T {
        match std::io::stdout().is_terminal() {
            true => self.aside(write),
            false => write(),
        }
    }

    /// Writes something else where the bar is.
    pub(super) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn progress_is_found_where_it_is_said() {
        for (value, done, total) in [
            (json!({ "current": 3, "total": 10 }), 3, 10),
            (json!({ "step": 3, "total_steps": 10, "percentage": 31 }), 3, 10),
            (json!({ "percent": 42.7 }), 42, 100),
            (json!({ "percentage": 100 }), 100, 100),
            (json!("row 3/10 is done"), 3, 10),
            (json!("(3/10)"), 3, 10),
            (json!("3/10."), 3, 10),
            (json!({ "message": "page 7/9" }), 7, 9),
        ] {
            assert_eq!(Progress::of(&value), Some(Progress { done, total }), "{value}");
        }
        for value in [
            json!(5),
            json!("2024/05/01"),
            json!("10/3"),
            json!("/1/2"),
            json!("a/1"),
            json!("1/0"),
            json!({ "current": 3 }),
            json!({ "current": 11, "total": 10 }),
            json!({ "percent": -1 }),
            json!([3, 10]),
        ] {
            assert_eq!(Progress::of(&value), None, "{value}");
        }
    }
}
