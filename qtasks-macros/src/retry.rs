//! `retry`, `backoff` and `retry_on`: whether, and when, a failed attempt is followed by another.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::spanned::Spanned as _;
use syn::{Error, Expr, Ident, Lit, LitStr, Result, Token, parenthesized};

use crate::args::{Keyed, equals, literal, value};
use crate::errors::Errors;
use crate::model::Model;

/// What the attribute says of it.
#[derive(Default)]
pub(crate) struct Retry {
    retry: Option<Expr>,
    backoff: Option<Keyed<Backoff>>,
    pub(crate) retry_on: Option<Expr>,
}

/// The waits between attempts.
enum Backoff {
    Exponential { first: Duration, longest: Duration, jitter: bool },
    Fixed(Duration),
}

/// As `RetryPolicy` has it.
const LONGEST: Duration = Duration::from_secs(300);

impl Retry {
    /// Reads the value of one of the three.
    pub(crate) fn one(&mut self, key: Ident, input: ParseStream<'_>) -> Result<()> {
        if key == "retry" {
            self.retry = Some(retries(&key, input)?);
        } else if key == "backoff" {
            self.backoff = Some(Keyed { value: backoff(&key, input)?, key });
        } else {
            self.retry_on = Some(value(&key, "path", input)?);
        }
        Ok(())
    }

    pub(crate) fn validate(&mut self, errors: &mut Errors) {
        if let Some(backoff) = self.backoff.take_if(|_| self.retry.is_none()) {
            let message = "`backoff` says how long to wait before another attempt, and there is none: add `retry = 3`";
            errors.on(&backoff.key, message);
        }
    }

    /// The `RetryPolicy`, if one is set.
    pub(crate) fn policy(&self, p: &TokenStream) -> Option<TokenStream> {
        let retry = self.retry.as_ref()?;
        let counted = matches!(literal(retry), Some(Lit::Int(_)));
        let policy = if counted { quote!(#p::RetryPolicy::times(#retry)) } else { quote!(#retry) };
        Some(match self.backoff.as_ref().map(|backoff| &backoff.value) {
            None => policy,
            Some(Backoff::Fixed(wait)) => {
                let wait = duration(*wait);
                quote!({ let policy: #p::RetryPolicy = #policy; policy.constant(#wait) })
            }
            Some(Backoff::Exponential { first, longest, jitter }) => {
                let (first, longest) = (duration(*first), duration(*longest));
                quote!({ let policy: #p::RetryPolicy = #policy; policy.exponential(#first, #longest).jitter(#jitter) })
            }
        })
    }
}

/// The type that reads what an error of a body wants, with `retry_on`; and what that says of other failures.
pub(crate) fn retry_on(model: &Model) -> Option<(TokenStream, TokenStream)> {
    let p = &model.p;
    let path = model.args.retry.retry_on.as_ref()?;
    let error = model.error();
    let (ty, wishes) =
        error.map_or_else(|| (quote!(#p::Never), quote!(#p::WishOf<0>)), |e| (e.ty.clone(), e.wishes.clone()));
    let at = crate::types::respan(p, path.span());
    let judged = quote_spanned!(path.span()=> #at::judged::<#ty, _, _>(#path, failed));
    let wishes = quote! {
        struct __QtasksRetryOn;
        impl __QtasksRetryOn {
            fn says(failed: #p::Failed<'_, #ty>) -> ::core::primitive::bool {
                #judged
            }
        }
        impl #p::Wishes<#ty> for __QtasksRetryOn {
            fn wish(error: &#ty) -> #p::Wish {
                <#wishes as #p::Wishes<#ty>>::wish(error).or_if(|| Self::says(#p::Failed::With(error)))
            }
        }
    };
    Some((wishes, quote!(|failure| __QtasksRetryOn::says(#p::Failed::As(failure)))))
}

fn duration(of: Duration) -> TokenStream {
    let (secs, nanos) = (of.as_secs(), of.subsec_nanos());
    quote!(::core::time::Duration::new(#secs, #nanos))
}

fn retries(key: &Ident, input: ParseStream<'_>) -> Result<Expr> {
    let expr: Expr = value(key, "3", input)?;
    let number = match literal(&expr) {
        Some(Lit::Int(n)) => n.base10_parse::<u32>().is_ok(),
        Some(_) => false,
        None => !matches!(expr, Expr::Unary(_)),
    };
    if number { Ok(expr) } else { Err(Error::new_spanned(expr, "`retry` is a number of retries, or a `RetryPolicy`")) }
}

fn backoff(key: &Ident, input: ParseStream<'_>) -> Result<Backoff> {
    let example = "exponential(\"1s\", max = \"5m\", jitter)";
    equals(key, example, input)?;
    let rule = format!("there are `{example}`, `fixed(\"10s\")` and `none`");
    let word =
        input.call(Ident::parse_any).map_err(|e| Error::new(e.span(), format!("`backoff` needs a word: {rule}")))?;
    if word == "none" {
        return Ok(Backoff::Fixed(Duration::ZERO));
    }
    if word != "exponential" && word != "fixed" {
        return Err(Error::new(word.span(), format!("`{word}` is not a way to wait: {rule}")));
    }
    if !input.peek(syn::token::Paren) {
        return Err(Error::new(word.span(), format!("`{word}` needs its wait: `{word}(\"1s\")`")));
    }
    let content;
    parenthesized!(content in input);
    let read = if word == "fixed" { fixed(&content) } else { exponential(&content) };
    if read.is_err() {
        // What is left of it is not told of as well.
        let _: TokenStream = content.parse()?;
    }
    read
}

fn fixed(content: ParseStream<'_>) -> Result<Backoff> {
    let first = wait(content)?;
    if content.is_empty() {
        Ok(Backoff::Fixed(first))
    } else {
        Err(content.error("`fixed` takes one wait: `fixed(\"10s\")`"))
    }
}

fn exponential(content: ParseStream<'_>) -> Result<Backoff> {
    let first = wait(content)?;
    let (mut longest, mut jitter) = (LONGEST.max(first), false);
    while !content.is_empty() {
        content.parse::<Token![,]>()?;
        if content.is_empty() {
            break;
        }
        let option = content.call(Ident::parse_any)?;
        if option == "jitter" {
            jitter = true;
        } else if option == "max" {
            content.parse::<Token![=]>()?;
            let span = content.span();
            longest = wait(content)?;
            if longest < first {
                return Err(Error::new(span, "the longest wait is shorter than the first"));
            }
        } else {
            return Err(Error::new(
                option.span(),
                format!("`exponential` takes `max = \"5m\"` and `jitter`, not `{option}`"),
            ));
        }
    }
    Ok(Backoff::Exponential { first, longest, jitter })
}

/// A wait as text.
fn wait(input: ParseStream<'_>) -> Result<Duration> {
    let text: LitStr = input.parse().map_err(|e| Error::new(e.span(), "a wait is a text like \"30s\""))?;
    humantime::parse_duration(&text.value()).map_err(|e| {
        Error::new(text.span(), format!("{:?} is not a duration: {e}; write for instance \"30s\"", text.value()))
    })
}
