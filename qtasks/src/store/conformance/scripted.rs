//! [`Scripted`]: a store with which exactly those calls go wrong that a test names.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::wrapping::operations;
use super::*;

/// Which calls go wrong, and how: `Script::new().fail(Operation::Append, 3).lose(Operation::Append, 5)`.
#[derive(Debug, Clone, Default)]
pub struct Script(Vec<Line>);

#[derive(Debug, Clone, Copy)]
struct Line {
    operation: Operation,
    nth: u64,
    /// It is done, and its answer is lost.
    done: bool,
}

impl Script {
    /// Nothing goes wrong.
    pub fn new() -> Self {
        Script::default()
    }

    /// The `nth` call of an operation, counted from 1, fails before anything is done.
    #[must_use]
    pub fn fail(self, operation: Operation, nth: u64) -> Self {
        self.line(operation, nth, false)
    }

    /// The `nth` call of an operation, counted from 1, is done, and its answer is lost.
    #[must_use]
    pub fn lose(self, operation: Operation, nth: u64) -> Self {
        self.line(operation, nth, true)
    }

    fn line(mut self, operation: Operation, nth: u64, done: bool) -> Self {
        self.0.push(Line { operation, nth, done });
        self
    }
}

/// A store that follows a [`Script`]: what that names fails with [`Unavailable`](ErrorKind::Unavailable), all else goes
/// as it goes.
#[derive(Debug)]
pub struct Scripted {
    store: Arc<dyn Store>,
    /// Shared by those of all runtimes.
    play: Arc<Play>,
}

#[derive(Debug, Default)]
struct Play {
    script: Script,
    calls: Mutex<HashMap<Operation, u64>>,
}

impl Scripted {
    /// Wraps a store.
    pub fn new(store: Arc<dyn Store>, script: Script) -> Arc<Self> {
        Arc::new(Scripted { store, play: Arc::new(Play { script, calls: Mutex::default() }) })
    }

    /// How often an operation was called so far: a test can see whether its script was played to the end.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.play.calls.lock().unwrap_or_else(PoisonError::into_inner).get(&operation).copied().unwrap_or_default()
    }

    fn scripted<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        call: impl FnOnce() -> Answer<'a, T> + Send + 'a,
    ) -> Answer<'a, T> {
        let nth = {
            let mut calls = self.play.calls.lock().unwrap_or_else(PoisonError::into_inner);
            let nth = calls.entry(operation).or_default();
            *nth += 1;
            *nth
        };
        let line = self.play.script.0.iter().find(|line| line.operation == operation && line.nth == nth).copied();
        Box::pin(async move {
            let Some(line) = line else { return call().await };
            let what = if line.done { "its answer is lost" } else { "it fails" };
            if line.done {
                drop(call().await);
            }
            Err(Error::new(ErrorKind::Unavailable, format!("{operation:?}, call {nth}: {what}, as the script says")))
        })
    }
}

macro_rules! scripted {
    ($($variant:ident $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => { $(
        fn $name(&self, $($arg: $ty),*) -> Answer<'_, $out> {
            self.scripted(Operation::$variant, move || self.store.$name($($arg),*))
        }
    )* };
}

impl Store for Scripted {
    operations!(scripted);

    fn watch(&self, interest: Arc<Interest>) -> Answer<'_, Hints> {
        self.scripted(Operation::Watch, move || self.store.watch(interest))
    }

    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        let wrapped = async move {
            let store = self.store.on_this_runtime().await?;
            Ok(Arc::new(Scripted { store, play: Arc::clone(&self.play) }) as Arc<dyn Store>)
        };
        self.scripted(Operation::OnThisRuntime, move || Box::pin(wrapped))
    }

    fn durability(&self) -> &'static str {
        self.store.durability()
    }

    fn retention(&self) -> Prune {
        self.store.retention()
    }

    fn now(&self) -> Option<std::time::SystemTime> {
        self.store.now()
    }
}
