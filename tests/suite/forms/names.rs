//! Names: of tasks, and of all that stands beside them.

use super::*;

const PREFIX: &str = "from.a-const";

#[task(name = PREFIX)]
async fn by_constant() {}
#[task(name = concat!("x.", "y"))]
async fn by_concat() {}
#[task(name = "crate::task")]
async fn by_literal() {}

/// Named like what the type has.
#[task]
async fn spec(n: i64) -> i64 {
    yield_!(n);
}
/// Named like what the type has.
#[task]
async fn add_task(n: i64) -> i64 {
    yield_!(n);
}
/// Named like what the type has.
#[task]
async fn iter(n: i64) -> i64 {
    yield_!(n);
}
/// Named like what the type has.
#[task]
#[expect(non_snake_case, reason = "a name that the type has")]
fn NAME(n: i64) -> i64 {
    yield_!(n);
}
/// Named by a keyword.
#[task]
async fn r#match(r#type: i64) -> i64 {
    yield_!(r#type);
}

/// Its parameters are named like what the macro uses.
#[task]
#[expect(clippy::used_underscore_binding, reason = "names that the macro uses")]
async fn names(co: i64, args: i64, ctx: i64, raw: i64, __co: i64, __item: i64) -> i64 {
    yield_!(co + args + ctx + raw + __co + __item);
}
#[task]
fn names_plain(co: i64, args: i64, ctx: i64, raw: i64, a0: i64, spec: i64, value: i64) -> i64 {
    co + args + ctx + raw + a0 + spec + value
}
#[task]
fn names_of_items(#[default = __QTASKS] a: i64, #[default = Self_] b: i64) -> i64 {
    a + b
}
const __QTASKS: i64 = 40;
#[expect(non_upper_case_globals, reason = "near a keyword")]
const Self_: i64 = 2;

mod reexport {
    pub(super) use qtasks as q;
}
#[reexport::q::task(crate = crate::forms::names::reexport::q)]
async fn by_another_path(n: i64) -> i64 {
    reexport::q::yield_!(n);
}

macro_rules! make {
    ($name:ident, $text:literal, $t:ty, $e:expr, $b:block) => {
        #[qtasks::task(name = $text, retry = $e, priority = $e)]
        async fn $name(x: $t, n: Result<$t, String>) -> Result<$t, String> {
            let _ = &n;
            qtasks::yield_!($e);
            qtasks::yield_!(x);
            $b
        }
    };
}
make!(by_macro, "macro.made", u8, 7, {
    let _ = 1;
});

mod deep {
    pub(super) mod er {
        use qtasks::prelude::*;
        #[task]
        pub(in crate::forms) async fn shared(n: i64) -> i64 {
            yield_!(n);
        }
    }
}

/// Calls itself.
#[task]
async fn walk(depth: u32) -> u32 {
    yield_!(depth);
    if depth > 0 {
        let mut below: Pin<Box<dyn Stream<Item = u32> + Send>> = Box::pin(walk(depth - 1));
        while let Some(v) = below.next().await {
            yield_!(v);
        }
    }
}

#[task]
#[cfg(any())]
async fn not_there(x: Missing) -> Missing {
    yield_!(x)
}

#[tokio::test]
async fn a_task_may_bear_any_name() {
    assert_eq!([by_constant::NAME, by_concat::NAME, by_literal::NAME], ["from.a-const", "x.y", "crate::task"]);
    assert_eq!(<walk as TaskFn>::NAME, "walk");
    assert_eq!(returning(spec::add_task(3)).await, [3]);
    assert_eq!(returning(add_task::add_task(3)).await, [3]);
    assert_eq!(add_task(3).collect::<Vec<_>>().await, [3]);
    assert_eq!(returning(iter::add_task(3)).await, [3]);
    assert_eq!(returning(NAME::add_task(3)).await, [3]);
    assert_eq!(NAME::NAME, "NAME");
    assert_eq!(returning(r#match::add_task(3)).await, [3]);
    assert_eq!((r#match::NAME, r#match::spec().args[0].name), ("match", "type"));
}

#[tokio::test]
async fn no_name_of_the_users_meets_one_of_ours() {
    assert_eq!(returning(names::add_task(1, 2, 3, 4, 5, 6)).await, [21]);
    assert_eq!(returning(names_plain::add_task(1, 2, 3, 4, 5, 6, 7)).await, 28);
    assert_eq!(returning(names_of_items::add_task(1, 2)).await, 3);
}

#[tokio::test]
async fn the_macro_works_through_other_paths_and_macros() {
    assert_eq!(returning(by_another_path::add_task(1)).await, [1]);
    assert_eq!(returning(by_macro::add_task(1, Ok(2))).await, [7, 1]);
    assert_eq!((by_macro::NAME, by_macro::spec().priority, by_macro::spec().retry.retries), ("macro.made", 7, 7));
}

#[tokio::test]
async fn one_use_imports_function_and_type() {
    use deep::er::shared;
    assert_eq!(returning(shared::add_task(3)).await, [3]);
    assert_eq!(shared(3).collect::<Vec<_>>().await, [3]);
    assert_eq!((shared::NAME, shared::spec().module), ("shared", concat!(module_path!(), "::deep::er")));
}

#[tokio::test]
async fn a_task_may_stand_in_a_function_and_call_itself() {
    type Local = i64;
    #[task]
    async fn inner(n: Local) -> Local {
        yield_!(n);
    }
    assert_eq!(returning(inner::add_task(3)).await, [3]);
    assert_eq!(returning(walk::add_task(3)).await, [3, 2, 1, 0]);
}
