//! `#[task] impl StreamTask for Fetch`: a task that is a value with fields.
//!
//! What is registered of it is found out from a function that is never written: of the name of the type, with the
//! signature of `process`.

use proc_macro2::{Delimiter, Group, TokenStream};
use quote::{ToTokens as _, quote};
use syn::spanned::Spanned as _;
use syn::{Attribute, Error, FnArg, Ident, ImplItem, ImplItemFn, ItemImpl, Result, ReturnType, Type, parse_quote};

use crate::args::Args;
use crate::errors::Errors;
use crate::expand::spec;
use crate::input::Function;
use crate::model::Model;

/// Whether it is the `impl` of such a task.
pub(crate) fn is_one(item: &ItemImpl) -> bool {
    item.trait_.as_ref().is_some_and(|(path, _)| path.segments.last().is_some_and(|s| s.ident == "StreamTask"))
}

/// The `impl`, and what makes a task of the type.
pub(crate) fn expand(args: TokenStream, mut item: ItemImpl) -> TokenStream {
    let mut errors = Errors::default();
    let args = Args::parse(args, &mut errors);
    let made = function(&item, &args).and_then(|f| {
        Model::of(args, f, &mut errors).map_err(|_| Error::new(item.span(), "the task could not be understood"))
    });
    let out = match made {
        Ok(model) if !errors.fatal => {
            fill_in(&mut item, &model);
            let declared = declared(&item, &model);
            quote!(#item #declared)
        }
        Ok(_) => quote!(#item),
        Err(e) => {
            errors.add(e);
            quote!(#item)
        }
    };
    let errors = errors.into_compile_errors();
    quote!(#errors #out)
}

/// The function of the name of the type.
fn function(item: &ItemImpl, args: &Args) -> Result<Function> {
    let name = name(item)?;
    let process = process(item)?;
    if let Some(handler) = &args.handler {
        let message = "a `StreamTask` has no `generate_handler`: handle what it emits in `process`";
        return Err(Error::new(handler.key.span(), message));
    }
    let mut inputs = process.sig.inputs.iter();
    if !matches!(inputs.next(), Some(FnArg::Receiver(r)) if r.to_token_stream().to_string() == "& self") {
        return Err(Error::new(process.sig.span(), "`process` takes `&self` and a `Context`"));
    }
    let (ctx, output) = match (inputs.next(), inputs.next()) {
        (Some(FnArg::Typed(ctx)), None) => (&ctx.ty, &process.sig.output),
        _ => return Err(Error::new(process.sig.span(), "`process` takes `&self` and a `Context`")),
    };
    if process.sig.asyncness.is_none() {
        let message = "`process` is an `async fn`; a sync generator goes to `ctx.process_sync_generator(…)`";
        return Err(Error::new(process.sig.fn_token.span(), message));
    }
    let attrs: Vec<Attribute> = item.attrs.iter().filter(|a| a.path().is_ident("doc")).cloned().collect();
    let sig = parse_quote!(async fn #name(ctx: #ctx) #output);
    let body = Group::new(Delimiter::Brace, TokenStream::new());
    Ok(Function { attrs, vis: syn::Visibility::Inherited, gen_token: None, sig, body, in_block: false })
}

fn name(item: &ItemImpl) -> Result<Ident> {
    let named = match &*item.self_ty {
        Type::Path(path) if item.generics.params.is_empty() => {
            path.path.segments.last().filter(|s| s.arguments.is_none())
        }
        _ => None,
    };
    let message = "a task is a type with a name and without parameters: a struct with fields";
    named.map(|segment| segment.ident.clone()).ok_or_else(|| Error::new(item.self_ty.span(), message))
}

fn process(item: &ItemImpl) -> Result<&ImplItemFn> {
    let found = item.items.iter().find_map(|i| match i {
        ImplItem::Fn(f) if f.sig.ident == "process" => Some(f),
        _ => None,
    });
    found.ok_or_else(|| {
        let message = "`StreamTask` has one function: `async fn process(&self, ctx: Context) -> …`";
        Error::new(item.span(), message)
    })
}

/// The types that the `impl` leaves out.
fn fill_in(item: &mut ItemImpl, model: &Model) {
    let p = &model.p;
    let has = |name: &str| item.items.iter().any(|i| matches!(i, ImplItem::Type(t) if t.ident == name));
    let (has_item, has_output) = (has("Item"), has("Output"));
    let output = match &model.f.sig.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, ty) => ty.to_token_stream(),
    };
    if !has_item {
        item.items.insert(0, parse_quote!(type Item = #p::JsonValue;));
    }
    if !has_output {
        item.items.insert(0, parse_quote!(type Output = #output;));
    }
}

fn declared(item: &ItemImpl, model: &Model) -> TokenStream {
    let p = &model.p;
    let (ty, ok) = (&item.self_ty, &model.end.ok);
    let (end, returns) = (model.read(&model.end), spec::end_value(model));
    let name = spec::name(model);
    let (fields, limits, around) = (spec::fields(model), spec::limits(model), spec::around(model));
    let wishes = spec::wishes(model);
    let (of_fields, of_end) = (spec::schema(ty, p), spec::schema(ok, p));
    let of_item = spec::schema(&quote!(<#ty as #p::StreamTask>::Item), p);
    quote! {
        const _: () = {
            #wishes
            fn __qtasks_start(
                ctx: &#p::Context,
                raw: &[::core::primitive::u8],
            ) -> ::core::result::Result<#p::BoxRun, #p::TaskFailure> {
                #p::stream_task::<#ty, _>(ctx, raw, #end, #returns)
            }

            static __QTASKS_SPEC: #p::TaskSpec = {
                let mut spec =
                    #p::TaskSpec::new(#name, #p::TaskKind::AsyncGen, #p::Start::Async(__qtasks_start));
                spec.any_args = true;
                spec.types = #p::Types::fields(#of_fields, #of_item, #of_end);
                #fields
                #limits
                #around
                spec.yields = ::core::option::Option::Some("Item");
                spec
            };

            impl #p::TaskFn for #ty {
                type Yield = <#ty as #p::StreamTask>::Item;
                type Returning = #p::Vec<Self::Yield>;
                type Final = #ok;
                const NAME: &'static ::core::primitive::str = #name;
                fn spec() -> &'static #p::TaskSpec { &__QTASKS_SPEC }
                fn __codec() -> #p::Codec<Self> {
                    #p::Codec::generating(#p::value::<<#ty as #p::StreamTask>::Item>(), #returns)
                }
            }

            impl #p::Generates for #ty {}

            impl #ty {
                /// Adds the task, to be run by a worker.
                pub fn add_task(self) -> #p::AddTask<Self> { #p::fields(&self) }

                /// What is registered of the task.
                #[must_use]
                pub fn spec() -> &'static #p::TaskSpec { <Self as #p::TaskFn>::spec() }
            }

            #p::inventory::submit! { #p::Registration(<#ty as #p::TaskFn>::spec) }
        };
    }
}
