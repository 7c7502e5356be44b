//! The command line without task functions: it adds, watches and keeps tasks in order, and leaves running them to
//! programs that call `qtasks::cli::main()`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    qtasks::cli::main().await
}
