//! What a task function takes: arguments in every pattern, and what the worker supplies.

use qtasks::{ErrorKind, FromContext, Qtasks, TaskFailure};

use super::*;

struct Db(&'static str);

#[task]
async fn params(
    ctx: Context,
    db: State<Db>,
    (a, b): (i64, i64),
    _: i64,
    #[default = 3] n: u32,
    #[serde(default, rename = "type")] r#kind: String,
    opt: Option<bool>,
) -> String {
    format!("{} {} {a} {b} {n} {kind:?} {opt:?}", ctx.name(), db.0)
}

#[task]
async fn borrowing(ctx: &Context, text: String) -> String {
    yield_!(format!("{} {text}", ctx.name()));
    tokio::task::yield_now().await;
    yield_!(format!("{}", ctx.attempt()));
}

#[task]
fn borrowing_sync(ctx: &Context, mut n: u32) -> u32 {
    n += ctx.attempt();
    yield_!(n);
}

#[task]
async fn borrowing_plain(ctx: &Context, n: u32) -> u32 {
    n + ctx.attempt()
}

#[task]
fn borrowing_plain_sync(ctx: &Context, n: u32) -> u32 {
    n + ctx.attempt()
}

#[task]
async fn resuming(from: Resume<u64>, n: u64) -> u64 {
    for i in from.count()..n {
        yield_!(i);
    }
}

struct Attempt(u32);

impl FromContext for Attempt {
    fn from_context(ctx: &Context) -> Result<Self, TaskFailure> {
        if ctx.name() == "own_context" { Ok(Attempt(ctx.attempt())) } else { Err(wrong(ctx)) }
    }
}

fn wrong(ctx: &Context) -> TaskFailure {
    TaskFailure::new(FailureKind::Error, format!("not for {}", ctx.name()))
}

#[task]
async fn own_context(#[context] attempt: Attempt) -> u32 {
    attempt.0
}

#[task]
async fn refused_context(#[context] attempt: Attempt) -> u32 {
    attempt.0
}

#[task]
fn defaults(
    #[serde(default = "five")] a: u8,
    #[default = "x".to_owned()] b: String,
    #[default] c: Vec<u8>,
    d: Alias<u8>,
) -> String {
    format!("{a} {b} {c:?} {d:?}")
}

fn five() -> u8 {
    5
}

/// Context, states and arguments in a direct call.
#[task]
async fn direct(ctx: Context, db: State<Db>, from: Resume<i64>) -> String {
    yield_!(format!("{} {} {}", ctx.attempt(), db.0, from.count()));
}

async fn app() -> Qtasks {
    let specs = [params::spec(), defaults::spec()];
    Qtasks::builder().store("memory:").tasks(specs).state(Db("pg")).start().await.expect("a memory store opens")
}

#[tokio::test]
async fn the_worker_supplies_what_does_not_travel() {
    let app = app().await;
    let task = params::add_task((1, 2), 0, 4, "k".into(), None).on(&app).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, "params pg 1 2 4 \"k\" None");
    assert_eq!(returning(borrowing::add_task("x".into())).await, ["borrowing x", "1"]);
    assert_eq!(returning(borrowing_sync::add_task(1)).await, [2]);
    assert_eq!(returning(borrowing_plain::add_task(1)).await, 2);
    assert_eq!(returning(borrowing_plain_sync::add_task(1)).await, 2);
    assert_eq!(returning(resuming::add_task(2)).await, [0, 1]);
    assert_eq!(returning(own_context::add_task()).await, 1);
    assert_eq!(failing(refused_context::add_task()).await, error("not for refused_context"));
}

#[tokio::test]
async fn a_direct_call_brings_its_own() {
    let values: Vec<_> = direct(Context::detached(), State::new(Db("here")), Resume::start()).collect().await;
    assert_eq!(values, ["1 here 0"]);
    let ctx = Context::detached();
    assert_eq!(borrowing_sync(&ctx, 1).collect::<Vec<_>>(), [2]);
    assert_eq!(borrowing(&ctx, "x".into()).count().await, 2);
}

#[tokio::test]
async fn callers_by_name_may_leave_out_what_has_a_default() {
    let app = app().await;
    for (args, returned) in [
        (serde_json::json!([[1, 2], 0]), "params pg 1 2 3 \"\" None"),
        (
            serde_json::json!({"arg2": [1, 2], "arg3": 0, "type": "x", "opt": true, "n": 9}),
            "params pg 1 2 9 \"x\" Some(true)",
        ),
    ] {
        let task = app.add_task("params", args).timeout(soon()).await.unwrap();
        assert_eq!(task.final_value, returned);
    }
    let task = app.add_task("defaults", serde_json::json!({"d": {"Ok": 1}})).timeout(soon()).await.unwrap();
    assert_eq!(task.final_value, "5 x [] Ok(1)");
}

#[tokio::test]
async fn wrong_arguments_are_named() {
    let app = app().await;
    for (args, message) in [
        (serde_json::json!([]), "argument `arg2` (`(i64, i64)`) is missing"),
        (serde_json::json!([1, 2, 3, 4, 5, 6]), "6 given, at most 5 taken"),
        (serde_json::json!({"nope": 1}), "`nope` is not known: this task takes `arg2`, `arg3`, `n`, `type`, `opt`"),
        (serde_json::json!([[1, "x"], 0]), "argument `arg2`: invalid type: string \"x\", expected i64"),
        (serde_json::json!({"arg2": [1, 2], "arg3": null}), "argument `arg3`: invalid type: null, expected i64"),
        (serde_json::json!({"arg2": [1, 2], "arg3": 1, "n": -1}), "argument `n`: invalid value: integer `-1`"),
        (serde_json::json!(3), "expected an object or an array of arguments"),
    ] {
        let error = app.add_task("params", args.clone()).await.unwrap_err();
        assert!(error.to_string().contains(message), "{args}: {error}");
        assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Codec), "{:?}", error.kind());
    }
    // A worker that is given them all the same says the same.
    let task = app.add_task("params", serde_json::json!([[1, "x"], 0])).unchecked();
    let error = task.timeout(soon()).await.unwrap_err();
    let failure = failure(&error);
    assert_eq!(failure.kind, FailureKind::Codec);
    assert!(failure.message.starts_with("argument `arg2`: invalid type: string \"x\", expected i64"), "{failure}");
}

#[test]
fn parameters_are_registered() {
    let args: Vec<_> = params::spec().args.iter().map(|a| (a.name, a.ty, a.required, a.default)).collect();
    assert_eq!(
        args,
        [
            ("arg2", "(i64, i64)", true, None),
            ("arg3", "i64", true, None),
            ("n", "u32", false, Some("3")),
            ("type", "String", false, Some("Default::default()")),
            ("opt", "Option<bool>", false, None),
        ]
    );
    let defaults: Vec<_> = defaults::spec().args.iter().map(|a| a.default).collect();
    assert_eq!(defaults, [Some("five()"), Some("\"x\".to_owned()"), Some("Default::default()"), None]);
    assert_eq!(params::spec().state.iter().map(|s| s.ty).collect::<Vec<_>>(), ["Db"]);
    assert!(borrowing::spec().state.is_empty());
}
