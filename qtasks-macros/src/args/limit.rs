//! How many of a function's tasks may run at once, and in how long.

use std::time::Duration;

use syn::{Error, Expr, Lit, Result};

use super::literal;

/// `limit = …`.
pub(crate) enum Limit {
    Known { count: u32, per: Duration, burst: Option<u32> },
    Expr(Expr),
}

pub(super) fn concurrency(expr: Expr) -> Result<Expr> {
    let number = match literal(&expr) {
        Some(Lit::Int(n)) => n.base10_parse::<u32>().is_ok_and(|n| n > 0),
        Some(_) => false,
        None => !matches!(expr, Expr::Unary(_)),
    };
    let rule = "`concurrency` is a number of tasks, at least 1";
    if number { Ok(expr) } else { Err(Error::new_spanned(expr, rule)) }
}

pub(super) fn limit(expr: Expr) -> Result<Limit> {
    match literal(&expr) {
        Some(Lit::Str(s)) => rate(&s.value()).ok_or_else(|| {
            let rule = "write for instance \"10/s\", \"100/m\", \"5/10s\" or \"100/m, burst 20\"";
            Error::new(s.span(), format!("{:?} is not a rate: {rule}", s.value()))
        }),
        Some(Lit::Int(n)) => Err(Error::new(n.span(), format!("a rate needs its time: \"{n}/s\" is {n} a second"))),
        Some(other) => Err(Error::new(other.span(), "`limit` is a text like \"10/s\", or a `Rate`")),
        None => Ok(Limit::Expr(expr)),
    }
}

/// The same as `Rate::from_str`, which this crate does not see.
fn rate(text: &str) -> Option<Limit> {
    let number = |n: &str| n.trim().parse::<u32>().ok().filter(|n| *n > 0);
    let (rate, burst) = match text.split_once(',') {
        Some((rate, burst)) => (rate, Some(number(burst.trim().strip_prefix("burst ")?)?)),
        None => (text, None),
    };
    let (count, per) = rate.split_once('/')?;
    let one = if per.trim().starts_with(|c: char| c.is_ascii_digit()) { "" } else { "1" };
    let per = humantime::parse_duration(&format!("{one}{}", per.trim())).ok().filter(|per| !per.is_zero())?;
    Some(Limit::Known { count: number(count)?, per, burst })
}
