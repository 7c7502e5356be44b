//! What comes out beside errors when the task itself can't: the user's function and the type of its name, without
//! bodies, so that nothing else turns red.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{FnArg, ReturnType, parse_quote};

use crate::expand::{declared_type, iter_doc};
use crate::input::Function;
use crate::model::Model;
use crate::params::{From, idents};
use crate::types::impl_trait_in;
use crate::yields::first_use;

/// The function and the type, of a task whose types are understood.
pub(crate) fn task(model: &Model) -> TokenStream {
    let body = quote!(::core::unimplemented!());
    let idents = idents(model.params.iter().filter(|p| matches!(p.from, From::Caller { .. })));
    let add = quote!(let _ = (#(#idents),*); #body);
    // Of whatever arguments: their types may be what is wrong.
    let (p, doc) = (&model.p, iter_doc(model));
    let iter = quote!(#[doc = #doc] pub fn iter<I>(_: I) -> #p::Iter<Self> { #body });
    let (function, declared) = (function(&model.f), declared_type(model, &add, &iter, &body, &body));
    quote!(#function #declared)
}

/// The function as it was, with an empty body.
pub(crate) fn function(f: &Function) -> TokenStream {
    let Function { vis, sig, .. } = f;
    let cfgs = f.attrs.iter().filter(|a| a.path().is_ident("cfg"));
    let mut sig = sig.clone();
    for input in &mut sig.inputs {
        match input {
            FnArg::Typed(typed) => {
                typed.attrs.clear();
                // No complaint about parameters that an absent body does not use.
                *typed.pat = parse_quote!(_);
            }
            FnArg::Receiver(_) => return TokenStream::new(),
        }
    }
    // No absent body has a type that could be hidden.
    if matches!(&sig.output, ReturnType::Type(_, ty) if impl_trait_in(ty).is_some()) {
        return TokenStream::new();
    }
    let used = first_use(f.body.stream());
    quote! {
        #(#cfgs)*
        #[allow(dead_code, unused, clippy::all)]
        #vis #sig { #used ::core::unimplemented!() }
    }
}
