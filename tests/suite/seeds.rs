//! The examples of the systems that qtasks grew from, each named after its page's function and with its body as written
//! there, in every form that it can be written in: collected, streamed live, read late, and added by name.

use std::fmt::Debug;

use qtasks::prelude::*;
use qtasks::{AddTask, Generates, Qtasks};
use serde::Serialize;
use serde_json::Value;

use crate::soon;

mod coordinator;
mod qtasks_pages;
mod simple_queue;

/// Writes a task function in each form that has a body of its own, as modules with a function of the name in each, and
/// `every(arguments…, expected)`, which runs them all.
///
/// The body is given once with `yield_!`, for the attribute; once with bare `yield`, for `tasks!( … )`, `gen fn` and the
/// stream macro that is named; and once as an iterator.
macro_rules! forms {
    (
        #[task($($option:tt)*)]
        $(#[$($lint:tt)*])*
        fn $name:ident($($(#[$($attr:tt)*])* $([$mutable:ident])? $arg:ident: $type:ty),* $(,)?) -> $item:ty;
        attribute $attribute:tt
        block $block:tt
        own $stream:ident
        iterator $iterator:tt
    ) => {
        mod $name {
            use super::*;

            mod attribute_async {
                use super::*;
                #[task($($option)*)]
                $(#[$($lint)*])*
                pub(super) async fn $name($($(#[$($attr)*])* $($mutable)? $arg: $type),*) -> $item $attribute
            }
            mod attribute_sync {
                use super::*;
                #[task($($option)*)]
                $(#[$($lint)*])*
                pub(super) fn $name($($(#[$($attr)*])* $($mutable)? $arg: $type),*) -> $item $attribute
            }
            mod block_async {
                use super::*;
                tasks!(
                    #[task($($option)*)]
                    $(#[$($lint)*])*
                    pub(super) async fn $name($($(#[$($attr)*])* $($mutable)? $arg: $type),*) -> $item $block
                );
            }
            mod block_sync {
                use super::*;
                tasks!(
                    #[task($($option)*)]
                    $(#[$($lint)*])*
                    pub(super) fn $name($($(#[$($attr)*])* $($mutable)? $arg: $type),*) -> $item $block
                );
            }
            mod block_async_gen {
                use super::*;
                tasks!(
                    #[task($($option)*)]
                    $(#[$($lint)*])*
                    pub(super) async gen fn $name($($(#[$($attr)*])* $($mutable)? $arg: $type),*) -> $item $block
                );
            }
            mod block_gen {
                use super::*;
                tasks!(
                    #[task($($option)*)]
                    $(#[$($lint)*])*
                    pub(super) gen fn $name($($(#[$($attr)*])* $($mutable)? $arg: $type),*) -> $item $block
                );
            }
            mod own_stream {
                use super::*;
                #[task($($option)*)]
                $(#[$($lint)*])*
                pub(super) fn $name($($(#[$($attr)*])* $($mutable)? $arg: $type),*) -> impl qtasks::Stream<Item = $item> {
                    $stream! $block
                }
            }
            mod own_stream_async {
                use super::*;
                #[task($($option)*)]
                $(#[$($lint)*])*
                pub(super) async fn $name(
                    $($(#[$($attr)*])* $($mutable)? $arg: $type),*
                ) -> impl qtasks::Stream<Item = $item> {
                    $stream! $block
                }
            }
            mod own_iterator {
                use super::*;
                #[task($($option)*)]
                pub(super) fn $name($($(#[$($attr)*])* $arg: $type),*) -> impl Iterator<Item = $item> $iterator
            }

            pub(super) async fn every($($arg: $type,)* expected: impl serde::Serialize) -> Vec<&'static qtasks::TaskSpec> {
                let args = serde_json::json!({ $(stringify!($arg): $arg),* });
                let expected = serde_json::to_value(expected).unwrap();
                $crate::seeds::forms!(@check $name [$($arg)*] args expected:
                    attribute_async attribute_sync block_async block_sync block_async_gen block_gen own_stream
                    own_stream_async own_iterator
                )
            }
        }
    };
    (@check $name:ident $arguments:tt $args:ident $expected:ident: $($form:ident)*) => {
        vec![$($crate::seeds::forms!(@one $form $name $arguments $args $expected)),*]
    };
    (@one $form:ident $name:ident [$($arg:ident)*] $args:ident $expected:ident) => {{
        let app = $crate::app_of([$form::$name::spec()]).await;
        let add = || $form::$name::add_task($($arg.clone()),*);
        $crate::seeds::shows(&app, stringify!($form), add, &$args, &$expected).await;
        $form::$name::spec()
    }};
}
use forms;

/// What a task yields: collected, streamed live and read late, which is the same.
async fn seen<F>(app: &Qtasks, add: impl Fn() -> AddTask<F>) -> Vec<F::Yield>
where
    F: Generates + TaskFn<Returning = Vec<<F as TaskFn>::Yield>>,
    F::Yield: Debug + PartialEq,
{
    let task = add().on(app).timeout(soon()).await.unwrap();
    let handle = add().on(app).await.unwrap();
    let live: Vec<F::Yield> = handle.stream().try_collect().await.unwrap();
    let late: Vec<F::Yield> = handle.stream().try_collect().await.unwrap();
    assert_eq!(task.returning, live);
    assert_eq!(live, late);
    late
}

/// Runs a task in each way that there is, and holds what comes against what is expected.
async fn shows<F>(app: &Qtasks, form: &str, add: impl Fn() -> AddTask<F>, by_name: &Value, expected: &Value)
where
    F: Generates + TaskFn<Returning = Vec<<F as TaskFn>::Yield>>,
    F::Yield: Serialize,
{
    let json = |values: Vec<F::Yield>| serde_json::to_value(values).unwrap();
    let task = add().on(app).timeout(soon()).await.unwrap_or_else(|e| panic!("{form}: {e}"));
    assert_eq!(json(task.returning), *expected, "{form}, collected");
    let handle = add().on(app).await.unwrap();
    assert_eq!(json(handle.stream().try_collect().await.unwrap()), *expected, "{form}, live");
    assert_eq!(json(handle.stream().try_collect().await.unwrap()), *expected, "{form}, late");
    let named = app.add_task(F::NAME, by_name).timeout(soon()).await.unwrap();
    assert_eq!(Value::from(named.returning), *expected, "{form}, by name");
}
