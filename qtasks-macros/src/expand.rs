//! What a task becomes: the function itself, a type of its name, and what a worker runs.
//!
//! Only quoting: everything is decided in [`Model`]. Generated code names `#p`, which is `qtasks::__private`, and
//! absolute paths. Each bound is asked for at one place, which has the span of what the user wrote.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Attribute, ReturnType};

use crate::body::Yielding;
use crate::input::Function;
use crate::model::{Model, Shape};
use crate::params::{From, declared, idents};
use crate::yields::co;

mod run;
mod spec;

/// The whole expansion.
pub(crate) fn expand(model: &Model) -> TokenStream {
    let Model { cfgs, p, f, .. } = model;
    let ident = &f.sig.ident;
    let (function, body) = function_and_body(model);
    let declared = declared_type(model, &add(model), &spec::spec(model), &spec::codec(model));
    quote! {
        #function
        #declared
        #body
        #(#cfgs)*
        #[allow(deprecated)]
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
    let as_written = quote!(#(#attrs)* #vis #sig #body);
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
    let outer_attrs = attrs.iter().filter(|a| is_lint(a) || is_builtin(a));
    quote! {
        #(#outer_attrs)*
        #[allow(dead_code)]
        #vis #fn_token #ident(#(#params),*) -> #out {
            // The body keeps its `Co` to itself: there is no name for it.
            #[allow(deprecated)]
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
    let (pats, types) = (params.iter().map(|p| &p.pat), params.iter().map(|p| &p.ty));
    let inner_attrs = attrs.iter().filter(|a| is_lint(a) || !is_builtin(a));
    let takes = quote!(#co: #p::Co<#ty>);
    let future = checked_future(model, Some(&takes), ret, &quote!(Self::#name(#co, #(#idents),*)));
    in_type(
        model,
        &quote! {
            #(#inner_attrs)*
            #[doc(hidden)]
            #[allow(clippy::too_many_arguments, clippy::unused_async)]
            async fn #name(#takes, #(#pats: #types),*) -> #ret { #body }
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
    let (cfgs, ident) = (&model.cfgs, &model.f.sig.ident);
    quote! {
        #(#cfgs)*
        #[allow(dead_code, deprecated, clippy::self_named_constructors)]
        impl #ident { #functions }
    }
}

/// The type of the task, with what its functions do: also without a body, where there are errors.
pub(crate) fn declared_type(model: &Model, add: &TokenStream, spec: &TokenStream, codec: &TokenStream) -> TokenStream {
    let Model { p, cfgs, f: Function { attrs, vis, sig, .. }, .. } = model;
    let (ident, name) = (&sig.ident, model.name());
    let deprecated = attrs.iter().filter(|a| a.path().is_ident("deprecated"));
    let caller = model.params.iter().filter(|p| matches!(p.from, From::Caller { .. }));
    let add_params = declared(caller);
    let struct_doc = format!("The task of [`{name}`](fn@{name}): what sends it to a worker.");
    let add_doc = format!("Adds a task that runs `{name}` on a worker.");
    let task_name = spec::name(model);
    let types = types(model);
    let generates =
        model.is_generating().then(|| quote!(#(#cfgs)* #[allow(deprecated)] impl #p::Generates for #ident {}));
    quote! {
        #(#cfgs)*
        #[doc = #struct_doc]
        #(#deprecated)*
        #[allow(non_camel_case_types, dead_code)]
        #vis struct #ident {}

        #(#cfgs)*
        #[allow(dead_code, deprecated, clippy::too_many_arguments, clippy::needless_pass_by_value)]
        impl #ident {
            /// The name under which workers know the task.
            pub const NAME: &'static ::core::primitive::str = #task_name;

            #[doc = #add_doc]
            pub fn add_task(#(#add_params),*) -> #p::AddTask<Self> { #add }

            /// What is registered of the task.
            #[must_use]
            pub fn spec() -> &'static #p::TaskSpec { <Self as #p::TaskFn>::spec() }
        }

        #(#cfgs)*
        #[allow(deprecated)]
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

fn is_lint(a: &Attribute) -> bool {
    ["allow", "expect", "warn", "deny", "forbid"].iter().any(|n| a.path().is_ident(n))
}

/// Attributes the compiler knows; any other is taken for a macro, which wants to see the body.
fn is_builtin(a: &Attribute) -> bool {
    const BUILTIN: &[&str] = &[
        "automatically_derived",
        "cfg",
        "cfg_attr",
        "clippy",
        "cold",
        "coverage",
        "deprecated",
        "diagnostic",
        "doc",
        "ignore",
        "inline",
        "must_use",
        "no_mangle",
        "optimize",
        "rustfmt",
        "test",
        "track_caller",
    ];
    is_lint(a) || a.path().segments.first().is_some_and(|s| BUILTIN.iter().any(|n| s.ident == n))
}
