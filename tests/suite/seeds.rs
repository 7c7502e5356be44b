//! The examples of the systems that qtasks grew from, each named after its page's function and with its body as written
//! there, in every form that it can be written in: collected, streamed live, read late, and added by name.

use std::fmt::Debug;

use futures::future::LocalBoxFuture;
use qtasks::prelude::*;
use qtasks::{AddTask, Generates, Qtasks, TaskId};
use serde::Serialize;
use serde_json::Value;

use crate::soon;

mod coordinator;
mod qtasks_pages;
mod rows;
mod simple_queue;
mod stream_tasks;

/// Serves these routes over HTTP as long as the suite runs, on a thread of its own: bodies that block ask it too.
fn serve(routes: axum::Router) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, routes).await.unwrap();
        });
    });
    url
}

/// JSON as no serialiser writes it.
const DATA: &str = r#"{"n": 1,  "f": 1.50, "name": "эдгар"}"#;

/// What the page's `https://api.example.com` answers: data at `/data`, and an error at `/broken`.
fn api() -> String {
    use axum::http::{StatusCode, header};
    use axum::routing::get;
    let json = [(header::CONTENT_TYPE, "application/json")];
    let data = async move || (json, DATA);
    let broken = async || (StatusCode::INTERNAL_SERVER_ERROR, "out of order");
    serve(axum::Router::new().route("/data", get(data)).route("/broken", get(broken)))
}

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
        let spec = $form::$name::spec();
        let app = $crate::app_of([spec]).await;
        let typed = $crate::seeds::typed($form::$name::add_task($($arg.clone()),*).on(&app)).await;
        $crate::seeds::shows(&app, spec.name, stringify!($form), typed, &$args, &$expected).await;
        spec
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

/// What a task yields, streamed live and collected. Made for each form: boxed, it takes half as long to build.
fn typed<F>(task: AddTask<F>) -> LocalBoxFuture<'static, (TaskId, Value, Value)>
where
    F: Generates + TaskFn<Returning = Vec<<F as TaskFn>::Yield>>,
    F::Yield: Serialize,
{
    Box::pin(async move {
        let handle = task.await.unwrap();
        let mut live = handle.stream();
        let mut seen = Vec::new();
        while let Some(value) = live.try_next().await.unwrap() {
            seen.push(value);
        }
        let task = handle.wait().await.unwrap();
        (task.id, serde_json::to_value(seen).unwrap(), serde_json::to_value(task.returning).unwrap())
    })
}

/// Holds against what is expected: what came live and collected, what one reads who is late, and what comes of the same
/// task added by name.
async fn shows(
    app: &Qtasks,
    name: &str,
    form: &str,
    (id, live, collected): (TaskId, Value, Value),
    args: &Value,
    expected: &Value,
) {
    assert_eq!(live, *expected, "{form}, live");
    assert_eq!(collected, *expected, "{form}, collected");
    let late: Vec<Value> = app.task(id).await.unwrap().stream().try_collect().await.unwrap();
    assert_eq!(Value::from(late), *expected, "{form}, late");
    let named = app.add_task(name, args).timeout(soon()).await.unwrap();
    assert_eq!(Value::from(named.returning), *expected, "{form}, by name");
    let live: Vec<Value> = app.add_task(name, args).await.unwrap().stream().try_collect().await.unwrap();
    assert_eq!(Value::from(live), *expected, "{form}, by name and live");
}
