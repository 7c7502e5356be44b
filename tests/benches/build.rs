//! What 100 tasks cost in a debug build, beyond the same 100 functions by hand.
//!
//! Crates made for this, built by cargo beside each other. All of them link qtasks and run an app; one holds plain
//! `async fn`s and a box of each, the others tasks.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::table::{Aim, Table, rounds};

const FUNCTIONS: usize = 100;

/// One function of the crate: `attribute` above it, `say` where it has something to tell, `last` at its end.
fn function(i: usize, attribute: &str, say: &str, last: &str) -> String {
    format!(
        "{attribute}
pub async fn f{i}(a: i64, b: u32, text: String) -> i64 {{
    let mut total = a + text.len() as i64;
    for i in 0..b {{
        total += i64::from(i) * {i};
        tokio::task::yield_now().await;
        if i % 3 == 0 {{
            {say};
        }}
    }}
    {last}
}}
"
    )
}

const HEAD: &str = "\
#![allow(dead_code)]
use qtasks::prelude::*;
type Boxed = std::pin::Pin<Box<dyn Future<Output = i64> + Send>>;
#[task]
async fn first(n: i64) -> i64 {
    yield_!(n);
}
async fn add_two(n: i64) -> i64 {
    n + 2
}
";

fn main_of(rest: &str) -> String {
    format!(
        "#[tokio::main]
async fn main() -> qtasks::Result<()> {{
    let app = qtasks::init(\"memory:\").await?;
    println!(\"{{:?}}\", first::add_task(1).timeout(std::time::Duration::from_secs(9)).await?.returning);
    {rest}
    app.shutdown().await
}}
"
    )
}

/// The names of the crates, and what is in them.
fn sources() -> [(&'static str, String); 4] {
    let all = |attribute, say, last| (0..FUNCTIONS).map(|i| function(i, attribute, say, last)).collect::<String>();
    let boxes = (0..FUNCTIONS).fold(String::new(), |mut boxes, i| {
        write!(boxes, "Box::pin(f{i}(1, 2, String::new())), ").expect("a string takes it");
        boxes
    });
    let boxes = main_of(&format!("let all: Vec<Boxed> = vec![{boxes}];\n    println!(\"{{}}\", all.len());"));
    let tasks = main_of("");
    [
        ("by-hand", format!("{HEAD}{}{boxes}", all("", "println!(\"{total}\")", "total"))),
        ("plain", format!("{HEAD}{}{tasks}", all("#[task]", "println!(\"{total}\")", "total"))),
        ("generators", format!("{HEAD}{}{tasks}", all("#[task]", "yield_!(total)", ""))),
        ("handlers", format!("{HEAD}{}{tasks}", all("#[task(generate_handler = add_two)]", "yield_!(total)", ""))),
    ]
}

struct Crates(PathBuf);

impl Crates {
    /// Writes the crates, with the versions that the workspace has.
    fn write() -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("build-bench");
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is a member of a workspace");
        let library = workspace.join("qtasks");
        let mut members = Vec::new();
        for (name, source) in sources() {
            let manifest = format!(
                "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[dependencies]\n\
                 qtasks = {{ path = {library:?} }}\n\
                 tokio = {{ version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }}\n"
            );
            write(&root.join(name).join("Cargo.toml"), &manifest);
            write(&root.join(name).join("src/main.rs"), &source);
            members.push(name);
        }
        write(&root.join("Cargo.toml"), &format!("[workspace]\nresolver = \"3\"\nmembers = {members:?}\n"));
        fs::copy(workspace.join("Cargo.lock"), root.join("Cargo.lock")).expect("the workspace has a lock file");
        let crates = Crates(root);
        crates.cargo(&["--workspace"]);
        crates
    }

    fn cargo(&self, args: &[&str]) {
        let mut cargo = Command::new(env!("CARGO"));
        // Of the workspace's own build nothing is to have an influence.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_") && name != "CARGO_HOME" || name.starts_with("RUSTC") {
                cargo.env_remove(&*name);
            }
        }
        cargo.current_dir(&self.0).args(["build", "--quiet", "--offline", "--target-dir", "target"]).args(args);
        assert!(cargo.status().expect("cargo starts").success(), "the crates are built");
    }

    /// Milliseconds for each of the functions of a crate.
    fn time(&self, name: &str) -> f64 {
        let main = self.0.join(name).join("src/main.rs");
        let source = fs::read_to_string(&main).expect("it was written");
        write(&main, &source);
        let start = Instant::now();
        self.cargo(&["--package", name]);
        start.elapsed().as_secs_f64() * 1e3 / FUNCTIONS as f64
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("it is in a directory")).expect("a directory is made");
    fs::write(path, text).expect("it is written");
}

pub(crate) fn run(table: &mut Table) {
    eprintln!("build: the dependencies");
    let crates = Crates::write();
    for name in ["plain", "generators", "handlers"] {
        let what = format!("debug build, a task more: {name}");
        let both = rounds(&what, || crates.time(name), || crates.time("by-hand"));
        table.difference(&what, "ms", &both, Aim::AtMost(10.0));
    }
}
