//! The macros of qtasks: `#[task]` and `tasks!( … )`. Use them through that crate, which documents and re-exports
//! them.
//!
//! Parse (`args`, `input`) → understand (`model`, with `params`, `body`, `yields` and `types`) → expand (`expand`, or
//! `fallback` where there are errors). Both macros, and all forms of a task, go the one way through it.

use proc_macro::TokenStream;
use quote::quote;
use syn::parse::Parser as _;

mod args;
mod body;
mod errors;
mod expand;
mod fallback;
mod input;
mod model;
mod params;
mod receiver;
mod retry;
mod schedule;
mod stream_task;
mod types;
mod yields;

use args::Args;
use errors::Errors;
use input::{Function, Item};
use model::Model;

/// Makes a task of a function: it can then be run by a worker, here or in another process.
///
/// `#[task] async fn send(to: String) -> u64 { … }` leaves the function `send`, which can be called as before, and adds
/// a type `send` of the same name, which implements `TaskFn` and has
///
/// - `send::add_task(to)`, which takes the function's own arguments, by value, and sends them to a worker,
/// - `send::NAME`, the name under which workers know it,
/// - `send::spec()`, what is registered of it.
///
/// One `use` imports both.
///
/// # A function that yields
///
/// A body with [`yield_!`](https://docs.rs/qtasks/latest/qtasks/macro.yield_.html) in it is a generator. Then `-> T` is
/// the type of what it yields, and a direct call returns a `Stream` of `T` (an `Iterator`, of a function that is not
/// `async`), to be tested without any queue:
///
/// ```
/// use qtasks::prelude::*;
///
/// /// Counts up.
/// #[task]
/// async fn count(n: i64) -> i64 {
///     for i in 0..n {
///         yield_!(i);
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let direct: Vec<i64> = count(3).collect().await;
/// assert_eq!(direct, [0, 1, 2]);
/// assert!(count::spec().generating);
/// # }
/// ```
///
/// | declared | yields | and |
/// | --- | --- | --- |
/// | `async fn f() -> T`, `fn f() -> T`, without a yield | nothing | returns `T`; sync ones may block |
/// | `async fn f() -> Result<T, E>`, without a yield | nothing | returns `T`; an `Err` fails the task |
/// | `-> T`, with `yield_!(value)` | `T` | ends without a value |
/// | `-> Result<T, E>`, with `yield_!(value)` | `T` | `?` and `return Err(e)` fail the task |
/// | `#[task(yield = T)] … -> R` or `-> Result<R, E>` | `T` | returns `R`: the task's `final_value` |
/// | `-> impl Stream<Item = T>`, `BoxStream<'static, T>`, also of an `async fn` | `T` | of a `Result`, an `Err` fails the task |
/// | `-> impl Iterator<Item = T>`, `Box<dyn Iterator<Item = T>>` | `T` | the same |
/// | `#[task(stream)]`, `#[task(iterator)]` | its items | for streams and iterators of other types, such as `Vec<T>` |
/// | `gen fn`, `async gen fn` and bare `yield` | as above | on stable Rust in [`tasks!`]; on nightly also here |
///
/// An error may be anything that implements `Display`. `yield_!` may stand anywhere in the body, also among the tokens of
/// other macros, but not in a closure, an `async` block or an inner function. A body of a sync function may hold what
/// is not `Send`.
///
/// ```
/// use qtasks::prelude::*;
///
/// #[task(yield = u64)]
/// async fn import(lines: Vec<String>) -> Result<usize, std::num::ParseIntError> {
///     let mut count = 0;
///     for line in lines {
///         yield_!(line.trim().parse()?);
///         count += 1;
///     }
///     Ok(count)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let mut values = std::pin::pin!(import(vec!["1".into(), " 2".into()]));
/// assert_eq!(values.as_mut().collect::<Vec<_>>().await, [1, 2]);
/// assert_eq!(values.take_return(), Some(Ok(2)));
/// # }
/// ```
///
/// # Parameters
///
/// Every parameter is an argument that travels as JSON (`Serialize`, `Deserialize`, `Send`, and it owns its data), save
/// those that the worker supplies. Their types are told by their last path segment:
///
/// | parameter | is |
/// | --- | --- |
/// | `ctx: Context`, `ctx: &Context` | the task's context: id, events, cancelling |
/// | `db: State<T>` | what the app was given by `.state(value)` |
/// | `from: Resume<T>` | where a second attempt goes on; then nothing is replayed |
/// | `#[context] own: Own` | anything that implements `FromContext` |
/// | `#[default] n: u32`, `#[default = 3] n: u32` | an argument that JSON callers may leave out, like one of type `Option` |
/// | `#[serde(default)]`, `#[serde(default = "path")]`, `#[serde(rename = "name")]` | as serde has them |
///
/// ```
/// use qtasks::prelude::*;
///
/// struct Greeting(String);
///
/// #[task]
/// async fn greet(ctx: Context, greeting: State<Greeting>, name: String, #[default = 1] times: u32) -> String {
///     for _ in 0..times {
///         yield_!(format!("{}, {name} ({})", greeting.0, ctx.attempt()));
///     }
/// }
///
/// assert_eq!(greet::spec().args.len(), 2);
/// ```
///
/// # Arguments of the attribute
///
/// | argument | means | default |
/// | --- | --- | --- |
/// | `name = "…"` | the name under which workers know it: a literal, a constant or `concat!(…)` of 1 to 128 bytes of `[A-Za-z0-9_.:-]` | the function's name |
/// | `description = "…"` | what it does | the first paragraph of its docs |
/// | `generate_handler = path` | a function or closure that each yielded value goes through, one after the other: sync or async, fallible or not | none |
/// | `generate_handler = path -> U` | the same, where it makes another type of it. A closure may declare it: `\|x: i64\| -> String { … }` | |
/// | `yield = T` | what it yields; `-> R` is then what it returns after that | |
/// | `queue = "…"` | the queue of its tasks | `default` |
/// | `priority = n` | an `i16`: lower numbers first | 0 |
/// | `retry = n`, `retry = policy` | how failed attempts are retried: a number, or a constant `RetryPolicy` | not |
/// | `backoff = exponential("1s", max = "5m", jitter)`, `fixed("10s")`, `none` | the waits before further attempts; without `jitter` to the point | the first of them |
/// | `retry_on = path` | which failures are retried: `fn(&E) -> bool` of the error in the task's `Result`, or `fn(&TaskFailure) -> bool` | all that may help |
/// | `cron = "0 9 * * Mon-Fri"`, `timezone = "Europe/Berlin"` | runs by itself at times of day; arguments have their defaults | not; UTC |
/// | `every = "30s"`, `every = duration` | runs by itself at regular intervals | not |
/// | `time_limit = "30s"`, `time_limit = duration` | the longest an attempt may take: as text (`1h 30min`), or a constant `Duration` | none |
/// | `cancel_when_unwatched = "30s"` | cancelled, with the reason `unwatched`, when for so long no process has watched it; at least one and a half leases (15 s) | never |
/// | `idle_limit = "5s"` | the longest the body may take from one value to the next, and from its start to the first | none |
/// | `isolation = "process"` | runs each attempt in a child process: a crash, `exit` or an endless loop ends it alone | `"none"` |
/// | `concurrency = n` | how many of its tasks run at once, whichever workers run them | any number |
/// | `limit = "10/s"`, `limit = rate` | how many attempts at its tasks start in how long, whichever workers run them: as text (`100/m`, `5/10s`, `100/m, burst 20`), or a constant `Rate` | any number |
/// | `tags("a", "b")`, `tags = ["a", "b"]` | tags of each of its tasks | none |
/// | `on_retry = replay`, `on_retry = restart` | how a second attempt goes on: see below | `replay` |
/// | `yields_max = n` | the most values that may hold at once | the app's |
/// | `log_bytes_max = n` | the most bytes that its log may take | the app's |
/// | `keep = all`, `keep = last(n)` | which values are kept while it runs; the second only with `on_retry = restart` or a `Resume<T>` | `all` |
/// | `executor = path` | the `TaskExecutor` that runs it: a constant, or a unit struct | the app's |
/// | `middleware = path`, `= [a, b]` | what is around its attempts, inside of what the app has; each a `Middleware` | |
/// | `echo` | accepted for users of `QTasks`; needs a `ctx: Context` parameter | |
/// | `stream`, `iterator` | the function hands out a stream or an iterator of a type that can't be told by its name | |
/// | `crate = path` | where `qtasks` is found | `::qtasks` |
///
/// ```
/// use qtasks::prelude::*;
///
/// async fn shout(word: String) -> Result<String, std::fmt::Error> {
///     Ok(word.to_uppercase())
/// }
///
/// #[task(name = "text.words", generate_handler = shout, queue = "text", retry = 3, time_limit = "5min", tags("text"))]
/// fn words(text: String) -> String {
///     for word in text.split_whitespace() {
///         yield_!(word.to_owned());
///     }
/// }
///
/// assert_eq!(words::NAME, "text.words");
/// assert_eq!(words("a b".into()).count(), 2);
/// ```
///
/// # A second attempt
///
/// When a worker is lost or an attempt fails, the body runs again. By default (`replay`) what it yields again is compared
/// with what is stored, and skipped: so items need `Serialize`, also where a handler makes something else of them. With
/// `restart` the log is void from its start; with a `Resume<T>` parameter the body goes on by itself.
///
/// # Other attributes
///
/// `#[cfg]` applies to all of it; docs, lints, `#[must_use]` and `#[deprecated]` to the function. Any other attribute (such
/// as `#[tracing::instrument]`) is put on the body, if it stands below `#[task]`.
#[proc_macro_attribute]
pub fn task(args: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    if let Ok(stream_task) = syn::parse2::<syn::ItemImpl>(item.clone())
        && stream_task::is_one(&stream_task)
    {
        return stream_task::expand(args.into(), stream_task).into();
    }
    match syn::parse2::<Function>(item.clone()) {
        Ok(f) => one(args.into(), f).into(),
        Err(e) => {
            // No function, or one that does not parse: let rustc say what it thinks of it as well.
            let error = match syn::parse2::<syn::Item>(item.clone()) {
                Ok(other) if !matches!(other, syn::Item::Fn(_) | syn::Item::Verbatim(_)) => {
                    syn::Error::new_spanned(other, "`#[task]` goes on a function, or on an `impl StreamTask for …`")
                }
                _ => e,
            };
            let error = error.into_compile_error();
            quote!(#error #item).into()
        }
    }
}

/// A block of functions marked `#[task]`, in which bare `yield`, `gen fn` and `async gen fn` work on stable Rust.
///
/// Whatever else stands in it passes through, and `mod name { … }` is looked into. Write it with parentheses: rustfmt
/// formats what is in them, and leaves braces alone.
///
/// ```
/// use qtasks::prelude::*;
///
/// tasks!(
///     /// Squares.
///     #[task]
///     async gen fn squares(n: u64) -> u64 {
///         for i in 0..n {
///             yield i * i;
///         }
///     }
///
///     #[task]
///     fn words(text: String) -> String {
///         for word in text.split_whitespace() {
///             yield word.to_owned();
///         }
///     }
/// );
///
/// assert_eq!(words("a b".into()).collect::<Vec<_>>(), ["a", "b"]);
/// ```
#[proc_macro]
pub fn tasks(items: TokenStream) -> TokenStream {
    match input::items.parse(items) {
        Ok(items) => all(items).into(),
        Err(e) => e.into_compile_error().into(),
    }
}

/// Has a function told of a signal, whatever app of the program runs the task.
///
/// `#[receiver(after_loop)]` for the tasks of all functions, `#[receiver(after_loop, task = import_csv)]` for those of
/// one. The function takes the signal, `AfterLoop` here, and one of `after_loop` may take the value as well, read as
/// the type that it names. It may be sync or async, and answer nothing or a `Result`. See `qtasks::signals` for the
/// signals, and for what a receiver can and can't do.
///
/// ```
/// use qtasks::prelude::*;
/// use qtasks::signals::AfterLoop;
///
/// #[task]
/// async fn import(rows: u32) -> String {
///     for row in 0..rows {
///         yield_!(format!("row {row}"));
///     }
/// }
///
/// #[receiver(after_loop, task = import)]
/// fn shown(signal: AfterLoop, line: String) {
///     println!("{} {}: {line}", signal.task.id(), signal.iteration);
/// }
/// ```
#[proc_macro_attribute]
pub fn receiver(args: TokenStream, item: TokenStream) -> TokenStream {
    receiver::receiver(args.into(), &item.into()).into()
}

fn all(items: Vec<Item>) -> proc_macro2::TokenStream {
    let expanded = items.into_iter().map(|item| match item {
        Item::Task(args, f) => one(args, *f),
        Item::Module(head, items) => {
            let items = all(items);
            quote!(#head { #items })
        }
        Item::Other(tokens) => tokens,
    });
    expanded.collect()
}

/// One task: its errors, if any, and as much of it as they leave.
fn one(args: proc_macro2::TokenStream, f: Function) -> proc_macro2::TokenStream {
    let mut errors = Errors::default();
    let args = Args::parse(args, &mut errors);
    let out = match Model::of(args, f, &mut errors) {
        Ok(model) if errors.fatal => fallback::task(&model),
        Ok(model) => expand::expand(&model),
        Err(f) => fallback::function(&f),
    };
    let errors = errors.into_compile_errors();
    quote!(#errors #out)
}
