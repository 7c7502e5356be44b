//! For tests of one's own tasks (feature `test`): an app on a clock that stands still, bodies that run in place, and
//! workers that die on request.
//!
//! ```
//! # use std::time::Duration;
//! use qtasks::prelude::*;
//! use qtasks::test::{assert_added, assert_yields, run_inline};
//!
//! #[task]
//! async fn count(from: u32, to: u32) -> u32 {
//!     for i in from..to {
//!         yield_!(i);
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> qtasks::Result<()> {
//! // The body alone.
//! let run = run_inline(count::add_task(3, 6)).await;
//! assert_yields!(run, [3, 4, 5]);
//!
//! // A whole app in memory, whose worker dies after two values: another one goes on.
//! let app = qtasks::test::app().kill_after(2).start().await;
//! let later = count::add_task(3, 6).on(&app).delay(Duration::from_secs(3600)).await?;
//! app.drain().await;
//! assert_added!(app, "count", { "from": 3, "to": 6 });
//! assert!(!later.status().await?.is_ended());
//!
//! app.advance(Duration::from_secs(3600)).await;
//! app.drain().await;
//! assert_yields!(later.wait().await?, [3, 4, 5]);
//! app.shutdown().await
//! # }
//! ```
//!
//! [`Faulty`], [`Scripted`], [`Deaf`] and [`Persistent`] are stores that can't be relied on, and what gets by with
//! them.

mod app;
mod asserts;
mod run;
mod stores;

pub use crate::inline::SentEvent;
pub use crate::store::conformance::{Deaf, Faults, Faulty, Operation, Persistent, Script, Scripted};
pub use app::{Added, TestApp, TestBuilder, app};
pub use asserts::Yielded;
#[doc(hidden)]
pub use asserts::{same, was_added};
pub use run::{Finished, InlineRun, RunInline, run_inline};

#[doc(inline)]
pub use crate::{assert_added, assert_yields};

#[doc(hidden)]
pub use serde_json::json;
