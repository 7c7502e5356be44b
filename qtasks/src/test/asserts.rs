//! [`assert_yields!`](crate::assert_yields) and [`assert_added!`](crate::assert_added).

use std::fmt::Debug;

use serde_json::Value;

use super::app::TestApp;
use super::run::InlineRun;
use crate::task::{Generates, Task, TaskFn};

/// What has yielded: a finished [`Task`], an [`InlineRun`], or values of one's own.
pub trait Yielded {
    /// Its values.
    type Value;
    /// They, in order.
    fn yielded(&self) -> &[Self::Value];
}

impl<F: Generates + TaskFn<Returning = Vec<<F as TaskFn>::Yield>>> Yielded for Task<F> {
    type Value = F::Yield;
    fn yielded(&self) -> &[F::Yield] {
        &self.returning
    }
}

impl<F: TaskFn> Yielded for InlineRun<F> {
    type Value = F::Yield;
    fn yielded(&self) -> &[F::Yield] {
        &self.yields
    }
}

impl<T> Yielded for Vec<T> {
    type Value = T;
    fn yielded(&self) -> &[T] {
        self
    }
}

/// Asserts what a finished task, or a run in place, yielded: `assert_yields!(task, [8, 9, 10])`.
///
/// # Panics
/// If it yielded other values, with the first place at which they differ.
#[macro_export]
macro_rules! assert_yields {
    ($yielded:expr, $expected:expr $(,)?) => {
        $crate::test::same(&$yielded, &$expected[..])
    };
}

/// Asserts that a task was added to a [test app](crate::test::app), by whoever, with these arguments as JSON, so many
/// times: `assert_added!(app, "send_mail")` at least once, `assert_added!(app, "send_mail", { "to": "ada" })` at least
/// once with these, `assert_added!(app, "send_mail", { "to": "ada" }, 2)` twice with these,
/// `assert_added!(app, "send_mail", times = 0)` never.
///
/// # Panics
/// If not, with what was added.
#[macro_export]
macro_rules! assert_added {
    ($app:expr, $name:expr $(,)?) => {
        $crate::test::was_added(&$app, $name, ::core::option::Option::None, ::core::option::Option::None)
    };
    ($app:expr, $name:expr, times = $times:expr $(,)?) => {
        $crate::test::was_added(&$app, $name, ::core::option::Option::None, ::core::option::Option::Some($times))
    };
    ($app:expr, $name:expr, $args:tt $(,)?) => {
        $crate::test::was_added(
            &$app,
            $name,
            ::core::option::Option::Some($crate::test::json!($args)),
            ::core::option::Option::None,
        )
    };
    ($app:expr, $name:expr, $args:tt, $times:expr $(,)?) => {
        $crate::test::was_added(
            &$app,
            $name,
            ::core::option::Option::Some($crate::test::json!($args)),
            ::core::option::Option::Some($times),
        )
    };
}

#[doc(hidden)]
#[track_caller]
pub fn same<Y: Yielded, T: Debug>(yielded: &Y, expected: &[T])
where
    Y::Value: Debug + PartialEq<T>,
{
    let yielded = yielded.yielded();
    let differs = yielded.iter().zip(expected).position(|(value, expected)| value != expected);
    let shorter = yielded.len().min(expected.len());
    let at = differs.or((yielded.len() != expected.len()).then_some(shorter));
    let Some(at) = at else { return };
    let shown = |value: Option<&dyn Debug>| value.map_or_else(|| "nothing".to_owned(), |value| format!("{value:?}"));
    let is = shown(yielded.get(at).map(|value| value as &dyn Debug));
    let expects = shown(expected.get(at).map(|value| value as &dyn Debug));
    panic!("at index {at} there is {is}, where {expects} is expected\n yielded: {yielded:?}\nexpected: {expected:?}");
}

#[doc(hidden)]
#[track_caller]
pub fn was_added(app: &TestApp, name: &str, args: Option<Value>, times: Option<usize>) {
    let added = app.added();
    let named: Vec<_> = added.iter().filter(|added| added.name == name).collect();
    let matches = |given: &Value| args.as_ref().is_none_or(|args| same_args(app, name, given, args));
    let found = named.iter().filter(|added| added.args.get::<Value>().is_ok_and(|given| matches(&given))).count();
    if times.map_or(found > 0, |times| found == times) {
        return;
    }
    let with = args.map_or_else(String::new, |args| format!(" with {args}"));
    let wanted = times.map_or_else(|| "at least once".to_owned(), |times| format!("{times} times"));
    let mut message = format!("`{name}` was added{with} {found} times, where {wanted} is expected");
    let mut list = |what: &str, all: Vec<String>| {
        if !all.is_empty() {
            message.push_str(&format!("\n{what}: {}", all.join(", ")));
        }
    };
    list("its arguments", named.iter().map(|added| added.args.to_string()).collect());
    let others: std::collections::BTreeSet<_> = added.iter().filter(|a| a.name != name).map(|a| &a.name).collect();
    list("others that were added", others.into_iter().map(|name| format!("`{name}`")).collect());
    if added.is_empty() {
        message.push_str("\nnothing was added");
    }
    panic!("{message}");
}

/// Whether arguments are the same, which may be given by name or by position.
fn same_args(app: &TestApp, name: &str, given: &Value, expected: &Value) -> bool {
    let spec = app.registered().find(|(known, _)| *known == name).map(|(_, spec)| spec);
    let named = |args: &Value| match (args, spec) {
        (Value::Array(values), Some(spec)) if values.len() <= spec.args.len() => {
            let names = spec.args.iter().map(|arg| arg.name.to_owned());
            Value::Object(names.zip(values.iter().cloned()).collect())
        }
        _ => args.clone(),
    };
    named(given) == named(expected)
}
