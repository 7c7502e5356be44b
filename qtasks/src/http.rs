//! Tasks over HTTP: added, listed, cancelled, and watched live by browsers, `curl` and programs.
//!
//! [`service`] is a tower service for a router of one's own; [`Qtasks::serve`](crate::Qtasks::serve) has a listener of
//! its own, which speaks HTTP/1.1, and HTTP/2 where it is asked for (feature `http2`). What both answer:
//!
//! | route | scope | |
//! | --- | --- | --- |
//! | `POST /v1/tasks` | add | `{"task":"count","args":{"n":5}}`, and what [`AddTask`](crate::AddTask) takes besides: 202 with the record and its `Location`. With `Prefer: wait=10` 200 and the values, if it has ended by then; with `Accept: text/event-stream` its events at once. `Idempotency-Key` adds it once, `traceparent` and `tracestate` say which trace it belongs to |
//! | `GET /v1/tasks` | read | a page of records, the newest first: `status` (some, with commas), `task`, `queue`, `tag`, `parent`, `limit` (50, at most 1,000), `cursor` |
//! | `GET /v1/tasks/{id}` | read | the [record](crate::TaskRecord); `include=returning,output` adds those |
//! | `GET /v1/tasks/{id}/events` | read, or a ticket | the log: see below |
//! | `POST /v1/tasks/{id}/cancel` | cancel | `{"reason":"…"}`, which may be left out: the record. Again changes nothing |
//! | `POST /v1/tasks/{id}/start` | add | lets a task run that was added with `"held":true`: the record. Again changes nothing |
//! | `POST /v1/tasks/{id}/retry` | add | 202: a new task that does the ended one again |
//! | `POST /v1/tasks/{id}/ticket` | read | `{"expires":"10min"}`, at most a day: a ticket with which a browser may watch this one task |
//! | `GET /v1/registry` | read | the task functions |
//! | `POST /v1/registry/{task}` | add | its arguments alone, and the rest as of `POST /v1/tasks` |
//! | `GET /openapi.json` | read | all of this as OpenAPI 3.1, with an operation for each task function; with the feature `schema` it has their types |
//! | `GET /health` | none | 200 `OK` |
//! | `GET /ready` | none | 200 while the store answers and takes what is written, else 503 with the cause, such as a full disk |
//! | `GET /metrics` | read | for Prometheus: `qtasks_tasks{queue,status}` and `qtasks_queue_paused{queue}` of the store, then what [`Service::metrics`] gives |
//! | `GET /` | none | a page for browsers: the tasks and their logs, live, with the token of whoever looks at them |
//!
//! # The log
//!
//! `GET /v1/tasks/{id}/events` is, by `Accept` or `format`:
//!
//! - `sse` (`text/event-stream`, and where nothing else is asked for): server-sent events, live up to the end. A yield
//!   has no name, so that `onmessage` gets it, and its data is its value. Custom events have their own names and data.
//!   `started`, `log`, `retry`, `rewind`, `completed`, `failed` and `cancelled` carry the whole [`Event`](crate::Event).
//!   The `id` is `<seq>-<epoch>`: a browser sends it back as `Last-Event-ID`, and goes on behind it. `reset` tells a
//!   client that its events are not those of this log: it has to begin anew. Past the end there is 204.
//! - `ndjson` (`application/x-ndjson`): an event a line; `follow=1` goes on up to the end.
//! - `json` (`application/json`): a page `{"events":[…],"next":17,"ended":false}`, `limit` at most 1,000.
//!
//! `from=N` begins with that `seq`. What is shown is what holds: values that a later attempt took back are left out, and
//! a `rewind` (keep the first `to` values) comes only to a client that has such. `view=all` shows the log as it is.
//!
//! For clients that were written for others there are `GET /stream/{task}/{id}` and `GET /stream/{crate}/{task}/{id}` as Django
//! Streaming Coordinator has them, and `GET /task?task_id=…&type=json` as Django Simple Queue has it.
//!
//! # Errors
//!
//! Problems as RFC 9457 has them, with a `code` for programs: `invalid`, `not_found`, `gone`, `conflict`, `limit`,
//! `codec`, `unavailable`, `unauthorized`, `forbidden` and the like; `pointer` is the field of a body that is wrong.
//!
//! # Safety
//!
//! | threat | defence | test (`tests/suite/http`) |
//! | --- | --- | --- |
//! | somebody else's requests | bearer [`Tokens`] with scopes, compared in constant time; without any, nobody may do anything | `access::every_route_needs_its_scope`, `access::nobody_gets_in_unless_it_is_said` |
//! | no tokens where others can come | refused when it begins to listen | `wire::without_tokens_it_serves_this_machine_only` |
//! | a token in the address of an `EventSource` | a ticket: for one task, for a while, only to read, in the spelling that was issued | `access::a_ticket_lets_a_browser_watch_one_task` |
//! | a page of another origin | no CORS; what changes something is JSON, and has a token that is known or comes from the same origin, by `Origin` and `Sec-Fetch-Site` | `access::a_page_of_another_origin_changes_nothing` |
//! | a stranger's name for this address | [`Service::hosts`]; `serve` answers to its own address and `localhost` only; a request with two hosts is refused | `access::it_answers_to_its_own_names_only` |
//! | markup in what tasks say | the page sets text as text, and runs nothing but its own script | `pages::the_page_and_what_it_needs_come_from_here` |
//! | a link that does something | what is got stays as it is | `tasks::getting_changes_nothing` |
//! | large, deep and endless requests | bodies of 1 MiB in 30 s, JSON 128 levels deep, headers of 64 KiB in 10 s, so many connections | `wire::slow_clients_lose_their_connections`, `tasks::what_is_wrong_with_a_request_is_named` |
//! | malformed requests | refused with a problem or a bare status | `wire::malformed_requests_are_refused_and_the_server_goes_on` |
//! | a client that stops reading | logs are sent in pieces of 64 KiB: it holds at most a quarter MiB, or one value if that is larger, and on Linux 128 KiB in the system; when it goes on it is served from the store | `crowd::who_stops_reading_holds_up_nobody_and_little_memory`, `crowd::stalled::a_client_that_does_not_read_costs_little_memory`, `events::a_slow_reader_is_served_from_the_store` |
//! | another user of the machine | a socket has mode 0600, in a folder that only its owner may write to; so has the file of tokens, else it is refused | `wire::a_socket_is_the_users_own`, `cli::tokens::tokens_that_others_may_touch_are_refused` |
//! | what is secret in what is said | no tokens, arguments or values in logs; no SQL, paths or backtraces in answers | `access::every_route_needs_its_scope` |

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::app::Qtasks;

