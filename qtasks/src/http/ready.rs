//! [`Readiness`]: whether the store takes what is written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::store::{DocPut, Store};

/// The store is asked no more often than this, however often clients ask: nobody needs a token for that.
const EVERY: Duration = Duration::from_secs(1);
/// A store that takes longer to answer is not ready.
const WAIT: Duration = Duration::from_secs(2);
/// Size of the document that is written: about as much as adding a task writes.
const BYTES: usize = 16 << 10;
/// How long the document is kept.
const KEPT: Duration = Duration::from_secs(60);

/// The outcome of the last attempt to write.
#[derive(Clone, Default)]
pub(super) struct Readiness(Arc<Mutex<Option<Attempt>>>);

struct Attempt {
    at: Instant,
    error: Option<Error>,
}

impl Readiness {
    /// Writes a small document, unless that was done within the last second.
    pub(super) async fn check(&self, store: &dyn Store) -> Result<()> {
        // Whoever asks meanwhile waits for the same answer.
        let mut last = self.0.lock().await;
        if last.as_ref().is_none_or(|last| last.at.elapsed() > EVERY) {
            let put = DocPut { key: "ready".into(), if_version: None, bytes: vec![0; BYTES], expires: Some(KEPT) };
            let error = match tokio::time::timeout(WAIT, store.doc_put(put)).await {
                Ok(put) => put.err(),
                Err(_) => {
                    let message = format!("the store did not take a document within {WAIT:?}");
                    let cause = "the store takes too long to write, or is in use by another process";
                    Some(Error::new(ErrorKind::Unavailable, message).with_told(cause))
                }
            };
            *last = Some(Attempt { at: Instant::now(), error });
        }
        last.as_ref().and_then(|last| last.error.as_ref()).map_or(Ok(()), |error| Err(error.again()))
    }
}
