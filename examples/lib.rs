//! Examples of qtasks: one idea a file, run by `cargo run --example NAME`.
