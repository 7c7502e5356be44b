//! [`Middleware`]: what is done around every attempt, whatever its task.
//!
//! From the outside in: the time limit, the middlewares of the app in the order in which they were given, those of the
//! task, its executor, its body, and for each item its handler.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Cx, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::value::RawValue;
use tower_layer::Layer;
use tower_service::Service;

use crate::context::Context;
use crate::json::Json;
use crate::task::{FailureKind, TaskFailure, TaskSpec};
use crate::worker::Stop;

/// Something around the attempts of an app, by [`Builder::layer`](crate::Builder::layer), or of one task function, by
/// [`TaskSpec::layer`].
///
/// A middleware that panics fails the attempt with the kind `middleware`.
///
/// # Examples
/// ```
/// use qtasks::{Attempt, AttemptOutcome, BoxFuture, Middleware, Next};
///
/// /// Says how long attempts take.
/// #[derive(Debug)]
/// struct Timed;
///
/// impl Middleware for Timed {
///     fn attempt<'a>(&'a self, attempt: Attempt, next: Next) -> BoxFuture<'a, AttemptOutcome> {
///         Box::pin(async move {
///             let (name, start) = (attempt.context().name().to_owned(), std::time::Instant::now());
///             let outcome = next.run(attempt).await;
///             eprintln!("{name} took {:?}", start.elapsed());
///             outcome
///         })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a middleware",
    note = "implement `Middleware` for it, or wrap a layer of tower in `Tower::new(…)`"
)]
pub trait Middleware: fmt::Debug + Send + Sync + 'static {
    /// Runs an attempt, by `next.run(attempt)`; may do something before and after it, end it with another outcome, or
    /// not begin it at all. Dropping the future of `next` drops the body.
    fn attempt<'a>(&'a self, attempt: Attempt, next: Next) -> BoxFuture<'a, AttemptOutcome> {
        next.run(attempt).boxed()
    }

    /// Sees each value that is new, just before it is stored. It runs where the body does, between two values: let it
    /// be quick. Values that a second attempt finds in the log are not seen again.
    fn on_yield(&self, attempt: &Context, index: u64, value: &RawValue) {
        let _ = (attempt, index, value);
    }
}

/// One attempt at a task, that has not begun.
pub struct Attempt {
    spec: Arc<TaskSpec>,
    context: Context,
    args: Json,
    body: BoxFuture<'static, AttemptOutcome>,
    /// For what comes through a tower service.
    next: Option<Next>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Attempt {
    pub(crate) fn new(
        spec: Arc<TaskSpec>,
        context: Context,
        args: Json,
        body: BoxFuture<'static, AttemptOutcome>,
    ) -> Self {
        Attempt { spec, context, args, body, next: None }
    }

    /// What is registered of the task function.
    pub fn spec(&self) -> &TaskSpec {
        &self.spec
    }

    /// What the body can know and do: the id of the task, its attempt, custom events.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The arguments, as they are stored.
    pub fn args(&self) -> &Json {
        &self.args
    }
}

/// How an attempt ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// The body came to its end, and returned this, if anything.
    Completed(Option<Json>),
    /// It failed; whether another attempt follows is for the retry policy to say.
    Failed(TaskFailure),
    /// It was told to stop: cancelled, given back, or lost to another worker. It can only be handed on.
    Stopped(Stopped),
}

/// Why an attempt was told to stop.
#[derive(Debug)]
pub struct Stopped(pub(crate) Stop);

impl Stopped {
    /// The reason of the cancel, if it was one.
    pub fn cancelled(&self) -> Option<&str> {
        match &self.0 {
            Stop::Cancel(reason) => Some(reason),
            _ => None,
        }
    }
}

/// What is inside of a middleware.
#[derive(Clone)]
pub struct Next {
    layers: Arc<[Arc<dyn Middleware>]>,
    at: usize,
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.layers[self.at..]).finish()
    }
}

impl Next {
    pub(crate) fn new(layers: Arc<[Arc<dyn Middleware>]>) -> Self {
        Next { layers, at: 0 }
    }

    /// Runs the attempt through what is inside.
    pub async fn run(self, attempt: Attempt) -> AttemptOutcome {
        let Next { layers, at } = self;
        match layers.get(at).map(Arc::clone) {
            Some(layer) => layer.attempt(attempt, Next { layers, at: at + 1 }).await,
            None => attempt.body.await,
        }
    }
}

/// A middleware that an attribute names.
#[derive(Clone, Copy)]
pub struct MiddlewareSpec {
    name: &'static str,
    make: fn() -> Arc<dyn Middleware>,
}

impl MiddlewareSpec {
    #[doc(hidden)]
    pub const fn new(name: &'static str, make: fn() -> Arc<dyn Middleware>) -> Self {
        MiddlewareSpec { name, make }
    }

    /// As it is written.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn make(&self) -> Arc<dyn Middleware> {
        (self.make)()
    }
}

impl fmt::Debug for MiddlewareSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl serde::Serialize for MiddlewareSpec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

/// What an error of a tower layer is read as.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The innermost service for the layers of tower: it runs an [`Attempt`].
#[derive(Debug, Clone, Copy, Default)]
pub struct AttemptService(());

impl Service<Attempt> for AttemptService {
    type Response = AttemptOutcome;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<AttemptOutcome, BoxError>>;

    fn poll_ready(&mut self, _: &mut Cx<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut attempt: Attempt) -> Self::Future {
        Box::pin(async move {
            match attempt.next.take() {
                Some(next) => Ok(next.run(attempt).await),
                None => Ok(attempt.body.await),
            }
        })
    }
}

/// A layer of tower as a [`Middleware`]: `.layer(Tower::new(TimeoutLayer::new(d)))`.
///
/// Its service is made once, and cloned for each attempt. An error of it fails the attempt with the kind
/// `middleware`. The request is an [`Attempt`], which can't be cloned, as a body can't be begun twice.
pub struct Tower<S>(Mutex<S>);

impl<S> Tower<S> {
    /// The middleware of a layer.
    pub fn new<L: Layer<AttemptService, Service = S>>(layer: L) -> Self {
        Tower(Mutex::new(layer.layer(AttemptService::default())))
    }
}

impl<S> fmt::Debug for Tower<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tower<{}>", std::any::type_name::<S>())
    }
}

impl<S> Middleware for Tower<S>
where
    S: Service<Attempt, Response = AttemptOutcome, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
{
    fn attempt<'a>(&'a self, mut attempt: Attempt, next: Next) -> BoxFuture<'a, AttemptOutcome> {
        let mut service = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        attempt.next = Some(next);
        Box::pin(async move {
            let called = async {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                service.call(attempt).await
            };
            called.await.unwrap_or_else(|error| {
                let error: BoxError = error.into();
                AttemptOutcome::Failed(TaskFailure::of(FailureKind::Middleware, &error))
            })
        })
    }
}
