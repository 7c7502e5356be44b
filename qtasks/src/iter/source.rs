//! [`Source`]: the arguments of an [`Iter`](super::Iter), each read when it is needed.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;

use futures::{FutureExt as _, StreamExt as _};

use super::Lazy;
use crate::add_task::Names;
use crate::args::with_value;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::panics::{caught, dropped, panicked};

/// The arguments, in order.
pub(super) struct Source {
    pub(super) lazy: Option<Lazy>,
    pub(super) appended: VecDeque<Result<Json>>,
    /// What all have in common, by name.
    pub(super) with: Vec<(String, Json)>,
    /// How many have been read.
    pub(super) read: u64,
}

impl Source {
    /// The arguments of the next item: those of the iterator or stream, then those that were appended.
    pub(super) async fn next(&mut self, names: Option<&Names>) -> Result<Option<Json>> {
        // The macro's own come by name already.
        let mut typed = false;
        let lazy = match &mut self.lazy {
            Some(Lazy::Iterator(args)) => {
                typed = true;
                caught(|| args.next())
            }
            Some(Lazy::Stream(args)) => AssertUnwindSafe(args.next()).catch_unwind().await.map_err(panicked),
            None => Ok(None),
        };
        let lazy = lazy.map_err(|failure| {
            let message = format!("argument {} of the `Iter`: what makes it panicked: {}", self.read, failure.message);
            Error::invalid(message)
        })?;
        if lazy.is_none() {
            dropped(self.lazy.take(), "the arguments of an `Iter`");
            typed = false;
        }
        let Some(raw) = lazy.or_else(|| self.appended.pop_front()) else { return Ok(None) };
        let index = self.read;
        self.read += 1;
        let names = names.filter(|_| !typed);
        let args = raw.and_then(|raw| self.named(raw, names).map_err(Error::invalid));
        args.map(Some).map_err(|e| Error::new(e.kind(), format!("argument {index} of the `Iter`: {e}")))
    }

    /// The arguments by name.
    fn named(&self, raw: Json, names: Option<&Names>) -> Result<Json, String> {
        let Some(names) = names else {
            return self.with.iter().try_fold(raw, |args, (name, value)| with_value(&args, name, value));
        };
        if let Some((unknown, _)) = self.with.iter().find(|(name, _)| !names.contains(name)) {
            return Err(format!("`{unknown}` is not an argument of this task: it takes {}", names.join(", ")));
        }
        let left: Vec<&str> = names.iter().filter(|n| self.with.iter().all(|(w, _)| w != *n)).map(|n| &**n).collect();
        let given = given(&left, raw)?;
        let with = self.with.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let all: BTreeMap<&str, Json> = given.into_iter().chain(with).collect();
        Json::of(&all).map_err(|e| e.to_string())
    }
}

/// Which of the arguments `left` an item gives, and what.
fn given<'a>(left: &[&'a str], raw: Json) -> Result<Vec<(&'a str, Json)>, String> {
    match left {
        [] if matches!(raw.as_bytes(), b"null" | b"[]" | b"{}") => Ok(Vec::new()),
        [] => Err("this task takes no more arguments".to_owned()),
        [only] => Ok(vec![(*only, raw)]),
        _ if raw.as_bytes().starts_with(b"[") => {
            let values: Vec<Json> = raw.get().map_err(|e| e.to_string())?;
            if values.len() > left.len() {
                return Err(format!("{} values, for at most {} arguments", values.len(), left.len()));
            }
            Ok(left.iter().copied().zip(values).collect())
        }
        [first, ..] => {
            let map = raw.get::<BTreeMap<String, Json>>().ok();
            Ok(match map.filter(|map| !map.is_empty() && map.keys().all(|key| left.contains(&key.as_str()))) {
                Some(mut map) => left.iter().filter_map(|name| Some((*name, map.remove(*name)?))).collect(),
                None => vec![(*first, raw)],
            })
        }
    }
}
