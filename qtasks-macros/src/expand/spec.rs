//! What is registered of the task.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote, quote_spanned};
use syn::Expr;
use syn::spanned::Spanned as _;

use super::hidden;
use super::run::start;
use crate::args::limit::Limit;
use crate::args::{Isolation, Keep, TimeLimit, literal};
use crate::model::Model;
use crate::params::{From, Param};
use crate::retry::retry_on;
use crate::types::{is_option, respan, text};

/// The name under which workers know it. One that is no literal is checked by the compiler.
pub(crate) fn name(model: &Model) -> TokenStream {
    let p = &model.p;
    match &model.args.name {
        Some(name) if literal(name).is_some() => name.to_token_stream(),
        Some(name) => {
            let p = respan(p, name.span());
            quote_spanned!(name.span()=> #p::checked_name(#name))
        }
        None => model.name().to_token_stream(),
    }
}

/// How values are written and read: a type that can't be sent is reported here, where the user wrote it.
pub(super) fn yield_value(model: &Model) -> TokenStream {
    let p = &model.p;
    model.value().map_or_else(|| quote!(#p::never()), |(ty, _)| quote_spanned!(ty.span()=> #p::value::<#ty>()))
}

/// The same of what comes at the end.
pub(crate) fn end_value(model: &Model) -> TokenStream {
    let (p, ok) = (&model.p, &model.end.ok);
    if model.is_generating() && !model.has_final_value() {
        return quote!(#p::nothing());
    }
    quote_spanned!(ok.span()=> #p::value::<#ok>())
}

pub(super) fn codec(model: &Model) -> TokenStream {
    let (p, yields, end) = (&model.p, yield_value(model), end_value(model));
    if model.is_generating() { quote!(#p::Codec::generating(#yields, #end)) } else { quote!(#p::Codec::plain(#end)) }
}

/// The body of `TaskFn::spec`. Only what is not the default is set.
pub(super) fn spec(model: &Model) -> TokenStream {
    let p = &model.p;
    let ident = &model.f.sig.ident;
    let (args, start) = (arg_specs(model), start(model));
    let (kind, start_kind) = match (model.is_sync(), model.is_generating()) {
        (true, true) => (quote!(SyncGen), quote!(Sync)),
        (true, false) => (quote!(Sync), quote!(Sync)),
        (false, true) => (quote!(AsyncGen), quote!(Async)),
        (false, false) => (quote!(Async), quote!(Async)),
    };
    let wishes = wishes(model);
    let (fields, limits, around, types) = (fields(model), limits(model), around(model), types(model));
    quote! {
        const __QTASKS_ARGS: &[#p::ArgSpec] = &[#(#args),*];
        #wishes
        #start
        static __QTASKS_SPEC: #p::TaskSpec = {
            let mut spec = #p::TaskSpec::new(
                <#ident as #p::TaskFn>::NAME,
                #p::TaskKind::#kind,
                #p::Start::#start_kind(__qtasks_start),
            );
            spec.args = __QTASKS_ARGS;
            #types
            #fields
            #limits
            #around
            spec
        };
        &__QTASKS_SPEC
    }
}

/// What reads the errors for `retry_on`.
pub(crate) fn wishes(model: &Model) -> Option<TokenStream> {
    retry_on(model).map(|(wishes, _)| wishes)
}

fn arg_specs(model: &Model) -> impl Iterator<Item = TokenStream> {
    let p = &model.p;
    model.params.iter().filter_map(move |param| match &param.from {
        From::Caller { wire, default } => {
            let ty = text(&param.ty);
            let required = default.is_none() && !is_option(&param.ty);
            let default = option(default.as_ref().map(|default| default.text.to_token_stream()));
            let check = check(&param.ty, p);
            Some(quote!(#p::ArgSpec::new(#wire, #ty, #required, #default, #check)))
        }
        From::Context | From::ContextRef => None,
    })
}

/// Asks the compiler how values of a type are checked.
fn check(ty: &impl quote::ToTokens, p: &TokenStream) -> TokenStream {
    let ty = ty.to_token_stream();
    quote_spanned!(ty.span()=> {
        #[allow(unused_imports)]
        use #p::CheckFallback as _;
        #p::CheckProbe::<#ty>::CHECK
    })
}

/// Asks the compiler for the schema of a type.
pub(crate) fn schema(ty: &impl quote::ToTokens, p: &TokenStream) -> TokenStream {
    let ty = ty.to_token_stream();
    quote_spanned!(ty.span()=> {
        #[allow(unused_imports)]
        use #p::SchemaFallback as _;
        #p::SchemaProbe::<#ty>::SCHEMA
    })
}

/// The types of what it takes and gives.
fn types(model: &Model) -> TokenStream {
    let p = &model.p;
    let args = model.params.iter().filter(|param| matches!(param.from, From::Caller { .. }));
    let args = args.map(|param| schema(&param.ty, p));
    let item = option(model.value().map(|(ty, _)| schema(&ty, p)));
    let output = schema(&model.end.ok, p);
    quote!(spec.types = {
        const TYPES: &[#p::SchemaOf] = &[#(#args),*];
        #p::Types::new(TYPES, #item, #output)
    };)
}

fn option(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

/// Assignments to what says where it was written.
fn place(ident: &syn::Ident) -> TokenStream {
    let function = syn::ext::IdentExt::unraw(ident).to_string();
    let line = quote_spanned!(ident.span()=> ::core::line!());
    quote! {
        spec.module = ::core::module_path!();
        spec.function = #function;
        spec.file = ::core::file!();
        spec.line = #line;
    }
}

/// Assignments to what says where it was written, and to what the attribute sets.
pub(crate) fn fields(model: &Model) -> TokenStream {
    let (p, args, ident) = (&model.p, &model.args, &model.f.sig.ident);
    let mut out = place(ident);
    out.extend(retries(model));
    let mut set = |field: &str, value: TokenStream| {
        let field = quote::format_ident!("{field}");
        out.extend(quote!(spec.#field = #value;));
    };
    let string = quote!(&'static ::core::primitive::str);
    let number = quote!(::core::primitive::u64);
    let description = args.description.as_ref().map(|expr| typed(expr, &string));
    if let Some(text) = description.or_else(|| model.first_doc().map(|doc| quote!(#doc))) {
        set("description", option(Some(text)));
    }
    if let Some((_, text)) = model.value() {
        set("yields", option(Some(quote!(#text))));
    }
    if !model.is_generating() || model.has_final_value() {
        set("returns", model.end.text.to_token_stream());
    }
    if args.handler.is_some() {
        set("has_handler", quote!(true));
    }
    if let Some(queue) = &args.queue {
        set("queue", quote!(#queue));
    }
    if let Some(priority) = &args.priority {
        set("priority", quote!(#priority));
    }
    for (name, limit) in durations(args) {
        set(name, option(Some(duration(limit))));
    }
    if args.isolation == Some(Isolation::Process) {
        set("isolation", quote!(#p::Isolation::Process));
    }
    if !args.tags.is_empty() {
        let tags = &args.tags;
        set("tags", quote!(&[#(#tags),*]));
    }
    let states = states(model);
    if !states.is_empty() {
        set("state", quote!(&[#(#states),*]));
    }
    if model.is_resumed() {
        set("on_retry", quote!(#p::OnRetry::Resume));
    } else if model.is_restarted() {
        set("on_retry", quote!(#p::OnRetry::Restart));
    }
    if args.echo.is_some() {
        set("echo", quote!(true));
    }
    if let Some(max) = &args.yields_max {
        set("yields_max", option(Some(typed(&max.value, &number))));
    }
    if let Some(max) = &args.log_bytes_max {
        set("log_bytes_max", option(Some(typed(max, &number))));
    }
    if let Some(Keep::Last(n)) = args.keep.as_ref().map(|keep| &keep.value) {
        set("keep", quote!(#p::Keep::Last(#n)));
    }
    if !args.receivers.is_empty() {
        set("receivers", receivers(model));
    }
    if let Some(schedule) = args.schedule.spec(p, duration) {
        set("schedule", option(Some(schedule)));
    }
    out
}

/// How long things may take, by the names of their fields.
fn durations(args: &crate::args::Args) -> impl Iterator<Item = (&'static str, &TimeLimit)> {
    let limits = [
        ("time_limit", &args.time_limit),
        ("cancel_when_unwatched", &args.cancel_when_unwatched),
        ("idle_limit", &args.idle_limit),
    ];
    limits.into_iter().filter_map(|(name, limit)| Some((name, limit.as_ref()?)))
}

/// What there is around the body.
pub(crate) fn around(model: &Model) -> TokenStream {
    let (p, args) = (&model.p, &model.args);
    let named = |what: &str, value: TokenStream| {
        let (name, span) = (text(&value), value.span());
        let (p, what) = (respan(p, span), syn::Ident::new(what, span));
        quote_spanned!(span=> #p::#what::new(#name, || ::std::sync::Arc::new(#value)))
    };
    let executor = args.executor.as_ref().map(|path| {
        let executor = option(Some(named("ExecutorSpec", path.to_token_stream())));
        quote!(spec.executor = #executor;)
    });
    let layers: Vec<_> = args.middleware.iter().map(|layer| named("MiddlewareSpec", layer.to_token_stream())).collect();
    let layers = (!layers.is_empty())
        .then(|| quote!(spec.middleware = { const LAYERS: &[#p::MiddlewareSpec] = &[#(#layers),*]; LAYERS };));
    quote!(#executor #layers)
}

/// How many may run at once, and in how long.
pub(crate) fn limits(model: &Model) -> TokenStream {
    let (p, args) = (&model.p, &model.args);
    let concurrency = args.concurrency.as_ref().map(|tasks| {
        let tasks = typed(tasks, &quote!(::core::primitive::u32));
        let tasks = option(Some(quote!(#p::checked_concurrency(#tasks))));
        quote!(spec.concurrency = #tasks;)
    });
    let rate = args.limit.as_ref().map(|limit| {
        let rate = option(Some(rate(limit, p)));
        quote!(spec.rate = #rate;)
    });
    quote!(#concurrency #rate)
}

/// When a failed attempt is followed by another.
fn retries(model: &Model) -> TokenStream {
    let policy = model.args.retry.policy(&model.p).map(|policy| quote!(spec.retry = #policy;));
    let retry_on = retry_on(model).map(|(_, retry_on)| option(Some(retry_on)));
    let retry_on = retry_on.map(|retry_on| quote!(spec.retry_on = #retry_on;));
    quote!(#policy #retry_on)
}

/// Those who asked at the attribute.
fn receivers(model: &Model) -> TokenStream {
    let p = &model.p;
    let declared = model.args.receivers.iter().map(|(signal, path)| {
        let ty = crate::args::signal_type(signal);
        quote!(#p::Declared::#ty(|signal| #p::hear((#path)(signal))))
    });
    quote!({ const RECEIVERS: &[#p::Declared] = &[#(#declared),*]; RECEIVERS })
}

/// A `StateSpec` for each `State<T>`.
fn states(model: &Model) -> Vec<TokenStream> {
    let p = &model.p;
    let types = model.params.iter().filter_map(Param::state);
    let specs = types.map(|ty| {
        let name = text(ty);
        quote_spanned!(ty.span()=> #p::StateSpec::new::<#ty>(#name))
    });
    specs.collect()
}

fn duration(limit: &TimeLimit) -> TokenStream {
    match limit {
        TimeLimit::Known(limit) => {
            let (secs, nanos) = (limit.as_secs(), limit.subsec_nanos());
            quote!(::core::time::Duration::new(#secs, #nanos))
        }
        TimeLimit::Expr(expr) => typed(expr, &quote!(::core::time::Duration)),
    }
}

fn rate(limit: &Limit, p: &TokenStream) -> TokenStream {
    match limit {
        Limit::Known { count, per, burst } => {
            let (secs, nanos) = (per.as_secs(), per.subsec_nanos());
            let burst = burst.map(|burst| quote!(.burst(#burst)));
            quote!(#p::Rate::new(#count, ::core::time::Duration::new(#secs, #nanos)) #burst)
        }
        Limit::Expr(expr) => typed(expr, &quote!(#p::Rate)),
    }
}

/// An expression that must be of a type: one that is not is told so, and nothing else.
fn typed(expr: &Expr, ty: &TokenStream) -> TokenStream {
    let value = hidden("value");
    quote!({ let #value: #ty = #expr; #value })
}
