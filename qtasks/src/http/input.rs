//! What requests bring: queries, bodies, ids, preferences. Whatever is wrong is named.

use std::time::{Duration, SystemTime};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_path_to_error::Segment;

use super::access::bearer;
use super::problem::Problem;
use crate::json::Json;
use crate::task::TaskId;

/// The most bytes of a body.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The query of a request. What it does not know is an error.
pub(super) fn query<T: DeserializeOwned>(parts: &Parts) -> Result<T, Problem> {
    let query = parts.uri.query().unwrap_or_default();
    serde_urlencoded::from_str(query).map_err(|e| Problem::invalid(format!("in the query of the address: {e}")))
}

/// The task that the address names.
pub(super) fn id(path: Result<Path<String>, PathRejection>) -> Result<TaskId, Problem> {
    let text = path.map(|Path(text)| text).unwrap_or_default();
    // What can't be an id is none that there is.
    let unknown = |_| Problem::new(StatusCode::NOT_FOUND, "not_found", "no task has this id");
    text.parse().map_err(unknown)
}

/// Whether a body is said to be JSON. A form of another page can't say so; a script of one would have to ask first, and
/// is refused.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|value| value.split(';').next()).map(str::trim);
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
}

/// The body of a request, a JSON object. One that is empty counts as `{}`. Whatever changes something asks for it.
pub(super) async fn body<T: DeserializeOwned>(request: Request, time: Duration) -> Result<T, Problem> {
    let (value, is_object) = read(request, time).await?;
    // serde takes the fields of a struct from a list as well, by their order.
    if !is_object {
        let detail = "the body: invalid type: sequence, expected an object";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail));
    }
    Ok(value)
}

/// The arguments of a task function: an object, or a list by position.
pub(super) async fn args(request: Request, time: Duration) -> Result<Json, Problem> {
    Ok(read(request, time).await?.0)
}

/// The body of a request, and whether it is an object.
async fn read<T: DeserializeOwned>(request: Request, time: Duration) -> Result<(T, bool), Problem> {
    let unsaid = || {
        let detail = "what changes something is sent as JSON, with `Content-Type: application/json`";
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail)
    };
    let is_json = is_json(request.headers());
    // No page of another origin can send a token: with one, nothing at all need not be said to be JSON.
    if !is_json && (request.headers().contains_key(header::CONTENT_TYPE) || bearer(request.headers()).is_none()) {
        return Err(unsaid());
    }
    let limited = Limited::new(request.into_body(), BODY_BYTES_MAX);
    let bytes = match tokio::time::timeout(time, limited.collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("a body has at most {BODY_BYTES_MAX} bytes");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "limit", detail));
        }
        Ok(Err(_)) => return Err(Problem::invalid("the body did not come to its end")),
        Err(_) => {
            let detail = format!("the body did not come within {}", humantime::format_duration(time));
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timed_out", detail));
        }
    };
    if !is_json && !bytes.is_empty() {
        return Err(unsaid());
    }
    let text = if bytes.is_empty() { &b"{}"[..] } else { &bytes };
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer: String = error.path().iter().map(pointer_to).collect();
        let (status, inner) = (status_of(error.inner()), error.inner().to_string());
        let problem = Problem::new(status, "invalid", format!("the body: {inner}"));
        if pointer.is_empty() { problem } else { problem.at(pointer) }
    })?;
    json.end().map_err(|e| Problem::invalid(format!("the body: {e}")))?;
    Ok((value, text.trim_ascii_start().starts_with(b"{")))
}

/// A step of a JSON pointer (RFC 6901).
fn pointer_to(segment: &Segment) -> String {
    match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
        Segment::Enum { .. } | Segment::Unknown => String::new(),
    }
}

/// What is no JSON at all is another matter than JSON that says the wrong thing.
fn status_of(error: &serde_json::Error) -> StatusCode {
    if error.is_data() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST }
}

/// How long a client would wait for the end: `Prefer: wait=SECONDS`, at most a minute.
pub(super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    const WAIT_MAX: u64 = 60;
    let preferences = headers.get_all("prefer").into_iter().filter_map(|value| value.to_str().ok());
    let mut preferences = preferences.flat_map(|value| value.split([',', ';']));
    let wait = preferences.find_map(|one| one.trim().strip_prefix("wait=")?.trim_matches('"').parse::<u64>().ok())?;
    Some(Duration::from_secs(wait.min(WAIT_MAX)))
}

/// Whether a client asks for a media type by its name.
pub(super) fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(',')).filter_map(|kind| kind.split(';').next());
    kinds.any(|kind| kind.trim().eq_ignore_ascii_case(wanted))
}

/// A duration as `30s`, `10min`, `1h 30min`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |e| D::Error::custom(format!("{text:?} is no duration such as \"30s\" or \"1h 30min\": {e}"));
        humantime::parse_duration(&text).map(Span).map_err(wrong)
    }
}

/// An instant as RFC 3339 has it.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Instant(#[serde(with = "crate::task::time")] pub(super) SystemTime);
