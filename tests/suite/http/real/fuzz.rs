//! The document, held against the server by schemathesis.

use serde::{Deserialize, Serialize};

use super::*;

/// Where what is generated begins. Another one, of the environment variable `QTASKS_FUZZ_SEED`, finds other things.
const SEED: &str = "20261121";

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
struct Part {
    name: String,
    size: Option<u16>,
}

/// Gives back what it gets.
#[task(yield = Part)]
async fn echoes(parts: Vec<Part>, #[default = 1] times: u8) -> u64 {
    let mut all = 0;
    for part in parts {
        all += u64::from(times);
        yield_!(part);
    }
    all
}

#[task]
async fn small(n: u8) -> u8 {
    for i in 0..n {
        yield_!(i);
    }
}

#[task]
async fn always_fails(ctx: Context, why: String) -> Result<u8, String> {
    ctx.send_event("stage", &why);
    yield_!(1);
    Err(why)?;
}

/// What waits for something would be watched for ever: it is ended, as somebody else might do.
async fn nothing_waits(app: Qtasks) {
    use qtasks::Status;
    let status = vec![Status::Held, Status::Delayed, Status::Queued];
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let waiting = qtasks::store::List { status: status.clone(), limit: 1_000, ..Default::default() };
        for record in app.list(waiting).await.unwrap().tasks {
            if let Ok(task) = app.task(record.id).await {
                let _ = task.cancel("nobody waits for ever").await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_does_as_its_document_says() {
    let specs = [echoes::spec(), small::spec(), always_fails::spec(), plus::spec()];
    let site = Site::of(Qtasks::builder().store("memory:").tasks(specs)).await;
    let server = served(&site).await;
    let ends = tokio::spawn(nothing_waits(site.app.clone()));
    let mut command = own(Command::new(installed("requirements.txt", "venv", "bin/python")));
    // Its script names the folder that it was installed in, which may have been moved since.
    command.args(["-m", "schemathesis.cli"]);
    let config = root("tests/clients/schemathesis.toml");
    command.arg("--config-file").arg(config).args(["run", &format!("{}/openapi.json", server.url())]);
    let seed = std::env::var("QTASKS_FUZZ_SEED").unwrap_or_else(|_| SEED.to_owned());
    command.args(["--header", &format!("Authorization: Bearer {TOKEN}"), "--seed", &seed, "--no-color"]);
    command.current_dir(crate::scratch()).stderr(Stdio::piped());
    let run = tokio::time::timeout(soon() * 5, command.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    let summary: Vec<&str> =
        said.lines().filter(|line| line.contains(" generated, ") || line.starts_with("Seed")).collect();
    println!("{}", summary.join("\n"));
    assert!(said.contains("Stateful (in") && summary.len() == 2, "{said}");
    ends.abort();
    site.app.shutdown().await.unwrap();
}
