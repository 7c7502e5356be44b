//! How a worker starts the task: arguments read, source and pipe put together, types erased.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;

use super::hidden;
use super::spec::{end_value, yield_value};
use crate::model::{Model, Shape};
use crate::params::{From, Param};
use crate::yields::co;

/// `fn __qtasks_start(ctx, raw)`.
pub(super) fn start(model: &Model) -> TokenStream {
    let p = &model.p;
    let (ctx, raw, args) = (hidden("ctx"), hidden("raw"), hidden("args"));
    let (boxed, run) = if model.is_sync() {
        (quote!(#p::boxed_local), quote!(#p::LocalBoxRun))
    } else {
        (quote!(#p::boxed), quote!(#p::BoxRun))
    };
    let Reads { lets, calls, any } = reads(model, &ctx, &args);
    let bind = any.then(|| quote!(let #args = ));
    let own_ctx = model.borrows_context().then(|| quote!(let #ctx = ::core::clone::Clone::clone(#ctx);));
    let (source, pipe) = (source(model, &ctx, &calls), pipe(model));
    let (yields, end, returns) = (yield_value(model), model.read(&model.end), end_value(model));
    // Errors about the run as a whole are put where the function is named.
    let made = quote_spanned!(model.f.sig.ident.span()=> #boxed(#source, #pipe, #yields, #end, #returns));
    quote! {
        fn __qtasks_start(
            #ctx: &#p::Context,
            #raw: &[::core::primitive::u8],
        ) -> ::core::result::Result<#run, #p::TaskFailure> {
            #bind #p::ArgsReader::new(__QTASKS_ARGS, #raw)?;
            #(#lets)*
            #own_ctx
            ::core::result::Result::Ok(#made)
        }
    }
}

struct Reads {
    lets: Vec<TokenStream>,
    /// What the function is called with.
    calls: Vec<TokenStream>,
    /// Whether anything comes from the caller.
    any: bool,
}

fn reads(model: &Model, ctx: &Ident, args: &Ident) -> Reads {
    let p = &model.p;
    let mut reads = Reads { lets: Vec::new(), calls: Vec::new(), any: false };
    let mut at = 0usize;
    for (i, Param { ty, from, .. }) in model.params.iter().enumerate() {
        let local = hidden(&format!("a{i}"));
        match from {
            From::Caller { default, .. } => {
                let arg = quote_spanned!(ty.span()=> #p::arg::<#ty>());
                reads.lets.push(match default {
                    None => quote!(let #local = #arg.read(&#args, #at)?;),
                    Some(default) => {
                        let value = &default.value;
                        quote!(let #local = #arg.read_or(&#args, #at, || #value)?;)
                    }
                });
                reads.any = true;
                at += 1;
            }
            From::Context => {
                reads
                    .lets
                    .push(quote_spanned!(ty.span()=> let #local = <#ty as #p::FromContext>::from_context(#ctx)?;));
            }
            From::ContextRef => {
                reads.calls.push(quote!(&#ctx));
                continue;
            }
        }
        reads.calls.push(quote!(#local));
    }
    reads
}

fn source(model: &Model, ctx: &Ident, calls: &[TokenStream]) -> TokenStream {
    let (p, ident) = (&model.p, &model.f.sig.ident);
    let borrows = model.borrows_context();
    // A future that borrows the context owns it.
    let future = |call: TokenStream| {
        if borrows { quote!(async move { let #ctx = #ctx; #call.await }) } else { call }
    };
    match (&model.shape, model.is_async) {
        (Shape::Yields(_), _) => {
            let co = co();
            let body = future(quote!(#ident::__task(#co, #(#calls),*)));
            // The body keeps its `Co` to itself: there is no name for it.
            quote!(#p::from_gen(unsafe { #p::generator(move |#co| #body) }))
        }
        (Shape::Plain, true) => {
            let body = future(quote!(#ident::__task(#(#calls),*)));
            quote!(#p::from_future(#body))
        }
        (Shape::Plain, false) => {
            let keep_ctx = borrows.then(|| quote!(let #ctx = #ctx;));
            quote!(#p::from_call(move || { #keep_ctx #ident(#(#calls),*) }))
        }
        (Shape::Stream, true) => quote!(#p::from_later_stream(#ident(#(#calls),*))),
        (Shape::Stream, false) => quote!(#p::from_stream(#ident(#(#calls),*))),
        (Shape::Iterator, true) => quote!(#p::from_later_iter(#ident(#(#calls),*))),
        (Shape::Iterator, false) => quote!(#p::from_iter(#ident(#(#calls),*))),
    }
}

fn pipe(model: &Model) -> TokenStream {
    let p = &model.p;
    let Some(item) = &model.item else {
        return quote!(#p::direct(#p::outcome::<#p::Select<false>, #p::Never>()));
    };
    let read = model.read(item);
    let (Some(handler), Some((value, _))) = (&model.args.handler, model.value()) else {
        return quote!(#p::direct(#read));
    };
    let (ok, path) = (&item.ok, &handler.value);
    let handler = quote_spanned!(path.span()=> #p::handler::<#ok, #value, _, _, _>(#path));
    let items = if model.is_replayed() {
        let item = quote_spanned!(ok.span()=> #p::item::<#ok>());
        quote!(::core::option::Option::Some(#item))
    } else {
        quote!(::core::option::Option::None)
    };
    quote!(#p::handled(#read, #handler, #items))
}
