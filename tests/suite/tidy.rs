//! What the compiler does not see: that the README names what there is, and that files keep to the house style.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Longer source files are cut in two. Suites, and tables of cases, may be longer.
const LINES_MAX: usize = 800;
/// An example shows one idea.
const EXAMPLE_LINES_MAX: usize = 79;

const CRATES: [&str; 4] = ["qtasks", "qtasks-macros", "tests", "examples"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The Rust files below a folder of the workspace, by their paths from its root.
fn rust_files(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            if !path.ends_with("/target") && !path.ends_with("/wip") {
                files.extend(rust_files(&path));
            }
        } else if path.ends_with(".rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The part of the README under a heading, up to the next heading of its level or above.
fn section(heading: &str) -> String {
    let readme = read("README.md");
    let level = heading.bytes().take_while(|b| *b == b'#').count();
    let mut lines = readme.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "the README has no heading `{heading}`");
    let ends = |line: &&str| (1..=level).any(|level| line.starts_with(&format!("{} ", "#".repeat(level))));
    let mut code = false;
    let lines = lines.take_while(|line| {
        code ^= line.starts_with("```");
        code || !ends(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The first cells of the tables in a part of the README, without their backticks. Each stands there once.
fn rows(part: &str) -> BTreeSet<String> {
    let cells = part.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let mut rows = BTreeSet::new();
    for (cell, meaning) in cells {
        assert!(meaning.len() > 3, "the README says nothing of `{cell}`");
        assert!(rows.insert(cell.to_owned()), "the README has two rows for `{cell}`");
    }
    rows
}

fn assert_same(left: &BTreeSet<String>, of: &str, right: &BTreeSet<String>, and: &str) {
    let only: Vec<_> = left.difference(right).collect();
    assert!(only.is_empty(), "in {of}, but not in {and}: {only:?}");
    let only: Vec<_> = right.difference(left).collect();
    assert!(only.is_empty(), "in {and}, but not in {of}: {only:?}");
}

/// `seed_names.txt` has what stands in the pages of the systems that qtasks grew from, a name a line.
#[test]
fn every_name_of_the_seeds_has_its_row() {
    let list = read("tests/suite/seed_names.txt");
    let mut systems = 0;
    for system in list.split("# ").skip(1) {
        let (system, names) = system.split_once('\n').unwrap();
        let listed: Vec<&str> = names.lines().filter(|line| !line.is_empty()).collect();
        let names: BTreeSet<String> = listed.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(names.len(), listed.len(), "a name stands twice under {system}");
        assert!(!names.is_empty(), "no names of {system}");
        let rows = rows(&section(&format!("### Coming from {system}")));
        assert_same(&names, "seed_names.txt", &rows, &format!("the README's rows for {system}"));
        systems += 1;
    }
    assert_eq!(systems, read("README.md").matches("\n### Coming from ").count());
}

#[test]
fn every_example_is_listed_and_short() {
    let files = rust_files("examples").into_iter().filter(|file| file != "examples/lib.rs");
    let mut names = BTreeSet::new();
    for file in files {
        let name = file.strip_prefix("examples/").and_then(|file| file.strip_suffix(".rs")).unwrap().to_owned();
        let source = read(&file);
        let lines = source.lines().count();
        assert!(lines <= EXAMPLE_LINES_MAX, "{file} has {lines} lines, of at most {EXAMPLE_LINES_MAX}");
        assert!(source.starts_with("//! "), "{file} does not say what it shows");
        assert!(source.contains("assert"), "{file} does not check what it shows");
        names.insert(name);
    }
    let quoted = |key: &'static str| {
        move |line: &str| -> Option<String> {
            Some(line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')?.to_owned())
        }
    };
    let manifest = read("examples/Cargo.toml");
    let declared: BTreeSet<String> =
        manifest.split("[[example]]").skip(1).map(|entry| entry.lines().find_map(quoted("name")).unwrap()).collect();
    for name in &declared {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"{name}.rs\"\n")), "the path of `{name}`");
    }
    assert_same(&names, "examples/", &declared, "examples/Cargo.toml");
    assert_same(&names, "examples/", &rows(&section("## Examples")), "the README's examples");
}

#[test]
fn the_quick_start_is_the_example() {
    let example = read("examples/quickstart.rs");
    let program = &example[example.find("use std").unwrap()..];
    assert!(section("## Quick start").contains(program.trim_end()), "the README's program is another one");
}

#[test]
fn every_feature_is_listed() {
    let manifest = read("qtasks/Cargo.toml");
    let table = manifest.split("\n[").find_map(|table| table.strip_prefix("features]\n")).unwrap();
    let keys = table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    let features: BTreeSet<String> = keys.map(|(key, _)| key.to_owned()).filter(|key| key != "default").collect();
    assert_same(&features, "qtasks/Cargo.toml", &rows(&section("## Features")), "the README's features");
}

/// A store is an arm of the `match` in `store::open`.
#[test]
fn every_store_is_listed() {
    let source = read("qtasks/src/store.rs");
    let schemes = source.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" => ").map(|(s, _)| s));
    let schemes: BTreeSet<String> = schemes.filter(|scheme| !scheme.is_empty()).map(str::to_owned).collect();
    assert!(schemes.contains("memory"), "{schemes:?}");
    let listed: BTreeSet<String> =
        rows(&section("## Stores")).iter().map(|url| url.split(':').next().unwrap().to_owned()).collect();
    assert_same(&schemes, "store::open", &listed, "the README's stores");
}

#[test]
fn files_keep_to_the_style() {
    // Put together, so that this file does not hold them.
    let [ignored, unfinished] = [["#[ig", "nore"].concat(), ["to", "do!("].concat()];
    for file in CRATES.into_iter().flat_map(rust_files) {
        assert!(!file.ends_with("/mod.rs"), "{file}: a module `foo` stands in `foo.rs`");
        let source = read(&file);
        let is_source = file.contains("/src/") && !file.starts_with("tests/");
        if is_source && !file.contains("conformance") && !file.ends_with("/tests.rs") {
            let lines = source.lines().count();
            assert!(lines <= LINES_MAX, "{file} has {lines} lines, of at most {LINES_MAX}");
        }
        assert!(!source.contains(&ignored), "{file}: a test that is not run is no test");
        assert!(!source.contains(&unfinished), "{file} is not done");
    }
}

#[test]
fn the_readme_has_no_hidden_lines() {
    // rustdoc hides lines of code that begin with `# `; everyone else shows them.
    let mut code = false;
    for line in read("README.md").lines() {
        if line.starts_with("```") {
            code = line.starts_with("```rust");
        }
        assert!(!code || !line.trim_start().starts_with("# "), "{line}");
    }
}
