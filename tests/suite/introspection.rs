//! What an app tells of itself.

mod inspect;
mod metrics;
