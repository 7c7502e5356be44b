//! `cron`, `timezone` and `every`: a task function that runs by itself.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote};
use syn::parse::ParseStream;
use syn::{Error, Expr, Ident, Lit, Result};

use crate::args::{Args, Keyed, TimeLimit, literal, value};
use crate::errors::Errors;
use crate::params::{From, Param};
use crate::types::is_option;

/// What the attribute says of it.
#[derive(Default)]
pub(crate) struct Schedule {
    cron: Option<Keyed<Expr>>,
    timezone: Option<Keyed<Expr>>,
    every: Option<Keyed<TimeLimit>>,
}

impl Schedule {
    /// Reads the value of one of the three.
    pub(crate) fn one(&mut self, key: Ident, input: ParseStream<'_>) -> Result<()> {
        if key == "cron" {
            let value = value(&key, "\"0 9 * * Mon-Fri\"", input)?;
            check_cron(&value)?;
            self.cron = Some(Keyed { key, value });
        } else if key == "timezone" {
            let value = value(&key, "\"Europe/Berlin\"", input)?;
            check_text(&value, "a time zone is a text like \"Europe/Berlin\"")?;
            self.timezone = Some(Keyed { key, value });
        } else {
            self.every = Some(Keyed { value: period(&key, input)?, key });
        }
        Ok(())
    }

    /// The `ScheduleSpec`, if there is one.
    pub(crate) fn spec(&self, p: &TokenStream, duration: impl Fn(&TimeLimit) -> TokenStream) -> Option<TokenStream> {
        if let Some(every) = &self.every {
            let period = duration(&every.value);
            return Some(quote!(#p::ScheduleSpec::Every(#period)));
        }
        let expression = &self.cron.as_ref()?.value;
        let timezone = self.timezone.as_ref().map_or_else(|| quote!("UTC"), |zone| zone.value.to_token_stream());
        Some(quote!(#p::ScheduleSpec::Cron { expression: #expression, timezone: #timezone }))
    }
}

/// What one of them says about another, or about the function: who should give it arguments?
pub(crate) fn validate(args: &mut Args, params: &[Param], name: &Ident, errors: &mut Errors) {
    let schedule = &mut args.schedule;
    if let (Some(every), Some(_)) = (&schedule.every, &schedule.cron) {
        errors.on(&every.key, "a task runs by `cron` or `every`, not by both: leave one out");
        schedule.every = None;
    }
    if let Some(zone) = schedule.timezone.take_if(|_| schedule.cron.is_none()) {
        errors.on(&zone.key, "`timezone` says where the times of `cron` hold: add `cron = \"…\"`, or leave it out");
    }
    let cron = schedule.cron.as_ref().map(|cron| &cron.key);
    let Some(key) = cron.or(schedule.every.as_ref().map(|every| &every.key)) else { return };
    let required = |param: &&Param| match &param.from {
        From::Caller { default, .. } => default.is_none() && !is_option(&param.ty),
        From::Context | From::ContextRef => false,
    };
    for param in params.iter().filter(required) {
        let ident = &param.ident;
        let message = format!(
            "`{name}` runs by itself (`{key}`), and nobody gives it `{ident}`: write `#[default = …]` before it, or add it by `app.schedule(\"…\", {name}::add_task(…))`"
        );
        errors.on(&param.pat, message);
    }
}

fn check_text(expr: &Expr, rule: &str) -> Result<()> {
    match literal(expr) {
        Some(Lit::Str(_)) | None => Ok(()),
        Some(other) => Err(Error::new(other.span(), rule)),
    }
}

/// Its fields are counted here; what is in them is read when a worker starts.
fn check_cron(expr: &Expr) -> Result<()> {
    check_text(expr, "a cron expression is a text like \"0 9 * * Mon-Fri\"")?;
    let Some(Lit::Str(text)) = literal(expr) else { return Ok(()) };
    let value = text.value();
    let fields = value.split_whitespace().count();
    if (5..=7).contains(&fields) || fields == 1 && value.trim().starts_with('@') {
        return Ok(());
    }
    let rule = "it takes five: minute, hour, day of month, month, day of week, as in \"0 9 * * Mon-Fri\"";
    Err(Error::new(text.span(), format!("a cron expression of {fields} fields: {rule}")))
}

fn period(key: &Ident, input: ParseStream<'_>) -> Result<TimeLimit> {
    let expr: Expr = value(key, "\"30s\"", input)?;
    match literal(&expr) {
        Some(Lit::Str(s)) => match humantime::parse_duration(&s.value()) {
            Ok(period) if period.as_millis() >= 100 => Ok(TimeLimit::Known(period)),
            Ok(_) => {
                Err(Error::new(s.span(), format!("every {:?} is too often: it takes at least \"100ms\"", s.value())))
            }
            Err(e) => {
                let way_out = "write for instance \"30s\", \"5min\" or \"1h 30min\"";
                Err(Error::new(s.span(), format!("{:?} is not a duration: {e}; {way_out}", s.value())))
            }
        },
        Some(Lit::Int(n)) => Err(Error::new(n.span(), format!("`every` needs a unit: \"{n}s\" is {n} seconds"))),
        Some(other) => Err(Error::new(other.span(), "`every` is a text like \"30s\", or a `Duration`")),
        None => Ok(TimeLimit::Expr(expr)),
    }
}
