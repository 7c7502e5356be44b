//! [`guard`]: what every request has to pass, and [`Access`]: what each may do.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::auth::{Scope, Tokens};
use super::problem::Problem;
use super::{Inner, Shared};
use crate::task::TaskId;

/// Who may use the server.
#[derive(Debug, Clone)]
pub(super) enum Access {
    Tokens(Tokens),
    /// Whoever comes.
    Open,
}

impl Default for Access {
    fn default() -> Self {
        Access::Tokens(Tokens::none())
    }
}

/// The bearer token that a request has.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized(detail: &str) -> Problem {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
    problem.with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

impl Access {
    /// Whether a request may do what needs a scope.
    pub(super) fn allow(&self, headers: &HeaderMap, needed: Scope) -> Result<(), Problem> {
        let Access::Tokens(tokens) = self else { return Ok(()) };
        let Some(token) = bearer(headers) else {
            return Err(unauthorized("this needs a token: send `Authorization: Bearer TOKEN`"));
        };
        let Some(scopes) = tokens.scopes(token) else { return Err(unauthorized("the token is not known here")) };
        if scopes.contains(&needed) || scopes.contains(&Scope::Admin) {
            return Ok(());
        }
        let detail = format!("this needs a token with the scope `{needed}`");
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
    }

    /// Whether a request may watch a task: with a token, or with a ticket for this one.
    pub(super) fn allow_watching(
        &self,
        headers: &HeaderMap,
        ticket: Option<&str>,
        id: Option<TaskId>,
    ) -> Result<(), Problem> {
        match (ticket, id, self) {
            (Some(ticket), Some(id), Access::Tokens(tokens)) if tokens.admits(ticket, id, SystemTime::now()) => Ok(()),
            (Some(_), _, Access::Tokens(_)) if bearer(headers).is_none() => {
                let detail = "the ticket is over, or none for this task: ask for another at `/v1/tasks/{id}/ticket`";
                Err(unauthorized(detail))
            }
            _ => self.allow(headers, Scope::Read),
        }
    }

    pub(super) fn tokens(&self) -> Option<&Tokens> {
        match self {
            Access::Tokens(tokens) => Some(tokens),
            Access::Open => None,
        }
    }
}

/// Turns away what no route should see.
pub(super) async fn guard(State(inner): Shared, request: Request, next: Next) -> Response {
    match check(&inner, &request) {
        Ok(()) => {
            let mut response = next.run(request).await;
            let headers = response.headers_mut();
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
            response
        }
        Err(problem) => problem.into_response(),
    }
}

fn check(inner: &Arc<Inner>, request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let host = host_of(request);
    if let Some(hosts) = &inner.hosts {
        let name = host.as_deref().map(without_port);
        if !name.is_some_and(|name| hosts.iter().any(|host| host.eq_ignore_ascii_case(name))) {
            let detail = "this server does not answer to that `Host`: add it to its hosts";
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "host", detail));
        }
    }
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE) {
        return Ok(());
    }
    // What has a body is JSON besides: see `input::body`.
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
    if bearer(headers).is_none() && authority != host.as_deref() {
        let detail = "a page of another origin may change nothing without a token";
        return Err(Problem::new(StatusCode::FORBIDDEN, "origin", detail));
    }
    Ok(())
}

/// The host that was asked for, with its port: of HTTP/2 the authority.
fn host_of(request: &Request) -> Option<String> {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| request.uri().authority().map(|authority| authority.as_str())).map(str::to_owned)
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        // The colons of an IPv6 address are within brackets.
        Some(at) if !host[at..].contains(']') => &host[..at],
        _ => host,
    }
}
