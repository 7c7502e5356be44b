//! What a mistake looks like to its author: one file a mistake, with the whole of what rustc says.
//!
//! Rewrite the expected messages with `TRYBUILD=overwrite cargo test -p qtasks-tests --test ui`, and read them.

use std::process::Command;

/// rustc's wording changes with its releases.
const PINNED: &str = "rustc 1.95.";

#[test]
fn mistakes_are_explained() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("rustc tells its version");
    let version = String::from_utf8_lossy(&output.stdout);
    if !version.starts_with(PINNED) {
        println!("SKIP ui: the messages are those of {PINNED}x, and this is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}
