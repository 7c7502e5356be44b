//! The arguments of `#[task(…)]`. Each is read by itself: a mistake in one leaves the others standing.

use std::time::Duration;

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream, Parser as _};
use syn::punctuated::Punctuated;
use syn::{
    Error, Expr, ExprClosure, Ident, Lit, LitBool, LitStr, Path, Result, ReturnType, Token, Type, parenthesized,
};

use crate::errors::Errors;
use crate::retry::Retry;
use crate::schedule::Schedule;
use crate::types::result_parts;

pub(crate) mod limit;

/// What `#[task(…)]` says.
#[derive(Default)]
pub(crate) struct Args {
    pub(crate) name: Option<Expr>,
    pub(crate) description: Option<Expr>,
    pub(crate) yields: Option<Type>,
    pub(crate) handler: Option<Handler>,
    pub(crate) queue: Option<Expr>,
    pub(crate) priority: Option<Expr>,
    pub(crate) retry: Retry,
    pub(crate) time_limit: Option<TimeLimit>,
    pub(crate) cancel_when_unwatched: Option<TimeLimit>,
    pub(crate) idle_limit: Option<TimeLimit>,
    pub(crate) isolation: Option<Isolation>,
    pub(crate) concurrency: Option<Expr>,
    pub(crate) limit: Option<limit::Limit>,
    pub(crate) tags: Vec<Expr>,
    pub(crate) on_retry: Option<Keyed<OnRetry>>,
    pub(crate) yields_max: Option<Keyed<Expr>>,
    pub(crate) log_bytes_max: Option<Expr>,
    pub(crate) keep: Option<Keyed<Keep>>,
    pub(crate) schedule: Schedule,
    pub(crate) executor: Option<Path>,
    pub(crate) middleware: Vec<Expr>,
    /// By the names of signals.
    pub(crate) receivers: Vec<(Ident, Expr)>,
    pub(crate) echo: Option<Span>,
    pub(crate) stream: Option<Span>,
    pub(crate) iterator: Option<Span>,
    pub(crate) krate: Option<Path>,
}

/// A value with the key it was given under, for errors about the two.
pub(crate) struct Keyed<T> {
    pub(crate) key: Ident,
    pub(crate) value: T,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnRetry {
    Replay,
    Restart,
}

pub(crate) enum Keep {
    All,
    Last(Expr),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    None,
    Process,
}

pub(crate) enum TimeLimit {
    Known(Duration),
    Expr(Expr),
}

pub(crate) struct Handler {
    pub(crate) key: Ident,
    /// The path of a function, or a closure.
    pub(crate) value: TokenStream,
    /// What it makes of an item, where that is another type.
    pub(crate) out: Option<Type>,
}

const KNOWN: &[&str] = &[
    "name",
    "description",
    "yield",
    "generate_handler",
    "queue",
    "priority",
    "retry",
    "backoff",
    "retry_on",
    "time_limit",
    "cancel_when_unwatched",
    "idle_limit",
    "isolation",
    "concurrency",
    "limit",
    "tags",
    "on_retry",
    "yields_max",
    "log_bytes_max",
    "keep",
    "cron",
    "timezone",
    "every",
    "executor",
    "middleware",
    "before_job",
    "before_loop",
    "after_loop",
    "on_success",
    "on_failure",
    "on_cancel",
    "echo",
    "stream",
    "iterator",
    "crate",
];

/// The signals, and the types in which they come.
pub(crate) const SIGNALS: [(&str, &str); 7] = [
    ("before_job", "BeforeJob"),
    ("before_loop", "BeforeLoop"),
    ("after_loop", "AfterLoop"),
    ("on_success", "OnSuccess"),
    ("on_failure", "OnFailure"),
    ("on_retry", "OnRetry"),
    ("on_cancel", "OnCancel"),
];

/// The type of a signal, in the place of its name.
pub(crate) fn signal_type(signal: &Ident) -> Ident {
    let known = SIGNALS.iter().find(|(name, _)| signal == name);
    Ident::new(known.map_or("BeforeJob", |(_, ty)| ty), signal.span())
}

/// What others call it, where that is more than a slip of the finger away.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("timeout", "time_limit"),
    ("rate_limit", "limit"),
    ("rate", "limit"),
    ("max_concurrency", "concurrency"),
    ("retries", "retry"),
    ("max_retries", "retry"),
    ("handler", "generate_handler"),
    ("item", "yield"),
    ("desc", "description"),
    ("doc", "description"),
    ("crate_path", "crate"),
];

