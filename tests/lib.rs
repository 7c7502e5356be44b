//! Tests of qtasks: see `suite/main.rs` and `ui.rs`.
