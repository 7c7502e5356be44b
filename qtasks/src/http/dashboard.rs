//! The page at `/`: the tasks of a store, and one of them live. It asks the other routes, with the token of whoever
//! looks at it, so the page itself is for everybody.

use axum::Router;
use axum::extract::{OriginalUri, Request};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use std::sync::Arc;

use super::Inner;

const PAGE: &str = include_str!("dashboard/index.html");
const SCRIPT: &str = include_str!("dashboard/dashboard.js");
const STYLE: &str = include_str!("dashboard/dashboard.css");

/// Nothing but what comes from here runs, is loaded or asked; no other page shows this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> Router<Arc<Inner>> {
    Router::new()
        .route("/", get(page))
        .route("/dashboard.js", get(async || file("text/javascript; charset=utf-8", SCRIPT)))
        .route("/dashboard.css", get(async || file("text/css; charset=utf-8", STYLE)))
}

/// Nested at `/jobs`, it is at `/jobs/`: its files and routes are beside it.
async fn page(request: Request) -> Response {
    let path = request.extensions().get::<OriginalUri>().map_or(request.uri().path(), |original| original.0.path());
    if path.ends_with('/') {
        return file("text/html; charset=utf-8", PAGE);
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    let beside = HeaderValue::try_from(format!("{last}/")).expect("a part of a path");
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, beside)]).into_response()
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