/// What is set of each task, not of all of a function.
const WHEN_ADDED: &[&str] = &["debounce", "unique", "idempotency_key", "delay", "at", "expires", "held"];

impl Args {
    /// Reads what it can; notes the rest in `errors`.
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Args::default();
        let parser = |input: ParseStream<'_>| {
            let mut seen = Vec::new();
            while !input.is_empty() {
                if let Err(e) = args.one(input, &mut seen).and_then(|()| end_of_one(input)) {
                    errors.add(e);
                    skip_one(input)?;
                }
                let _: Option<Token![,]> = input.parse()?;
            }
            Ok(())
        };
        if let Err(e) = parser.parse2(tokens) {
            errors.add(e);
        }
        args
    }

    fn one(&mut self, input: ParseStream<'_>, seen: &mut Vec<String>) -> Result<()> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error("expected an argument of `#[task]`"));
        }
        let key = Ident::parse_any(input)?;
        let name = key.to_string();
        if seen.contains(&name) {
            return Err(Error::new(key.span(), format!("`{name}` is given twice")));
        }
        seen.push(name.clone());
        match name.as_str() {
            "name" => self.name = Some(name_value(&key, "name of a task", input)?),
            "description" => self.description = Some(value(&key, "\"…\"", input)?),
            "yield" => self.yields = Some(value(&key, "Type", input)?),
            "generate_handler" => self.handler = Some(handler(key, input)?),
            "queue" => self.queue = Some(name_value(&key, "name of a queue", input)?),
            "priority" => self.priority = Some(value(&key, "0", input)?),
            "retry" | "backoff" | "retry_on" => self.retry.one(key, input)?,
            "time_limit" => self.time_limit = Some(time_limit(&key, input)?),
            "cancel_when_unwatched" => self.cancel_when_unwatched = Some(time_limit(&key, input)?),
            "idle_limit" => self.idle_limit = Some(time_limit(&key, input)?),
            "isolation" => self.isolation = Some(isolation(&key, input)?),
            "concurrency" => self.concurrency = Some(limit::concurrency(value(&key, "4", input)?)?),
            "limit" => self.limit = Some(limit::limit(value(&key, "\"10/s\"", input)?)?),
            "tags" => self.tags = tags(&key, input)?,
            "on_retry" => self.on_retry = Some(Keyed { value: on_retry(&key, input)?, key }),
            _ if name != "on_retry" && SIGNALS.iter().any(|(signal, _)| name == *signal) => {
                let path = value(&key, "path", input)?;
                self.receivers.push((key, path));
            }
            "yields_max" => self.yields_max = Some(Keyed { value: value(&key, "1_000_000", input)?, key }),
            "log_bytes_max" => self.log_bytes_max = Some(value(&key, "1 << 30", input)?),
            "keep" => self.keep = Some(Keyed { value: keep(&key, input)?, key }),
            "executor" => self.executor = Some(value(&key, "path", input)?),
            "middleware" => self.middleware = middleware(&key, input)?,
            "cron" | "timezone" | "every" => self.schedule.one(key, input)?,
            "echo" => self.echo = flag(input)?.then_some(key.span()),
            "stream" => self.stream = flag(input)?.then_some(key.span()),
            "iterator" => self.iterator = flag(input)?.then_some(key.span()),
            "crate" => {
                equals(&key, "path", input)?;
                let quoted = input.peek(LitStr).then(|| input.parse::<LitStr>()).transpose()?;
                self.krate = Some(match quoted {
                    Some(text) => text.parse_with(Path::parse_mod_style)?,
                    None => input.call(Path::parse_mod_style)?,
                });
            }
            _ => return Err(Error::new(key.span(), unknown(&name))),
        }
        Ok(())
    }
}

