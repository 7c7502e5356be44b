//! What an app tells of itself.

mod inspect;
mod metrics;
pub(crate) mod spans;
mod traces;
