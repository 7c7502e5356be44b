//! What a task becomes: the function itself, a type of its name, and what a worker runs.
//!
//! Only quoting: everything is decided in [`Model`]. Generated code names `#p`, which is `qtasks::__private`, and
//! absolute paths. Each bound is asked for at one place, which has the span of what the user wrote.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::ReturnType;
use syn::spanned::Spanned as _;

use crate::body::Yielding;
use crate::input::Function;
use crate::model::{Model, Shape};
use crate::params::{From, Param, declared, idents};
use crate::yields::co;

mod attrs;
mod run;
pub(crate) mod spec;

use attrs::{in_two_places, is_builtin, is_hidden, is_lint, uses_deprecated};

/// The whole expansion.
pub(crate) fn expand(model: &Model) -> TokenStream {
    let Model { cfgs, p, f, .. } = model;
    let ident = &f.sig.ident;
    let (old, (function, body)) = (uses_deprecated(model), function_and_body(model));
    let declared = declared_type(model, &add(model), &iter(model), &spec::spec(model), &spec::codec(model));
    quote! {
        #function
        #declared
        #body
        #(#cfgs)*
        #old
        const _: () = { #p::inventory::submit! { #p::Registration(<#ident as #p::TaskFn>::spec) } };
    }
}

/// A name that no name of the user's meets.
fn hidden(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// `+ Send` where it must be, and `+ use<'_>` where the context is borrowed: before edition 2024 that has to be said.
fn bounds(model: &Model, span: Span) -> TokenStream {
    let send = (!model.is_sync()).then(|| quote_spanned!(span=> + ::core::marker::Send));
    let captures = model.borrows_context().then(|| quote!(+ use<'_>));
    quote!(#send #captures)
}

/// The function under its name, and its body as a function of its own where the two differ.
fn function_and_body(model: &Model) -> (TokenStream, TokenStream) {
    let Function { attrs, vis, sig, body, .. } = &model.f;
    // Arguments are owned whether the body needs that or not.
    let as_written = quote!(#(#attrs)* #[allow(clippy::needless_pass_by_value)] #vis #sig #body);
    match &model.shape {
        Shape::Yields(y) => (direct(model, y), body_function(model, y)),
        Shape::Plain if model.is_async => {
            let (ident, idents) = (&sig.ident, idents(&model.params));
            let future = checked_future(model, None, &model.end.ty, &quote!(#ident(#(#idents),*)));
            (as_written, in_type(model, &future))
        }
        Shape::Plain | Shape::Stream | Shape::Iterator => (as_written, TokenStream::new()),
    }
}

/// The function as it is called directly: a stream or an iterator of what the body yields.
fn direct(model: &Model, y: &Yielding) -> TokenStream {
    let Model { p, f: Function { attrs, vis, sig, .. }, .. } = model;
    let (ident, fn_token) = (&sig.ident, &sig.fn_token);
    let (params, idents) = (declared(&model.params), idents(&model.params));
    let (co, made, ty, ret) = (co(), hidden("made"), &y.ty, &y.ret);
    let at = sig.output.span();
    let bounds = bounds(model, Span::call_site());
    let future = quote!(impl ::core::future::Future<Output = #ret> #bounds);
    let item = match &sig.output {
        ReturnType::Type(_, declared) if y.fallible => declared.to_token_stream(),
        _ => ty.to_token_stream(),
    };
    let (out, wrap) = match (model.is_async, model.args.yields.is_some()) {
        (true, true) => (quote_spanned!(at=> #p::Gen<#ty, #future>), None),
        (false, true) => (quote_spanned!(at=> #p::IterGen<#ty, #future>), Some(quote!(#p::IterGen::new))),
        (true, false) => {
            let wrap = y.fallible.then(|| quote!(#p::TryGen::new));
            (quote_spanned!(at=> impl #p::Stream<Item = #item> #bounds), wrap)
        }
        (false, false) => {
            let wrap = if y.fallible { quote!(#p::TryIterGen::new) } else { quote!(#p::IterGen::new) };
            (quote_spanned!(at=> impl ::core::iter::Iterator<Item = #item> #bounds), Some(wrap))
        }
    };
    let old = uses_deprecated(model);
    let outer_attrs = attrs.iter().filter(|a| is_builtin(a)).map(in_two_places);
    quote! {
        #(#outer_attrs)*
        #[allow(dead_code)]
        #vis #fn_token #ident(#(#params),*) -> #out {
            // The body keeps its `Co` to itself: there is no name for it.
            #old
            let #made = unsafe { #p::generator(move |#co| #ident::__task(#co, #(#idents),*)) };
            #wrap(#made)
        }
    }
}

/// The body: a real `async fn`, so that patterns, `mut`, `?`, `return`, inference and lints are rustc's own.
fn body_function(model: &Model, y: &Yielding) -> TokenStream {
    let Model { p, params, f: Function { attrs, .. }, .. } = model;
    let Yielding { body, ret, ty, .. } = y;
    let (co, name, idents) = (co(), body_name(model), idents(params));
    let written = params.iter().map(|Param { attrs, pat, ty, .. }| quote!(#(#attrs)* #pat: #ty));
    let inner_attrs = attrs.iter().filter(|a| is_lint(a) || !is_builtin(a)).map(in_two_places);
    let takes = quote!(#co: #p::Co<#ty>);
    let future = checked_future(model, Some(&takes), ret, &quote!(Self::#name(#co, #(#idents),*)));
    in_type(
        model,
        &quote! {
            #(#inner_attrs)*
            #[doc(hidden)]
            #[allow(clippy::too_many_arguments, clippy::unused_async)]
            async fn #name(#takes, #(#written),*) -> #ret { #body }
            #future
        },
    )
}

/// Named like the task, for the sake of messages and backtraces, unless the type has something of that name.
fn body_name(model: &Model) -> Ident {
    if ["add_task", "spec", "iter", "NAME", "__task"].contains(&model.name().as_str()) {
        return hidden("__body");
    }
    let mut name = model.f.sig.ident.clone();
    name.set_span(Span::mixed_site().located_at(name.span()));
    name
}

/// The one place where the future has to be `Send`: errors about that are put where the function is named.
fn checked_future(
    model: &Model,
    co: Option<&TokenStream>,
    ret: &dyn quote::ToTokens,
    call: &TokenStream,
) -> TokenStream {
    let span = model.f.sig.ident.span();
    let bounds = bounds(model, span);
    let params = co.cloned().into_iter().chain(declared(&model.params));
    let out = quote_spanned!(span=> impl ::core::future::Future<Output = #ret> #bounds);
    quote! {
        #[doc(hidden)]
        #[inline]
        #[allow(clippy::too_many_arguments)]
        fn __task(#(#params),*) -> #out { #call }
    }
}

/// Functions of the type that hold code of the user's: lints apply to them.
fn in_type(model: &Model, functions: &TokenStream) -> TokenStream {
    let (cfgs, ident, old) = (&model.cfgs, &model.f.sig.ident, uses_deprecated(model));
    quote! {
        #(#cfgs)*
        #old
        #[allow(dead_code, clippy::self_named_constructors)]
        impl #ident { #functions }
    }
}

/// The type of the task, with what its functions do: also without a body, where there are errors.
pub(crate) fn declared_type(
    model: &Model,
    add: &TokenStream,
    iter: &TokenStream,
    spec: &TokenStream,
    codec: &TokenStream,
) -> TokenStream {
    let Model { p, cfgs, f: Function { attrs, vis, sig, .. }, .. } = model;
    let (ident, name) = (&sig.ident, model.name());
    let shared = attrs.iter().filter(|a| a.path().is_ident("deprecated") || is_hidden(a));
    let caller = model.params.iter().filter(|p| matches!(p.from, From::Caller { .. }));
    let add_params = declared(caller);
    let struct_doc = format!("The task of [`{name}`](fn@{name}): what sends it to a worker.");
    let add_doc = format!("Adds a task that runs `{name}` on a worker.");
    let task_name = spec::name(model);
    let (types, old) = (types(model), uses_deprecated(model));
    let generates = model.is_generating().then(|| quote!(#(#cfgs)* #old impl #p::Generates for #ident {}));
    quote! {
        #(#cfgs)*
        #[doc = #struct_doc]
        #(#shared)*
        #[allow(dead_code, missing_debug_implementations, non_camel_case_types)]
        #[non_exhaustive]
        #vis struct #ident {}

        #(#cfgs)*
        #old
        #[allow(
            dead_code,
            clippy::needless_pass_by_value,
            clippy::self_named_constructors,
            clippy::too_many_arguments
        )]
        impl #ident {
            /// The name under which workers know the task.
            pub const NAME: &'static ::core::primitive::str = #task_name;

            #[doc = #add_doc]
            pub fn add_task(#(#add_params),*) -> #p::AddTask<Self> { #add }

            #iter

            /// What is registered of the task.
            #[must_use]
            pub fn spec() -> &'static #p::TaskSpec { <Self as #p::TaskFn>::spec() }
        }

        #(#cfgs)*
        #old
        impl #p::TaskFn for #ident {
            #types
            const NAME: &'static ::core::primitive::str = #ident::NAME;
            fn spec() -> &'static #p::TaskSpec { #spec }
            fn __codec() -> #p::Codec<Self> { #codec }
        }
        #generates
    }
}

/// The types of the task's values, named once each: one that is too private gives one error, at the type.
fn types(model: &Model) -> TokenStream {
    let p = &model.p;
    let end = &model.end.ok;
    let named = |name: &str, ty: &TokenStream| {
        let name = Ident::new(name, ty.span());
        quote_spanned!(ty.span()=> type #name = #ty;)
    };
    let unit = quote!(());
    match model.value() {
        None => {
            let returning = named("Returning", end);
            quote!(type Yield = #p::Never; #returning type Final = ();)
        }
        Some((value, _)) => {
            let (yielded, end) =
                (named("Yield", &value), named("Final", if model.has_final_value() { end } else { &unit }));
            quote!(#yielded type Returning = #p::Vec<<Self as #p::TaskFn>::Yield>; #end)
        }
    }
}

/// Runs the task for each of many arguments.
fn iter(model: &Model) -> TokenStream {
    let p = &model.p;
    let caller: Vec<_> = model.params.iter().filter(|p| matches!(p.from, From::Caller { .. })).collect();
    let (idents, types) = (idents(caller.iter().copied()), caller.iter().map(|param| &param.ty));
    // One argument is itself; several are a tuple.
    let (pattern, item) = match &idents[..] {
        [only] => (quote!(#only), quote!(#(#types)*)),
        _ => (quote!((#(#idents),*)), quote!((#(#types),*))),
    };
    let (doc, generic) = (iter_doc(model), hidden("I"));
    quote! {
        #[doc = #doc]
        pub fn iter<#generic>(args: #generic) -> #p::Iter<Self>
        where
            #generic: ::core::iter::IntoIterator<Item = #item, IntoIter: ::core::marker::Send + 'static>,
        {
            #p::iter(args, |#pattern| Self::add_task(#(#idents),*))
        }
    }
}

pub(crate) fn iter_doc(model: &Model) -> String {
    format!("Runs `{}` for each of many arguments, and gathers what comes of them.", model.name())
}

fn add(model: &Model) -> TokenStream {
    let p = &model.p;
    let args = hidden("args");
    let writes: Vec<TokenStream> = model
        .params
        .iter()
        .filter_map(|param| match &param.from {
            From::Caller { wire, .. } => {
                let (ident, ty) = (&param.ident, &param.ty);
                let arg = quote_spanned!(ty.span()=> #p::arg::<#ty>());
                Some(quote!(#arg.write(&mut #args, #wire, &#ident);))
            }
            From::Context | From::ContextRef => None,
        })
        .collect();
    let mutable = (!writes.is_empty()).then(|| quote!(mut));
    quote! {
        let #mutable #args = #p::ArgsWriter::new();
        #(#writes)*
        #p::add_task::<Self>(#args)
    }
}