fn end_of_one(input: ParseStream<'_>) -> Result<()> {
    if input.is_empty() || input.peek(Token![,]) { Ok(()) } else { Err(input.error("expected `,`")) }
}

/// Goes to the comma before the next argument, or to the end.
fn skip_one(input: ParseStream<'_>) -> Result<()> {
    if input.peek(Token![,]) {
        return Ok(());
    }
    while !input.is_empty() {
        let ahead = input.fork();
        if ahead.parse::<Token![,]>().is_ok() && (ahead.is_empty() || is_argument(&ahead)) {
            break;
        }
        let _: TokenTree = input.parse()?;
    }
    Ok(())
}

fn is_argument(input: ParseStream<'_>) -> bool {
    let key = input.call(Ident::parse_any);
    key.is_ok_and(|key| {
        let given = input.peek(Token![=]) && !input.peek(Token![==]);
        given || KNOWN.iter().any(|k| key == k) && (input.is_empty() || input.peek(Token![,]) || key == "tags")
    })
}

fn unknown(name: &str) -> String {
    if WHEN_ADDED.contains(&name) {
        return format!("`{name}` is set where a task is added: `add_task(…).{name}(…)`");
    }
    let meant = OTHER_WORDS.iter().find(|(other, _)| *other == name).map(|(_, known)| *known);
    let meant = meant.or_else(|| nearest(name, KNOWN.iter().copied()));
    match meant {
        Some(known) => format!("`{name}` is not an argument of `#[task]`; did you mean `{known}`?"),
        None => format!("`{name}` is not an argument of `#[task]`; known are `{}`", KNOWN.join("`, `")),
    }
}

/// The known word that is meant, if one is near.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.min_by_key(|k| edits(k, name)).filter(|k| edits(k, name) <= 2)
}

/// By how many edits two words differ.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let best = (corner + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

pub(crate) fn equals(key: &Ident, what: &str, input: ParseStream<'_>) -> Result<()> {
    if input.parse::<Option<Token![=]>>()?.is_none() || input.is_empty() {
        return Err(Error::new(key.span(), format!("`{key}` needs a value: `{key} = {what}`")));
    }
    Ok(())
}

pub(crate) fn value<T: Parse>(key: &Ident, what: &str, input: ParseStream<'_>) -> Result<T> {
    equals(key, what, input)?;
    input.parse()
}

fn flag(input: ParseStream<'_>) -> Result<bool> {
    if input.parse::<Option<Token![=]>>()?.is_none() {
        return Ok(true);
    }
    Ok(input.parse::<LitBool>()?.value)
}

/// The literal that an expression is, also when it came through a `macro_rules!`.
pub(crate) fn literal(expr: &Expr) -> Option<&Lit> {
    match expr {
        Expr::Lit(l) => Some(&l.lit),
        Expr::Group(g) => literal(&g.expr),
        Expr::Paren(p) => literal(&p.expr),
        _ => None,
    }
}

/// A name as text, checked here where it is a literal.
fn name_value(key: &Ident, what: &str, input: ParseStream<'_>) -> Result<Expr> {
    let expr = value(key, "\"…\"", input)?;
    check_name(what, &expr)?;
    Ok(expr)
}

fn check_name(what: &str, expr: &Expr) -> Result<()> {
    match literal(expr) {
        Some(Lit::Str(s)) => name_problem(what, &s.value()).map_or(Ok(()), |p| Err(Error::new(s.span(), p))),
        Some(other) => Err(Error::new(other.span(), format!("the {what} is a string: `\"…\"`"))),
        None => Ok(()),
    }
}

