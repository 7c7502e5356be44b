//! The parameters of a task: arguments that travel, and what the context supplies.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt as _;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned as _;
use syn::{Attribute, Error, Expr, Ident, Meta, Pat, PatType, Result, Type, TypeReference, parse_quote_spanned};

use crate::types::{first_argument, last_segment, lifetime_in, owned, text};

/// A parameter of the function.
pub(crate) struct Param {
    /// Those that are not ours.
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) pat: Pat,
    pub(crate) ty: Type,
    /// Its name outside of the body.
    pub(crate) ident: Ident,
    pub(crate) from: From,
}

/// What an argument is that is not given.
pub(crate) struct Fallback {
    pub(crate) value: Expr,
    pub(crate) text: String,
}

/// Where a parameter gets its value.
pub(crate) enum From {
    /// From the caller.
    Caller { wire: String, default: Option<Box<Fallback>> },
    /// From the context, by `FromContext`.
    Context,
    /// A reference to the context itself.
    ContextRef,
}

impl Param {
    /// Whether it is the `ctx: Context` or `ctx: &Context` of the task.
    pub(crate) fn is_context(&self) -> bool {
        matches!(self.from, From::ContextRef) || last_segment(&self.ty, "Context").is_some()
    }

    /// The `T` of a `State<T>`.
    pub(crate) fn state(&self) -> Option<&Type> {
        first_argument(&self.ty, "State").filter(|_| matches!(self.from, From::Context))
    }

    pub(crate) fn is_resume(&self) -> bool {
        matches!(self.from, From::Context) && last_segment(&self.ty, "Resume").is_some()
    }

    /// Reads a parameter and takes our attributes off it. A parameter that can't be one is read all the same, with
    /// an error.
    pub(crate) fn read(i: usize, typed: &mut PatType, complain: &mut impl FnMut(Error)) -> Self {
        let given = Given::take(&mut typed.attrs, complain);
        let ident = ident(i, &typed.pat, complain);
        let from = from(typed, &ident, given, complain);
        if let Some(cfg) = typed.attrs.iter().find(|a| a.path().is_ident("cfg") || a.path().is_ident("cfg_attr")) {
            complain(Error::new_spanned(
                cfg,
                "a parameter of a task is there or not: put `#[cfg]` on the whole function",
            ));
        }
        Param { attrs: typed.attrs.clone(), pat: (*typed.pat).clone(), ty: (*typed.ty).clone(), ident, from }
    }
}

/// What the attributes of a parameter say.
#[derive(Default)]
struct Given {
    default: Option<Box<Fallback>>,
    rename: Option<String>,
    context: bool,
}

impl Given {
    fn take(attrs: &mut Vec<Attribute>, complain: &mut impl FnMut(Error)) -> Self {
        let mut given = Given::default();
        attrs.retain(|attr| {
            let read = if attr.path().is_ident("default") {
                given.default_attr(attr)
            } else if attr.path().is_ident("context") {
                given.context = true;
                attr.meta.require_path_only().map(drop)
            } else if attr.path().is_ident("serde") {
                attr.parse_nested_meta(|meta| given.serde_attr(&meta))
            } else {
                return true;
            };
            if let Err(e) = read {
                complain(e);
            }
            false
        });
        given
    }

    fn default_attr(&mut self, attr: &Attribute) -> Result<()> {
        match &attr.meta {
            Meta::Path(path) => self.set_default(default_of(path.span()), "Default::default()".to_owned()),
            Meta::NameValue(nv) => self.set_default(nv.value.clone(), text(&nv.value)),
            Meta::List(l) => return Err(Error::new_spanned(l, "write `#[default]` or `#[default = value]`")),
        }
        Ok(())
    }