mod access;
mod auth;
mod connection;
mod dashboard;
mod events;
mod frames;
mod input;
mod kept;
mod metrics;
mod openapi;
mod problem;
mod read;
mod ready;
mod seeds;
mod serve;
mod tasks;

pub use auth::{Scope, Tokens};
pub(crate) use frames::Frames;
#[cfg(feature = "cli")]
pub(crate) use kept::own_token;
pub use serve::{Config, Server};

use access::Access;
use problem::Problem;

/// What answers requests about the tasks of an app.
///
/// Nobody may do anything before it is told who may: [`tokens`](Service::tokens) or [`no_auth`](Service::no_auth).
pub fn service(app: &Qtasks) -> Service {
    Service::of(Inner {
        app: app.clone(),
        access: Access::default(),
        hosts: None,
        recorded: None,
        body_time: Duration::from_secs(30),
        ready: ready::Readiness::default(),
        closing: app.core().closed(),
    })
}

/// A tower service, to be nested in a router: `Router::new().nest_service("/qtasks", service(&app).tokens(tokens))`.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
    router: Router,
}

/// What all requests share.
#[derive(Clone)]
struct Inner {
    app: Qtasks,
    access: Access,
    /// The names that it answers to; `None` for any.
    hosts: Option<Vec<String>>,
    /// What `/metrics` tells besides.
    recorded: Option<metrics::Recorded>,
    /// A body comes within so long.
    body_time: Duration,
    ready: ready::Readiness,
    /// Streams end.
    closing: CancellationToken,
}

type Shared = axum::extract::State<Arc<Inner>>;

/// What a handler gives.
type Answered = Result<Response, Problem>;

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("access", &self.inner.access).field("hosts", &self.inner.hosts).finish()
    }
}

impl Service {
    fn of(inner: Inner) -> Self {
        let inner = Arc::new(inner);
        let guard = axum::middleware::from_fn_with_state(Arc::clone(&inner), access::guard);
        let router = Router::new()
            .route("/v1/tasks", post(tasks::add).get(tasks::list))
            .route("/v1/tasks/{id}", get(tasks::show))
            .route("/v1/tasks/{id}/events", get(events::events))
            .route("/v1/tasks/{id}/cancel", post(tasks::cancel))
            .route("/v1/tasks/{id}/retry", post(tasks::retry))
            .route("/v1/tasks/{id}/start", post(tasks::start))
            .route("/v1/tasks/{id}/ticket", post(tasks::ticket))
            .route("/v1/registry", get(tasks::registry))
            .route("/v1/registry/{task}", post(tasks::add_by_route))
            .route("/openapi.json", get(openapi::openapi))
            .route("/health", get(async || "OK"))
            .route("/ready", get(tasks::ready))
            .route("/metrics", get(metrics::metrics))
            .merge(dashboard::routes())
            .merge(seeds::routes())
            .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such route"))
            .method_not_allowed_fallback(async |method: http::Method| {
                let detail = format!("this route takes no {method}: `Allow` says what it takes");
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
            })
            .layer(guard)
            .with_state(Arc::clone(&inner));
        Service { inner, router }
    }

    fn but(&self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = (*self.inner).clone();
        change(&mut inner);
        Service::of(inner)
    }

    /// Who may use it.
    #[must_use]
    pub fn tokens(self, tokens: Tokens) -> Self {
        self.but(|inner| inner.access = Access::Tokens(tokens))
    }

    /// Whoever gets here may do everything: for a router that has looked at the request before.
    #[must_use]
    pub fn no_auth(self) -> Self {
        self.but(|inner| inner.access = Access::Open)
    }

    /// The hosts that it answers to, by name or address, without the port. Defaults to any: a browser can be made to
    /// think that a stranger's name is this address.
    #[must_use]
    pub fn hosts<H: Into<String>>(self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.but(|inner| inner.hosts = Some(hosts.into_iter().map(Into::into).collect()))
    }

    /// What `GET /metrics` tells besides the gauges of the store, in the text format of Prometheus: what the program's
    /// recorder has (the feature `metrics` counts for it), such as
    /// `let handle = PrometheusBuilder::new().install_recorder()?` and `.metrics(move || handle.render())` of the crate
    /// `metrics-exporter-prometheus`.
    #[must_use]
    pub fn metrics(self, text: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.but(|inner| inner.recorded = Some(metrics::Recorded::new(text)))
    }
}

impl<B> tower_service::Service<http::Request<B>> for Service
where
    Router: tower_service::Service<http::Request<B>, Response = Response, Error = Infallible>,
    <Router as tower_service::Service<http::Request<B>>>::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.router.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let answer = self.router.call(request);
        Box::pin(async move { Ok(answer.await.unwrap_or_else(|never| never.into_response())) })
    }
}