/// What is wrong with a name, if anything is.
pub(crate) fn name_problem(what: &str, name: &str) -> Option<String> {
    const BYTES_MAX: usize = 128;
    let bad = name.chars().find(|c| !(c.is_ascii_alphanumeric() || "_.:-".contains(*c)));
    let problem = match bad {
        _ if name.is_empty() => "is empty".to_owned(),
        _ if name.len() > BYTES_MAX => format!("has {} bytes", name.len()),
        Some(c) => format!("contains {c:?}"),
        None => return None,
    };
    let rule = "it takes 1 to 128 bytes of letters, digits, `_`, `.`, `:` and `-`";
    Some(format!("the {what} {problem}: {rule}"))
}

fn handler(key: Ident, input: ParseStream<'_>) -> Result<Handler> {
    equals(&key, "path", input)?;
    let closure =
        input.peek(Token![|]) || input.peek(Token![||]) || input.peek(Token![move]) || input.peek(Token![async]);
    let (value, mut out) = if closure {
        let closure: ExprClosure = input.parse()?;
        let out = match &closure.output {
            ReturnType::Type(_, t) => Some(result_parts(t).map_or_else(|| (**t).clone(), |(ok, _)| ok)),
            ReturnType::Default => None,
        };
        (closure.into_token_stream(), out)
    } else {
        if !(input.peek(Ident::peek_any) || input.peek(Token![::]) || input.peek(Token![<])) {
            return Err(input.error("expected the path of a function, or a closure"));
        }
        (input.parse::<syn::ExprPath>()?.into_token_stream(), None)
    };
    if input.parse::<Option<Token![->]>>()?.is_some() {
        out = Some(input.parse()?);
    }
    Ok(Handler { key, value, out })
}

fn time_limit(key: &Ident, input: ParseStream<'_>) -> Result<TimeLimit> {
    let expr: Expr = value(key, "\"30s\"", input)?;
    match literal(&expr) {
        Some(Lit::Str(s)) => match humantime::parse_duration(&s.value()) {
            Ok(limit) => Ok(TimeLimit::Known(limit)),
            Err(e) => Err(Error::new(
                s.span(),
                format!("{:?} is not a duration: {e}; write for instance \"30s\", \"5min\" or \"1h 30min\"", s.value()),
            )),
        },
        Some(Lit::Int(n)) => Err(Error::new(n.span(), format!("a time limit needs its unit: \"{n}s\" is {n} seconds"))),
        Some(other) => Err(Error::new(other.span(), format!("`{key}` is a text like \"30s\", or a `Duration`"))),
        None => Ok(TimeLimit::Expr(expr)),
    }
}

fn isolation(key: &Ident, input: ParseStream<'_>) -> Result<Isolation> {
    let expr: Expr = value(key, "\"process\"", input)?;
    let Some(Lit::Str(word)) = literal(&expr) else {
        return Err(Error::new_spanned(&expr, "`isolation` is \"process\" or \"none\""));
    };
    match &*word.value() {
        "process" => Ok(Isolation::Process),
        "none" => Ok(Isolation::None),
        other => {
            let message = format!(
                "there is no isolation {other:?}: \"process\" runs each attempt in a child process, \"none\" in the worker's own"
            );
            Err(Error::new(word.span(), message))
        }
    }
}

fn tags(key: &Ident, input: ParseStream<'_>) -> Result<Vec<Expr>> {
    let list = |content: ParseStream<'_>| Punctuated::<Expr, Token![,]>::parse_terminated(content);
    let tags = if input.peek(syn::token::Paren) {
        let content;
        parenthesized!(content in input);
        list(&content)?
    } else {
        equals(key, "[\"…\"]", input)?;
        if !input.peek(syn::token::Bracket) {
            return Err(input.error("expected a list: `tags(\"a\", \"b\")`"));
        }
        let content;
        syn::bracketed!(content in input);
        list(&content)?
    };
    tags.iter().try_for_each(|tag| check_name("tag", tag))?;
    Ok(tags.into_iter().collect())
}