    fn serde_attr(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if meta.path.is_ident("rename") {
            self.rename = Some(meta.value()?.parse::<syn::LitStr>()?.value());
        } else if !meta.path.is_ident("default") {
            return Err(meta.error("of serde, an argument takes `default` and `rename`"));
        } else if meta.input.peek(syn::Token![=]) {
            let function: syn::LitStr = meta.value()?.parse()?;
            let function: syn::Path = function.parse()?;
            let call: Expr = parse_quote_spanned!(function.span()=> #function());
            self.set_default(call.clone(), text(&call));
        } else {
            self.set_default(default_of(meta.path.span()), "Default::default()".to_owned());
        }
        Ok(())
    }

    fn set_default(&mut self, value: Expr, text: String) {
        self.default = Some(Box::new(Fallback { value, text }));
    }
}

fn default_of(span: proc_macro2::Span) -> Expr {
    parse_quote_spanned!(span=> ::core::default::Default::default())
}

fn ident(i: usize, pat: &Pat, complain: &mut impl FnMut(Error)) -> Ident {
    match pat {
        Pat::Ident(p) if p.subpat.is_none() => {
            if let Some(by_ref) = &p.by_ref {
                complain(Error::new_spanned(by_ref, "a parameter of a task is taken by value"));
            }
            p.ident.clone()
        }
        other => format_ident!("arg{i}", span = other.span()),
    }
}

fn from(typed: &PatType, ident: &Ident, given: Given, complain: &mut impl FnMut(Error)) -> From {
    let ty = &*typed.ty;
    let supplied = |name: &str| last_segment(ty, name).is_some();
    let from = match ty {
        Type::Reference(r) if r.mutability.is_none() && last_segment(&r.elem, "Context").is_some() => From::ContextRef,
        _ if given.context || supplied("Context") || supplied("State") || supplied("Resume") => From::Context,
        _ => {
            check_argument(ty, complain);
            let wire = given.rename.unwrap_or_else(|| ident.unraw().to_string());
            if let Some(c) = wire.chars().find(|c| c.is_control() || *c == '"' || *c == '\\') {
                let message = format!("the name of an argument cannot contain {c:?}");
                complain(Error::new_spanned(&typed.pat, message));
            }
            return From::Caller { wire, default: given.default };
        }
    };
    if given.default.is_some() {
        complain(Error::new_spanned(ty, "a context parameter takes no default"));
    }
    if given.rename.is_some() {
        complain(Error::new_spanned(ty, "a context parameter has no name outside"));
    }
    from
}

fn check_argument(ty: &Type, complain: &mut impl FnMut(Error)) {
    match ty {
        Type::Reference(r) => complain(Error::new_spanned(ty, reference(r))),
        Type::ImplTrait(t) => complain(Error::new_spanned(
            t,
            "an argument of a task needs a concrete type: the worker must know what to read",
        )),
        _ => {
            if let Some(lifetime) = lifetime_in(ty) {
                let message = "an argument of a task is sent to a worker and must own its data: no lifetimes here";
                complain(Error::new(lifetime, message));
            }
        }
    }
}

fn reference(r: &TypeReference) -> String {
    let supplied = ["Context", "State", "Resume"].iter().any(|name| last_segment(&r.elem, name).is_some());
    if supplied {
        return format!("what the worker supplies is taken by value: write `{}`", text(&r.elem));
    }
    format!("an argument of a task is sent to a worker and must own its data: use `{}`", owned(r))
}

/// The parameters as they would be written, for messages.
pub(crate) fn list<'a>(params: impl IntoIterator<Item = &'a Param>) -> String {
    let one = |p: &Param| format!("{}: {}", text(&p.pat), text(&p.ty));
    params.into_iter().map(one).collect::<Vec<_>>().join(", ")
}

/// `a, b`
pub(crate) fn idents<'a>(params: impl IntoIterator<Item = &'a Param>) -> Vec<&'a Ident> {
    params.into_iter().map(|p| &p.ident).collect()
}

/// `a: A, b: B`, with names instead of patterns.
pub(crate) fn declared<'a>(params: impl IntoIterator<Item = &'a Param>) -> Vec<TokenStream> {
    let one = |Param { ident, ty, .. }: &Param| quote!(#ident: #ty);
    params.into_iter().map(one).collect()
}
