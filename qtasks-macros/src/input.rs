//! Functions as `#[task]` and `tasks!` take them: with `gen`, and with their bodies as tokens.
//!
//! A body is parsed only if it mentions a yield; any other is handed on as it came, whatever syntax it has.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::quote;
use syn::ext::IdentExt as _;
use syn::parse::discouraged::Speculative as _;
use syn::parse::{Parse, ParseStream, Parser as _};
use syn::visit_mut::VisitMut as _;
use syn::{Attribute, Block, Error, Ident, Result, Signature, Token, Visibility, braced};

use crate::yields::{NotATask, mentions_yield};

#[derive(Clone)]
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    /// The `gen` of a `gen fn`, which `syn` does not know.
    pub(crate) gen_token: Option<Ident>,
    pub(crate) sig: Signature,
    pub(crate) body: Group,
    /// From a `tasks!` block, in which rustc does not see `yield` and `gen`.
    pub(crate) in_block: bool,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        Function::after_attrs(attrs, input)
    }
}

impl Function {
    fn after_attrs(mut attrs: Vec<Attribute>, input: ParseStream<'_>) -> Result<Self> {
        let vis = input.parse()?;
        let constness: Option<Token![const]> = input.parse()?;
        let asyncness: Option<Token![async]> = input.parse()?;
        let is_gen = input.fork().call(Ident::parse_any).is_ok_and(|i| i == "gen");
        let gen_token = if is_gen { Some(input.call(Ident::parse_any)?) } else { None };
        let mut sig: Signature = input.parse()?;
        sig.constness = constness.or(sig.constness);
        sig.asyncness = asyncness.or(sig.asyncness);
        let content;
        let brace = braced!(content in input);
        attrs.extend(inner_attrs(&content)?);
        let mut body = Group::new(Delimiter::Brace, content.parse()?);
        body.set_span(brace.span.join());
        Ok(Function { attrs, vis, gen_token, sig, body, in_block: false })
    }

    /// The body, if anything in it may be a yield. Blocks `gen { … }`, which `syn` does not know, are wrapped into a
    /// macro call of the name [`GEN_BLOCK`].
    pub(crate) fn parse_body(&self) -> Result<Option<Block>> {
        if !mentions_yield(&self.body.stream()) {
            return Ok(None);
        }
        let stmts = Block::parse_within.parse2(wrap_gen_blocks(self.body.stream()))?;
        Ok(Some(Block { brace_token: syn::token::Brace { span: self.body.delim_span() }, stmts }))
    }
}

/// `#![…]` at the start of a block, as if it stood before the item.
fn inner_attrs(content: ParseStream<'_>) -> Result<Vec<Attribute>> {
    let mut attrs = content.call(Attribute::parse_inner)?;
    for a in &mut attrs {
        a.style = syn::AttrStyle::Outer;
    }
    Ok(attrs)
}

pub(crate) const GEN_BLOCK: &str = "__qtasks_gen_block";

/// At `gen {` or `gen move {`: how many tokens these are.
pub(crate) fn gen_block(tokens: &[TokenTree]) -> Option<usize> {
    let ident = |i: usize, name: &str| matches!(tokens.get(i), Some(TokenTree::Ident(t)) if t == name);
    if !ident(0, "gen") {
        return None;
    }
    let at = if ident(1, "move") { 2 } else { 1 };
    matches!(tokens.get(at), Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Brace).then_some(at + 1)
}

fn wrap_gen_blocks(tokens: TokenStream) -> TokenStream {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut out = TokenStream::new();
    let mut i = 0;
    while i < tokens.len() {
        let asyncness = usize::from(matches!(&tokens[i], TokenTree::Ident(t) if t == "async"));
        if let Some(n) = gen_block(&tokens[i + asyncness..]) {
            let name = Ident::new(GEN_BLOCK, Span::call_site());
            let block: TokenStream = tokens[i..i + asyncness + n].iter().cloned().collect();
            out.extend(quote!(#name!(#block)));
            i += asyncness + n;
            continue;
        }
        match &tokens[i] {
            TokenTree::Group(g) => {
                let mut new = Group::new(g.delimiter(), wrap_gen_blocks(g.stream()));
                new.set_span(g.span());
                out.extend([TokenTree::Group(new)]);
            }
            t => out.extend([t.clone()]),
        }
        i += 1;
    }
    out
}

/// An item of a `tasks!` block.
pub(crate) enum Item {
    /// The arguments of its `#[task(…)]`, and the function.
    Task(TokenStream, Box<Function>),
    /// `mod name`, and what is in it.
    Module(TokenStream, Vec<Item>),
    Other(TokenStream),
}

/// The items of a `tasks!` block. What can't be read is handed to rustc, so that the rest stays what it is.
pub(crate) fn items(input: ParseStream<'_>) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    while !input.is_empty() {
        let ahead = input.fork();
        match item(&ahead) {
            Ok(item) => {
                input.advance_to(&ahead);
                items.push(item);
            }
            Err(e) => items.push(Item::Other(unreadable(input, &e)?)),
        }
    }
    Ok(items)
}

fn item(input: ParseStream<'_>) -> Result<Item> {
    let after_attrs = input.fork();
    let mut attrs = after_attrs.call(Attribute::parse_outer)?;
    if let Some(i) = attrs.iter().position(is_task) {
        input.advance_to(&after_attrs);
        let args = match attrs.remove(i).meta {
            syn::Meta::Path(_) => TokenStream::new(),
            syn::Meta::List(l) => l.tokens,
            syn::Meta::NameValue(v) => return Err(Error::new_spanned(v, "expected `#[task]` or `#[task(…)]`")),
        };
        let f = Function { in_block: true, ..Function::after_attrs(attrs, input)? };
        return Ok(Item::Task(args, Box::new(f)));
    }
    if is_module(&after_attrs) {
        input.advance_to(&after_attrs);
        let vis: Visibility = input.parse()?;
        let mod_token: Token![mod] = input.parse()?;
        let name: Ident = input.parse()?;
        let content;
        braced!(content in input);
        attrs.extend(inner_attrs(&content)?);
        return Ok(Item::Module(quote!(#(#attrs)* #vis #mod_token #name), items(&content)?));
    }
    let mut item: syn::Item = input.parse()?;
    NotATask.visit_item_mut(&mut item);
    Ok(Item::Other(quote!(#item)))
}

fn is_task(attr: &Attribute) -> bool {
    attr.path().segments.last().is_some_and(|s| s.ident == "task")
}

/// At `pub mod name {`.
fn is_module(after_attrs: &syn::parse::ParseBuffer<'_>) -> bool {
    let ahead = after_attrs.fork();
    ahead.parse::<Visibility>().is_ok()
        && ahead.parse::<Token![mod]>().is_ok()
        && ahead.parse::<Ident>().is_ok()
        && ahead.peek(syn::token::Brace)
}

/// An item up to its closing brace or semicolon. rustc says what is wrong with it; only of a task, whose attribute
/// it would run again, do we.
fn unreadable(input: ParseStream<'_>, error: &Error) -> Result<TokenStream> {
    let task = input.fork().call(Attribute::parse_outer).is_ok_and(|attrs| attrs.iter().any(is_task));
    let mut tokens = TokenStream::new();
    while !input.is_empty() {
        let token: TokenTree = input.parse()?;
        let last = match &token {
            TokenTree::Group(g) => g.delimiter() == Delimiter::Brace,
            TokenTree::Punct(p) => p.as_char() == ';',
            _ => false,
        };
        tokens.extend([token]);
        if last {
            break;
        }
    }
    Ok(if task { error.to_compile_error() } else { tokens })
}