/// One, or a list of them.
fn middleware(key: &Ident, input: ParseStream<'_>) -> Result<Vec<Expr>> {
    Ok(match value(key, "path", input)? {
        Expr::Array(list) => list.elems.into_iter().collect(),
        one => vec![one],
    })
}

fn on_retry(key: &Ident, input: ParseStream<'_>) -> Result<OnRetry> {
    equals(key, "restart", input)?;
    let (word, span) = if input.peek(LitStr) {
        let text: LitStr = input.parse()?;
        (text.value(), text.span())
    } else {
        let word = input.call(Ident::parse_any)?;
        (word.to_string(), word.span())
    };
    match word.as_str() {
        "replay" => Ok(OnRetry::Replay),
        "restart" => Ok(OnRetry::Restart),
        "resume" => {
            Err(Error::new(span, "a task resumes when it takes a `Resume<T>` parameter, T being what it yields"))
        }
        _ => Err(Error::new(
            span,
            format!("`{word}` is not a way to go on: there are `replay` (the default) and `restart`"),
        )),
    }
}

fn keep(key: &Ident, input: ParseStream<'_>) -> Result<Keep> {
    equals(key, "last(1_000)", input)?;
    let span = input.span();
    let word = input.call(Ident::parse_any)?;
    if word == "all" {
        return Ok(Keep::All);
    }
    if word == "last" && input.peek(syn::token::Paren) {
        let content;
        parenthesized!(content in input);
        return match content.parse() {
            Ok(n) if content.is_empty() => Ok(Keep::Last(n)),
            _ => Err(Error::new(span, "`last` takes one number: `keep = last(1_000)`")),
        };
    }
    Err(Error::new(span, "expected `all` or `last(n)`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let mut errors = Errors::default();
        Args::parse(text.parse().unwrap(), &mut errors);
        errors.messages()
    }

    #[test]
    fn every_argument_is_read() {
        let all = "name = \"a.b\", description = \"x\", yield = Vec<(u8, u8)>, generate_handler = a::b::<u8, u8> -> c, \
                   queue = Q, priority = -5, retry = 3, backoff = exponential(\"1s\", max = \"5m\", jitter), \
                   retry_on = a::b, time_limit = \"1h 30min\", cancel_when_unwatched = \"30s\", idle_limit = \"5s\", isolation = \"process\", concurrency = 4, limit = \"10/s\", tags(\"a\", B), on_retry = \"restart\", \
                   yields_max = 1 << 3, log_bytes_max = 2, keep = last(N), executor = a::Own, middleware = [a::B, C], cron = \"0 9 * * *\", timezone = \"UTC\", echo, stream = false, \
                   iterator, crate = crate::q,";
        assert_eq!(problems(all), Vec::<String>::new());
        assert_eq!(problems("tags = [\"a\"], keep = all, on_retry = replay"), Vec::<String>::new());
        assert_eq!(problems("generate_handler = async |a: u8, b| -> u8 { a }, echo"), Vec::<String>::new());
    }

    #[test]
    fn a_mistake_leaves_the_other_arguments_standing() {
        let found = problems("nam = f(a, b) + 3, retry = \"x\", time_limit = 30, 3, echo, echo, tags = \"a\"");
        assert_eq!(
            found,
            [
                "`nam` is not an argument of `#[task]`; did you mean `name`?",
                "`retry` is a number of retries, or a `RetryPolicy`",
                "a time limit needs its unit: \"30s\" is 30 seconds",
                "expected an argument of `#[task]`",
                "`echo` is given twice",
                "expected a list: `tags(\"a\", \"b\")`",
            ]
        );
    }

    #[test]
    fn words_are_told_apart_by_edits() {
        assert_eq!(edits("queue", "queue"), 0);
        assert_eq!(edits("queue", "qeue"), 1);
        assert_eq!(edits("tags", "tag"), 1);
        assert!(edits("name", "cron") > 2);
    }
}
