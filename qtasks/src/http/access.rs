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

/// The bearer token that a request has. Two headers are none: others may look at the one that is not looked at here.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut sent = headers.get_all(header::AUTHORIZATION).iter();
    let (scheme, token) = sent.next()?.to_str().ok()?.split_once(' ')?;
    if sent.next().is_some() {
        return None;
    }
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

    /// Whether a request has a token that is known here. Where nobody is asked for one, none is.
    fn knows_bearer(&self, headers: &HeaderMap) -> bool {
        let token = self.tokens().zip(bearer(headers));
        token.is_some_and(|(tokens, token)| tokens.scopes(token).is_some())
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
    let host = host_of(request)?;
    if let Some(hosts) = &inner.hosts {
        let name = host.map(without_port);
        if !name.is_some_and(|name| hosts.iter().any(|host| host.eq_ignore_ascii_case(name))) {
            let detail = "this server does not answer to that `Host`: add it to its hosts";
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "host", detail));
        }
    }
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE) {
        return Ok(());
    }
    // What has a body is JSON besides: see `input::body`.
    if is_foreign(headers, host) && !inner.access.knows_bearer(headers) {
        let detail = "a page of another origin may change nothing without a token that is known here";
        return Err(Problem::new(StatusCode::FORBIDDEN, "origin", detail));
    }
    Ok(())
}

/// Whether a browser says that a page of another origin than `host` made the request. Programs say nothing of the kind.
fn is_foreign(headers: &HeaderMap, host: Option<&str>) -> bool {
    let from_elsewhere = headers.get_all(header::ORIGIN).iter().any(|origin| {
        let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
        authority.zip(host).is_none_or(|(authority, host)| !authority.eq_ignore_ascii_case(host))
    });
    // `none` is the user's own doing, such as an address that was typed. A page of the same site may be anybody's.
    let is_own = |site: &HeaderValue| matches!(site.as_bytes(), b"same-origin" | b"none");
    from_elsewhere || headers.get_all("sec-fetch-site").iter().any(|site| !is_own(site))
}

/// The host that was asked for, with its port: of HTTP/2 the authority. If a request names two, what is between may
/// have looked at the other one.
fn host_of(request: &Request) -> Result<Option<&str>, Problem> {
    let mut headers = request.headers().get_all(header::HOST).iter();
    let header = headers.next();
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let differs =
        |authority: &str| header.is_some_and(|header| !header.as_bytes().eq_ignore_ascii_case(authority.as_bytes()));
    if headers.next().is_some() || authority.is_some_and(differs) {
        let detail = "the request names more than one host: send one `Host`, the same as in the address";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "host", detail));
    }
    Ok(header.and_then(|host| host.to_str().ok()).or(authority))
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        // The colons of an IPv6 address are within brackets.
        Some(at) if !host[at..].contains(']') => &host[..at],
        _ => host,
    }
}
