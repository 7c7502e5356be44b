//! Where a yield may stand, and how a body may end.

use std::time::Duration;

use super::*;

#[task]
async fn nested(n: i64) -> String {
    'outer: loop {
        for i in 0..n {
            match i {
                0 => yield_!("zero".to_owned()),
                1 => {
                    if let Some(x) = Some(i) {
                        yield_!(format!("if {x}"))
                    } else {
                        unreachable!()
                    }
                }
                2 => {
                    let f = async { 7 };
                    let inner: i32 = f.await;
                    yield_!(format!("awaited {inner}"));
                }
                3 => {
                    let v: Vec<i64> = (0..i).map(|x| x + 1).collect();
                    yield_!(format!("{v:?}"));
                }
                _ => break 'outer,
            }
        }
    }
    let unit: () = yield_!("value of a yield is ()".into());
    let () = unit;
}

#[task]
async fn everywhere(n: i64) -> i64 {
    let mut it = 0..n;
    while let Some(x) = {
        yield_!(-1);
        it.next()
    } {
        let Some(y) = Some(x) else {
            yield_!(0);
            continue;
        };
        let z = 'a: {
            if y == 1 {
                break 'a ({
                    yield_!(100);
                    5
                });
            }
            match y {
                v if {
                    yield_!(v * 10);
                    v == 0
                } =>
                {
                    1
                }
                _ => 2,
            }
        };
        yield_!({
            yield_!(z);
            z + 1
        });
        if x == 2 {
            return;
        }
    }
}

#[task]
async fn in_macros(n: u64) -> u64 {
    let (tx, mut rx) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        for i in 0..n {
            let _ = tx.send(i).await;
        }
    });
    loop {
        tokio::select! {
            v = rx.recv() => match v { Some(v) => yield_!(v), None => break },
            () = tokio::time::sleep(Duration::from_secs(50)) => { yield_!(99); break }
        }
    }
    assert_eq!(yield_!(1000), ());
}

tasks!(
    #[task]
    async fn in_macros_of_a_block(n: u64) -> u64 {
        tokio::select! {
            () = std::future::ready(()) => { yield n; }
        }
        assert_eq!(
            {
                yield 1;
                2
            },
            2
        );
        let inner = async_stream::stream! { yield 7; };
        let mut inner = std::pin::pin!(inner);
        while let Some(v) = inner.next().await {
            yield v;
        }
    }
);

/// The guard is a temporary of the yielded expression: gone before the task waits.
#[task]
async fn locks(n: u64) -> u64 {
    let m = std::sync::Mutex::new(n);
    yield_!(*m.lock().expect("nothing panicked"));
    yield_!(*m.lock().expect("nothing panicked"));
}

#[task]
async fn conditional(n: u64) -> u64 {
    #[cfg(any())]
    yield_!(n + 100);
    #[cfg(not(any()))]
    yield_!(n);
}

#[task]
async fn diverges(mut n: i64) -> i64 {
    loop {
        yield_!(n);
        n += 1;
    }
}

#[task]
async fn diverges_fallibly(mut n: i64) -> Result<i64, String> {
    loop {
        yield_!(n);
        n += 1;
        if n > 3 {
            Err("enough")?;
        }
    }
}

#[task]
async fn returns_early(n: i64) -> Result<i64, String> {
    yield_!(n);
    if n == 1 {
        return;
    }
    let f = async {
        if n == 2 {
            return;
        }
        tokio::task::yield_now().await;
    };
    f.await;
    if n == 3 {
        return Err("three".into());
    }
    yield_!(n);
}

#[task]
#[expect(clippy::unused_unit, reason = "written out")]
async fn units() -> () {
    yield_!();
    yield_!(());
}

#[task]
async fn panics(n: i64) -> i64 {
    yield_!(n);
    panic!("on purpose {n}")
}

#[task]
#[must_use]
#[deprecated = "use another"]
async fn old(n: i64) -> i64 {
    yield_!(n);
}

#[tokio::test]
async fn a_yield_may_stand_anywhere_in_the_body() {
    let all = ["zero", "if 1", "awaited 7", "[1, 2, 3]", "value of a yield is ()"];
    assert_eq!(returning(nested::add_task(5)).await, all);
    let all = [-1, 0, 1, 2, -1, 100, 5, 6, -1, 20, 2, 3];
    assert_eq!(returning(everywhere::add_task(3)).await, all);
    assert_eq!(everywhere(3).collect::<Vec<_>>().await, all);
    assert_eq!(returning(in_macros::add_task(2)).await, [0, 1, 1000]);
    assert_eq!(returning(in_macros_of_a_block::add_task(5)).await, [5, 1, 7]);
    assert_eq!(returning(locks::add_task(2)).await, [2, 2]);
    assert_eq!(returning(conditional::add_task(2)).await, [2]);
    assert_eq!(returning(units::add_task()).await, [(), ()]);
}

#[tokio::test]
async fn a_body_may_end_in_any_way() {
    assert_eq!(diverges(3).take(3).collect::<Vec<_>>().await, [3, 4, 5]);
    assert_eq!(failing(diverges_fallibly::add_task(2)).await, error("enough"));
    assert_eq!(returning(returns_early::add_task(1)).await, [1]);
    assert_eq!(returning(returns_early::add_task(2)).await, [2, 2]);
    assert_eq!(failing(returns_early::add_task(3)).await, error("three"));
    let (kind, message) = failing(panics::add_task(1)).await;
    assert_eq!(kind, FailureKind::Panic);
    assert!(message.contains("on purpose 1"), "{message}");
}

#[tokio::test]
async fn an_endless_task_is_streamed() {
    let app = app_of([diverges::spec()]).await;
    let handle = diverges::add_task(3).on(&app).await.unwrap();
    let first: Vec<i64> = handle.stream().take(2).try_collect().await.unwrap();
    assert_eq!(first, [3, 4]);
    handle.cancel("enough").await.unwrap();
}

#[tokio::test]
#[expect(deprecated, reason = "a deprecated task can still be used")]
async fn attributes_stay_with_the_function() {
    assert_eq!(returning(old::add_task(2)).await, [2]);
    assert_eq!(old(2).collect::<Vec<_>>().await, [2]);
}
