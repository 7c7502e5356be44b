//! [`Problem`]: what a request that was not answered is told, as RFC 9457 has it.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::error::{Error, ErrorKind};

/// An error of the wire.
///
/// Its `detail` names the thing, the rule and the way out; it never has SQL, paths of files or a backtrace in it.
#[derive(Debug)]
pub(super) struct Problem(Box<Fields>);

#[derive(Debug, Serialize)]
struct Fields {
    /// `about:blank`: the title is that of the status.
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    /// For programs: a word that stays the same.
    code: &'static str,
    detail: String,
    /// A JSON pointer to the field that is wrong, of a request with a body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// What the answer needs besides.
    #[serde(skip)]
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        let (status, detail) = (status.as_u16(), detail.into());
        Problem(Box::new(Fields {
            kind: "about:blank",
            title,
            status,
            code,
            detail,
            pointer: None,
            headers: Vec::new(),
        }))
    }

    /// What was asked for is wrong.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "invalid", detail)
    }

    #[must_use]
    pub(super) fn at(mut self, pointer: impl Into<String>) -> Self {
        self.0.pointer = Some(pointer.into());
        self
    }

    #[must_use]
    pub(super) fn with(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, code) = match error.kind() {
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            ErrorKind::Gone => (StatusCode::GONE, "gone"),
            ErrorKind::Conflict | ErrorKind::Fenced => (StatusCode::CONFLICT, "conflict"),
            ErrorKind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            ErrorKind::Codec => (StatusCode::UNPROCESSABLE_ENTITY, "codec"),
            ErrorKind::Limit => (StatusCode::PAYLOAD_TOO_LARGE, "limit"),
            ErrorKind::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "timed_out"),
            ErrorKind::Reset | ErrorKind::Rewound { .. } => (StatusCode::CONFLICT, "reset"),
            ErrorKind::TaskFailed => (StatusCode::CONFLICT, "task_failed"),
            ErrorKind::Damaged => (StatusCode::INTERNAL_SERVER_ERROR, "damaged"),
            ErrorKind::NoApp | ErrorKind::Unavailable => {
                // What a store says of itself is for those who run it.
                crate::trouble::store_failed(&error, "a request could not be answered");
                let detail = match error.told() {
                    Some(cause) => format!("{cause}: try again later"),
                    None => "the store can't be reached, or the app is shut down: try again later".to_owned(),
                };
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail);
                return problem.with(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
        };
        Problem::new(status, code, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).expect("it was made of one");
        let body = serde_json::to_vec(&self.0).expect("text and a number");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.0.headers);
        response
    }
}
