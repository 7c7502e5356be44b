//! What can be told of a type by its tokens.

use proc_macro2::{Delimiter, Group, Punct, Spacing, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote_spanned};
use syn::spanned::Spanned as _;
use syn::visit_mut::VisitMut;
use syn::{
    GenericArgument, PathArguments, PathSegment, Type, TypeImplTrait, TypeParamBound, TypeReference, parse_quote,
    parse_quote_spanned,
};

/// A type that comes out of a body.
pub(crate) struct Outcome {
    /// As declared.
    pub(crate) ty: TokenStream,
    /// What that gives.
    pub(crate) ok: TokenStream,
    /// The same for people.
    pub(crate) text: String,
    /// How it is read, where it is no `Result`: a `Read<ty, ok>`.
    pub(crate) read: TokenStream,
    /// Where it may be one, its error.
    pub(crate) error: Option<Fault>,
}

/// The error of a `Result`.
pub(crate) struct Fault {
    /// Its type.
    pub(crate) ty: TokenStream,
    /// The type that reads what it wants.
    pub(crate) wishes: TokenStream,
    /// How the `Result` is read, by the type that reads what its error wants. The one place where bounds are asked for.
    pub(crate) read: Box<dyn Fn(&TokenStream) -> TokenStream>,
}

impl Fault {
    /// An error of a type, about which the compiler is asked.
    fn new(ty: TokenStream, p: &TokenStream, read: impl Fn(&TokenStream) -> TokenStream + 'static) -> Self {
        let wishes = quote_spanned!(ty.span()=> #p::WishOf<{
            #[allow(unused_imports)]
            use #p::WishFallback as _;
            #p::wish_kind(#p::WishProbe::<#ty>::IS_ERROR, #p::WishProbe::<#ty>::IS_BOXED)
        }>);
        Fault { ty, wishes, read: Box::new(read) }
    }
}

