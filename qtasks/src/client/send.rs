//! Requests and their answers; what went wrong, in the words that an app has for it.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Client;
use crate::error::{Error, ErrorKind, Result};

/// A problem as RFC 9457 has it: what of it is read.
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
}

impl Client {
    pub(super) fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.inner.address.url.clone();
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.inner.http.request(method, url);
        match &self.inner.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Gives a good answer, or the error that another one stands for.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|e| self.unreached(e))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response).await) }
    }

    /// An answer of another kind is not one of ours.
    pub(super) fn expect_kind(&self, response: &Response, kind: &str) -> Result<()> {
        let sent = response.headers().get(CONTENT_TYPE).and_then(|sent| sent.to_str().ok()).unwrap_or_default();
        if sent.starts_with(kind) || response.status() == StatusCode::NO_CONTENT {
            return Ok(());
        }
        let base = self.base();
        Err(Error::invalid(format!("`{base}` answered {sent:?} instead of `{kind}`: it is no server of tasks")))
    }

    async fn ask<T: DeserializeOwned + Send + 'static>(&self, request: RequestBuilder) -> Result<T> {
        let client = self.clone();
        let asking = async move {
            let response = client.send(request.timeout(client.inner.timeout)).await?;
            client.expect_kind(&response, "application/json")?;
            let body = response.bytes().await.map_err(|e| client.unreached(e))?;
            serde_json::from_slice(&body).map_err(|e| {
                let message = format!("what `{}` answered can't be read: {e}", client.base());
                Error::new(ErrorKind::Codec, message).with_source(e)
            })
        };
        self.run(asking).await
    }

    pub(super) async fn get<T: DeserializeOwned + Send + 'static>(
        &self,
        path: String,
        query: Vec<(&'static str, String)>,
    ) -> Result<T> {
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, &**value)).collect();
        self.ask(self.request(Method::GET, &path, &query)).await
    }

    pub(super) async fn post<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &str,
        body: &impl Serialize,
        headers: &[(&'static str, &str)],
    ) -> Result<T> {
        let body = serde_json::to_vec(body).map_err(|e| Error::new(ErrorKind::Codec, e.to_string()))?;
        let request = self.request(Method::POST, path, &[]).header(CONTENT_TYPE, "application/json").body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.ask(request).await
    }

    /// Nobody answers in time.
    pub(super) fn silent(&self) -> Error {
        let limit = humantime::format_duration(self.inner.timeout);
        Error::new(ErrorKind::Unavailable, format!("`{}` did not answer within {limit}: try again later", self.base()))
    }

    fn unreached(&self, error: reqwest::Error) -> Error {
        let base = self.base();
        let mut last: &dyn std::error::Error = &error;
        while let Some(source) = last.source() {
            last = source;
        }
        if error.is_builder() {
            return Error::invalid(format!("the request to `{base}` can't be made: {last}")).with_source(error);
        }
        if error.is_timeout() && !error.is_connect() {
            return self.silent();
        }
        let message = format!("`{base}` can't be reached ({last}): is it served there?");
        Error::new(ErrorKind::Unavailable, message).with_source(error.without_url())
    }

    async fn refused(&self, response: Response) -> Error {
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        let base = self.base();
        let Ok(Problem { code, detail }) = serde_json::from_slice(&body) else {
            let kind = if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                ErrorKind::Unavailable
            } else {
                ErrorKind::Invalid
            };
            return Error::new(kind, format!("`{base}` answered {status}, which is no answer of a server of tasks"));
        };
        let kind = match &*code {
            "not_found" | "unknown_task" => ErrorKind::NotFound,
            "gone" => ErrorKind::Gone,
            "conflict" => ErrorKind::Conflict,
            "codec" => ErrorKind::Codec,
            "limit" => ErrorKind::Limit,
            "timed_out" => ErrorKind::TimedOut,
            "reset" => ErrorKind::Reset,
            "task_failed" => ErrorKind::TaskFailed,
            "damaged" => ErrorKind::Damaged,
            "unavailable" => ErrorKind::Unavailable,
            "unauthorized" | "forbidden" => {
                let way_out = "give the client one by `.token(…)`, or by the environment variable `QTASKS_TOKEN`";
                return Error::invalid(format!("`{base}` refused: {detail}; {way_out}"));
            }
            _ if status.is_server_error() => ErrorKind::Unavailable,
            _ => ErrorKind::Invalid,
        };
        match kind {
            ErrorKind::Unavailable => Error::new(kind, format!("`{base}`: {detail}")),
            // What an app would say.
            kind => Error::new(kind, detail),
        }
    }
}
