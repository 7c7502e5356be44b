//! `#[receiver(…)]`: a function of the program that is told what happens to tasks.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens as _, quote};
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::{Error, FnArg, Ident, ItemFn, LitStr, Path, Result, Token};

use crate::args::{SIGNALS, nearest};

/// What `#[receiver(…)]` says.
struct Args {
    signal: Ident,
    /// Of which task function; of all, if of none.
    task: Option<Path>,
    krate: Option<Path>,
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let known = SIGNALS.map(|(name, _)| name).join("`, `");
        if input.is_empty() {
            let message = format!("which signal? `#[receiver(after_loop)]`; there are `{known}`");
            return Err(Error::new(Span::call_site(), message));
        }
        let signal = input.call(Ident::parse_any)?;
        if !SIGNALS.iter().any(|(name, _)| signal == name) {
            let meant = nearest(&signal.to_string(), SIGNALS.iter().map(|(name, _)| *name));
            let hint = meant.map_or_else(|| format!("there are `{known}`"), |m| format!("did you mean `{m}`?"));
            return Err(Error::new(signal.span(), format!("`{signal}` is not a signal; {hint}")));
        }
        let mut args = Args { signal, task: None, krate: None };
        while input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            let key = input.call(Ident::parse_any)?;
            match key.to_string().as_str() {
                "task" => {
                    input.parse::<Token![=]>()?;
                    args.task = Some(input.parse()?);
                }
                "crate" => {
                    input.parse::<Token![=]>()?;
                    args.krate = Some(match input.peek(LitStr) {
                        true => input.parse::<LitStr>()?.parse_with(Path::parse_mod_style)?,
                        false => input.call(Path::parse_mod_style)?,
                    });
                }
                other => {
                    let message = format!("`{other}` is not an argument of `#[receiver]`; known are `task`, `crate`");
                    return Err(Error::new(key.span(), message));
                }
            }
        }
        if input.is_empty() { Ok(args) } else { Err(input.error("expected `,`")) }
    }
}

/// The function, and its registration.
pub(crate) fn receiver(args: TokenStream, item: &TokenStream) -> TokenStream {
    let function = match syn::parse2::<ItemFn>(item.clone()) {
        Ok(function) => function,
        Err(_) => {
            let error = Error::new_spanned(item, "`#[receiver]` goes on a function").into_compile_error();
            return quote!(#error #item);
        }
    };
    match syn::parse2::<Args>(args).and_then(|args| register(&args, &function)) {
        // The signal comes by value, whatever the function does with it.
        Ok(registration) => quote!(#[allow(clippy::needless_pass_by_value)] #function #registration),
        Err(error) => {
            let error = error.into_compile_error();
            quote!(#error #function)
        }
    }
}

fn register(args: &Args, function: &ItemFn) -> Result<TokenStream> {
    let krate = args.krate.as_ref().map_or_else(|| quote!(::qtasks), |k| k.to_token_stream());
    let p = quote!(#krate::__private);
    let (signal, name) = (&args.signal, &function.sig.ident);
    let inputs = &function.sig.inputs;
    if let Some(FnArg::Receiver(this)) = inputs.first() {
        return Err(Error::new_spanned(this, "a receiver is a free function: `self` has nobody to be"));
    }
    if !function.sig.generics.params.is_empty() {
        let message = "a receiver has no generic parameters: nobody says what they are";
        return Err(Error::new_spanned(&function.sig.generics, message));
    }
    let ty = crate::args::signal_type(signal);
    let call = match inputs.len() {
        1 => quote!(|signal| #p::hear(#name(signal))),
        2 if signal == "after_loop" => quote!(|signal| #p::hear_value(signal, #name)),
        _ => {
            let more = if signal == "after_loop" { ", and the value, if it wants it" } else { "" };
            let message = format!(
                "a receiver of `{signal}` takes the signal: `{name}(signal: {ty}{})`{more}",
                if more.is_empty() { "" } else { ", value: T" }
            );
            return Err(Error::new_spanned(&function.sig, message));
        }
    };
    let of = match &args.task {
        Some(task) => quote!(::core::option::Option::Some(<#task as #p::TaskFn>::spec)),
        None => quote!(::core::option::Option::None),
    };
    Ok(quote! {
        const _: () = {
            #p::inventory::submit! {
                #p::Registered { spec: #of, declared: #p::Declared::#ty(#call) }
            }
        };
    })
}
