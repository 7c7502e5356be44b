//! "Tasks with yield" and "Задача-генератор (yield)", the two pages of QTasks.

use std::sync::Mutex;

use qtasks::prelude::*;

use super::{forms, seen};
use crate::app_of;

static HANDLED: Mutex<Vec<i64>> = Mutex::new(Vec::new());

async fn yield_func(result: i64) -> i64 {
    HANDLED.lock().unwrap().push(result);
    result + 2
}

forms! {
    #[task(description = "Test task with a generator.", generate_handler = yield_func)]
    #[expect(clippy::mut_range_bound, reason = "the body is the page's")]
    fn test_yield([mut] n: i64) -> i64;
    attribute {
        for _ in 0..n {
            n += 1;
            yield_!(n);
        }
    }
    block {
        for _ in 0..n {
            n += 1;
            yield n;
        }
    }
    own stream
    iterator {
        (0..n).map(move |i| n + i + 1)
    }
}

#[tokio::test]
async fn test_yield() {
    let forms = test_yield::every(5, [8, 9, 10, 11, 12]).await;
    assert!(HANDLED.lock().unwrap().chunks(5).all(|run| run == [6, 7, 8, 9, 10]));
    for spec in forms {
        assert_eq!((spec.name, spec.description), ("test_yield", Some("Test task with a generator.")));
        assert!(spec.generating && spec.has_handler);
    }
}

mod with_echo {
    use super::*;

    async fn yield_func(result: i64) -> i64 {
        result + 2
    }

    #[task(generate_handler = yield_func, echo)]
    #[expect(clippy::mut_range_bound, reason = "the body is the page's")]
    pub(super) async fn test_yield(ctx: Context, mut n: i64) -> i64 {
        assert_eq!(ctx.name(), "test_yield");
        for _ in 0..n {
            n += 1;
            yield_!(n);
        }
    }
}

#[tokio::test]
async fn test_yield_with_echo() {
    use with_echo::test_yield;
    let app = app_of([test_yield::spec()]).await;
    assert!(test_yield::spec().echo);
    assert_eq!(seen(&app, || test_yield::add_task(5)).await, [8, 9, 10, 11, 12]);
}

fn sync_handler(value: i64) -> i64 {
    value * 2
}

forms! {
    #[task(generate_handler = sync_handler)]
    fn sync_gen(n: i64) -> i64;
    attribute {
        for i in 0..n {
            yield_!(i + 1);
        }
    }
    block {
        for i in 0..n {
            yield i + 1;
        }
    }
    own stream
    iterator {
        (0..n).map(|i| i + 1)
    }
}

#[tokio::test]
async fn sync_gen() {
    sync_gen::every(5, [2, 4, 6, 8, 10]).await;
}

static DB: Mutex<Vec<String>> = Mutex::new(Vec::new());

async fn save_to_db(value: String) -> String {
    DB.lock().unwrap().push(value.clone());
    value
}

forms! {
    #[task(generate_handler = save_to_db)]
    fn ids() -> String;
    attribute {
        for id_ in 0..5 {
            yield_!(format!("user_{id_}"));
        }
    }
    block {
        for id_ in 0..5 {
            yield format!("user_{id_}");
        }
    }
    own stream
    iterator {
        (0..5).map(|id_| format!("user_{id_}"))
    }
}

#[tokio::test]
async fn ids() {
    let users = ["user_0", "user_1", "user_2", "user_3", "user_4"];
    ids::every(users).await;
    // Each value of each run was saved, in order, once.
    let saved = DB.lock().unwrap();
    assert!(saved.len().is_multiple_of(5) && saved.chunks(5).all(|run| run == users), "{saved:?}");
}

struct Employee {
    email: &'static str,
}

fn get_employees() -> Vec<Employee> {
    ["ada@example.com", "grace@example.com", "эдгар@example.com"].map(|email| Employee { email }).into()
}

async fn log_notification(msg: String) -> String {
    eprintln!("Отправлено: {msg}");
    msg
}

forms! {
    #[task(generate_handler = log_notification)]
    fn send_notifications() -> String;
    attribute {
        for employee in get_employees() {
            yield_!(format!("Отправлено уведомление: {}", employee.email));
        }
    }
    block {
        for employee in get_employees() {
            yield format!("Отправлено уведомление: {}", employee.email);
        }
    }
    own stream
    iterator {
        get_employees().into_iter().map(|employee| format!("Отправлено уведомление: {}", employee.email))
    }
}

#[tokio::test]
async fn send_notifications() {
    let sent = get_employees().iter().map(|e| format!("Отправлено уведомление: {}", e.email)).collect::<Vec<_>>();
    assert_eq!(sent[2], "Отправлено уведомление: эдгар@example.com");
    send_notifications::every(sent).await;
}