impl Outcome {
    /// A type that is taken as it is.
    pub(crate) fn plain(ty: &impl ToTokens, p: &TokenStream) -> Self {
        let ty = ty.to_token_stream();
        let read = quote_spanned!(ty.span()=> #p::outcome::<#p::Select<false>, #ty>());
        Outcome { ok: ty.clone(), text: text(&ty), ty, read, error: None }
    }

    /// A `Result<ok, …>`. An error that is written out is named by itself: what is wrong with it is said there.
    fn result(ty: &Type, ok: &Type, p: &TokenStream) -> Self {
        let (of, ok, at) = (ty.to_token_stream(), ok.to_token_stream(), respan(p, ty.span()));
        let error = match type_arguments(ty, "Result").as_slice() {
            [_, error] => {
                let (p, ok, error) = (p.clone(), ok.clone(), error.to_token_stream());
                let ty = error.clone();
                Fault::new(ty, &p.clone(), move |w| quote_spanned!(error.span()=> #p::fallible::<#ok, #error, #w>()))
            }
            _ => {
                let (span, ty) = (ty.span(), of.clone());
                let error = quote_spanned!(span=> <#at::Select<true> as #at::OkOf<#ty>>::Err);
                Fault::new(error, p, move |w| quote_spanned!(span=> #at::outcome_with::<#at::Select<true>, #ty, #w>()))
            }
        };
        Outcome { ty: of, text: text(&ok), ok, read: TokenStream::new(), error: Some(error) }
    }

    /// The `Result<(), E>` that the body of a generator ends in, given what its `Result<T, E>` is for.
    pub(crate) fn fallible_end(ret: &Type, p: &TokenStream) -> Self {
        Outcome::result(ret, &parse_quote!(()), p)
    }

    /// A type that may be a `Result`: where its tokens don't tell, the compiler is asked.
    pub(crate) fn of(ty: &Type, p: &TokenStream) -> Self {
        if let Some((ok, _)) = result_parts(ty) {
            return Outcome::result(ty, &ok, p);
        }
        if known_plain(ty) {
            return Outcome::plain(ty, p);
        }
        let span = ty.span();
        let kind = quote_spanned!(span=> #p::Select<{
            #[allow(unused_imports)]
            use #p::ProbeFallback as _;
            #p::Probe::<#ty>::IS_RESULT
        }>);
        let text = match ty {
            Type::Path(syn::TypePath { qself: Some(of), .. }) => format!("{}::Item", text(&of.ty)),
            _ => text(ty),
        };
        let ok = quote_spanned!(span=> <#kind as #p::OkOf<#ty>>::Ok);
        let error = quote_spanned!(span=> <#kind as #p::OkOf<#ty>>::Err);
        let (at, ty) = (respan(p, span), ty.to_token_stream());
        let of = ty.clone();
        let read = move |w: &TokenStream| quote_spanned!(span=> #at::outcome_with::<#kind, #of, #w>());
        Outcome { ty, ok, text, read: TokenStream::new(), error: Some(Fault::new(error, p, read)) }
    }
}

/// The same tokens, for errors to be put at `span`.
pub(crate) fn respan(tokens: &TokenStream, span: Span) -> TokenStream {
    let moved = |mut token: TokenTree| {
        token.set_span(token.span().located_at(span));
        token
    };
    tokens.clone().into_iter().map(moved).collect()
}

/// Primitive types and what std calls by a well-known name: no need to ask the compiler about them.
fn known_plain(ty: &Type) -> bool {
    const KNOWN: &[&str] = &[
        "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize", "f32", "f64", "bool",
        "char", "String", "Vec", "Option", "HashMap", "BTreeMap", "Value",
    ];
    match ty {
        Type::Tuple(_) | Type::Array(_) => true,
        Type::Path(p) if p.qself.is_none() => {
            p.path.segments.last().is_some_and(|s| KNOWN.iter().any(|k| s.ident == k))
        }
        _ => false,
    }
}

/// The last segment of a path, if that is its name.
pub(crate) fn last_segment<'a>(ty: &'a Type, name: &str) -> Option<&'a PathSegment> {
    match ty {
        Type::Path(p) => p.path.segments.last().filter(|s| s.ident == name),
        Type::Group(g) => last_segment(&g.elem, name),
        Type::Paren(g) => last_segment(&g.elem, name),
        _ => None,
    }
}

pub(crate) fn is_option(ty: &Type) -> bool {
    last_segment(ty, "Option").is_some()
}

/// The types among the arguments of `Name<…>`.
fn type_arguments<'a>(ty: &'a Type, name: &str) -> Vec<&'a Type> {
    let arguments = last_segment(ty, name).map(|s| &s.arguments);
    let Some(PathArguments::AngleBracketed(a)) = arguments else { return Vec::new() };
    let types = a.args.iter().filter_map(|a| match a {
        GenericArgument::Type(t) => Some(t),
        _ => None,
    });
    types.collect()
}

/// The first of them.
pub(crate) fn first_argument<'a>(ty: &'a Type, name: &str) -> Option<&'a Type> {
    type_arguments(ty, name).first().copied()
}

/// Of a type written `Result<T, …>`: `T`, and the same `Result` of `()`.
pub(crate) fn result_parts(ty: &Type) -> Option<(Type, Type)> {
    let ok = first_argument(ty, "Result")?.clone();
    let mut unit = ty.clone();
    set_first_argument(&mut unit);
    Some((ok, unit))
}

fn set_first_argument(ty: &mut Type) {
    let segment = match ty {
        Type::Group(g) => return set_first_argument(&mut g.elem),
        Type::Paren(g) => return set_first_argument(&mut g.elem),
        Type::Path(p) => p.path.segments.last_mut(),
        _ => None,
    };
    let Some(PathArguments::AngleBracketed(a)) = segment.map(|s| &mut s.arguments) else { return };
    let first = a.args.iter_mut().find_map(|a| match a {
        GenericArgument::Type(t) => Some(t),
        _ => None,
    });
    if let Some(t) = first {
        *t = parse_quote_spanned!(t.span()=> ());
    }
}

/// A bound `Name<Item = T>`, with `T` or without.
fn item_of<'a>(bounds: impl IntoIterator<Item = &'a TypeParamBound>, name: &str) -> Option<Option<Type>> {
    bounds.into_iter().find_map(|b| {
        let TypeParamBound::Trait(t) = b else { return None };
        let segment = t.path.segments.last().filter(|s| s.ident == name)?;
        let PathArguments::AngleBracketed(a) = &segment.arguments else { return Some(None) };
        Some(a.args.iter().find_map(|a| match a {
            GenericArgument::AssocType(t) if t.ident == "Item" => Some(t.ty.clone()),
            _ => None,
        }))
    })
}

/// The `T` of `impl Name<Item = T>`, `Box<dyn Name<Item = T>>` or `Pin<Box<dyn Name<Item = T>>>`.
pub(crate) fn declared_item(ty: &Type, name: &str) -> Option<Option<Type>> {
    match ty {
        Type::ImplTrait(i) => item_of(&i.bounds, name),
        Type::TraitObject(o) => item_of(&o.bounds, name),
        Type::Group(g) => declared_item(&g.elem, name),
        Type::Paren(g) => declared_item(&g.elem, name),
        _ => {
            let inner = first_argument(ty, "Pin").or_else(|| first_argument(ty, "Box"))?;
            matches!(inner, Type::TraitObject(_) | Type::Path(_) | Type::Group(_))
                .then(|| declared_item(inner, name))
                .flatten()
        }
    }
}

/// The type of the items of a collection of std's.
pub(crate) fn element(ty: &Type) -> Option<&Type> {
    const COLLECTIONS: &[&str] =
        &["Vec", "VecDeque", "LinkedList", "BinaryHeap", "HashSet", "BTreeSet", "Option", "IntoIter", "Range"];
    match ty {
        Type::Array(a) => Some(&a.elem),
        _ => COLLECTIONS.iter().find_map(|name| first_argument(ty, name)),
    }
}

/// What to write instead of a reference.
pub(crate) fn owned(r: &TypeReference) -> String {
    match &*r.elem {
        t if last_segment(t, "str").is_some() => "String".to_owned(),
        Type::Slice(s) => format!("Vec<{}>", text(&s.elem)),
        t => text(t),
    }
}

/// The first lifetime in a type, other than `'static`.
pub(crate) fn lifetime_in(ty: &Type) -> Option<Span> {
    struct First(Option<Span>);
    impl VisitMut for First {
        fn visit_lifetime_mut(&mut self, l: &mut syn::Lifetime) {
            if l.ident != "static" {
                self.0.get_or_insert(l.span());
            }
        }
        fn visit_type_reference_mut(&mut self, r: &mut TypeReference) {
            self.0.get_or_insert(r.and_token.span());
        }
    }
    let mut first = First(None);
    first.visit_type_mut(&mut ty.clone());
    first.0
}

/// The first `impl Trait` in a type.
pub(crate) fn impl_trait_in(ty: &Type) -> Option<TypeImplTrait> {
    struct First(Option<TypeImplTrait>);
    impl VisitMut for First {
        fn visit_type_impl_trait_mut(&mut self, i: &mut TypeImplTrait) {
            self.0.get_or_insert(i.clone());
        }
    }
    let mut first = First(None);
    first.visit_type_mut(&mut ty.clone());
    first.0
}

/// Tokens as a person would write them: `stringify!` spaces them out.
pub(crate) fn text(tokens: &impl ToTokens) -> String {
    let mut out = String::new();
    append(&mut out, tokens.to_token_stream());
    out
}

fn append(out: &mut String, tokens: TokenStream) {
    let mut before = None;
    let mut keyword = false;
    for token in tokens {
        if keyword {
            out.push(' ');
        }
        keyword = matches!(&token, TokenTree::Ident(i) if ["as", "dyn", "impl", "mut"].iter().any(|k| i == k));
        let last = before.take();
        match token {
            TokenTree::Group(g) => append_group(out, &g),
            TokenTree::Punct(p) => {
                append_punct(out, &p, last);
                before = Some(p.as_char());
            }
            word => {
                if ends_in_word(out) || last == Some('>') && out.ends_with('>') {
                    out.push(' ');
                }
                *out += &word.to_string();
            }
        }
    }
    out.truncate(out.trim_end().len());
}

fn append_group(out: &mut String, g: &Group) {
    let (open, close) = match g.delimiter() {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::Brace => (" { ", " }"),
        Delimiter::None => ("", ""),
    };
    *out += open;
    let start = out.len();
    let mut inner = String::new();
    append(&mut inner, g.stream());
    out.insert_str(start, &inner);
    *out += close;
}

fn append_punct(out: &mut String, p: &Punct, last: Option<char>) {
    let (c, joint) = (p.as_char(), p.spacing() == Spacing::Joint);
    let spaced = matches!(c, '+' | '=' | '|') || c == '-' && joint;
    if spaced && last.is_none() && !out.is_empty() && !out.ends_with(' ') || c == '\'' && ends_in_word(out) {
        out.push(' ');
    }
    out.push(c);
    if matches!(c, ',' | ';' | '+') || c == '>' && last == Some('-') || c == '=' && !joint {
        out.push(' ');
    }
}

fn ends_in_word(out: &str) -> bool {
    out.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_read_as_they_are_written() {
        for written in [
            "i64",
            "Result<Vec<(u8, u8)>, Box<dyn std::error::Error + Send>>",
            "&'static str",
            "&'a mut T",
            "[u8; 4]",
            "impl Stream<Item = i64>",
            "fn(i64, u8) -> i64",
            "Box<dyn Fn(u8) -> (u8, u8)>",
            "<Vec<i64> as ::core::iter::IntoIterator>::Item",
            "Option<bool>",
            "()",
            "dyn for<'a> Fn(&'a u8) -> &'a u8",
            "\"x\".to_string()",
            "Duration::from_secs(3)",
            "-1",
            "vec![1, 2]",
        ] {
            let tokens: TokenStream = written.parse().unwrap();
            assert_eq!(text(&tokens), written);
        }
    }

    #[test]
    fn items_are_found_behind_boxes() {
        let item =
            |ty: &str, name: &str| declared_item(&syn::parse_str(ty).unwrap(), name).map(|t| t.map(|t| text(&t)));
        assert_eq!(item("impl Stream<Item = i64> + Send", "Stream"), Some(Some("i64".to_owned())));
        assert_eq!(item("impl futures::Stream", "Stream"), Some(None));
        assert_eq!(item("Pin<Box<dyn Stream<Item = u8> + Send>>", "Stream"), Some(Some("u8".to_owned())));
        assert_eq!(item("Box<dyn Iterator<Item = u8>>", "Iterator"), Some(Some("u8".to_owned())));
        assert_eq!(item("Vec<u8>", "Iterator"), None);
    }
}
