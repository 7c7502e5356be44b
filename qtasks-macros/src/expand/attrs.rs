//! Where the user's attributes go.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, quote};
use syn::{Attribute, Meta};

use crate::model::Model;

/// A deprecated task uses itself.
pub(super) fn uses_deprecated(model: &Model) -> Option<TokenStream> {
    let deprecated = model.f.attrs.iter().any(|a| a.path().is_ident("deprecated"));
    deprecated.then(|| quote!(#[allow(deprecated)]))
}

/// An attribute as it is put on the function and on its body: what is expected of one is not there in the other.
pub(super) fn in_two_places(attr: &Attribute) -> TokenStream {
    match &attr.meta {
        Meta::List(list) if list.path.is_ident("expect") => {
            let (allow, lints) = (Ident::new("allow", Span::mixed_site()), &list.tokens);
            quote!(#[#allow(#lints)])
        }
        _ => attr.to_token_stream(),
    }
}

pub(super) fn is_lint(a: &Attribute) -> bool {
    ["allow", "expect", "warn", "deny", "forbid"].iter().any(|n| a.path().is_ident(n))
}

/// Attributes the compiler knows; any other is taken for a macro, which wants to see the body.
pub(super) fn is_builtin(a: &Attribute) -> bool {
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

/// `#[doc(hidden)]`, and what else `doc` says but the text.
pub(super) fn is_hidden(a: &Attribute) -> bool {
    a.path().is_ident("doc") && matches!(a.meta, Meta::List(_))
}
