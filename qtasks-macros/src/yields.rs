//! Finds the yields of a body and replaces them: one visitor, which stops at closures, inner `async` and items.
//!
//! What can't be a yield becomes an error in its place, with a value that fits, so that nothing follows from it.

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::{ParseStream, Parser as _};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Block, Expr, ExprYield, Item, Lifetime, Macro, Stmt, Token, Type};

use crate::input::{GEN_BLOCK, gen_block};

/// Where a yield was found, other than directly in the body.
#[derive(Clone, Copy)]
enum Nest {
    Closure,
    AsyncBlock,
    Item,
    Const,
}

impl Nest {
    fn message(self) -> &'static str {
        match self {
            Nest::Closure => "a closure cannot yield for the task around it: yield in the body of the task itself",
            Nest::AsyncBlock => {
                "an `async` block cannot yield for the task around it: yield in the body of the task itself, or await the block and yield what it returns"
            }
            Nest::Item => {
                "an inner function cannot yield for the task around it: return the value, and yield it in the body of the task"
            }
            Nest::Const => "a constant cannot yield",
        }
    }
}

/// What the body may do besides yielding.
#[derive(Default)]
pub(crate) struct Rules {
    /// `.await` is an error: the function is not async.
    pub(crate) sync: bool,
    /// `?` and `return value` are errors, for which this is the type of what it yields: the body returns `()`.
    pub(crate) unit: Option<String>,
    /// The body returns `Result<(), E>` behind the user's back: `return;` is success.
    pub(crate) fallible: bool,
}

pub(crate) struct Rewriter<'a> {
    /// The type of the yielded values, as the user wrote it.
    ty: Option<&'a Type>,
    rules: Rules,
    pub(crate) found: usize,
    pub(crate) misplaced: usize,
    /// A `yield` that rustc sees as well.
    pub(crate) bare: Option<Span>,
    /// Some yield was found among the tokens of a macro: whether it is nested is left to the label.
    pub(crate) needs_label: bool,
    nest: Option<Nest>,
    opaque: bool,
}

/// The body's end of the slot, out of reach of the user's own names.
pub(crate) fn co() -> Ident {
    Ident::new("__co", Span::mixed_site())
}

/// A label around the body. Labels don't reach into closures and `async` blocks, so a yield which a macro puts into
/// one is an error of rustc's. Not of `mixed_site`: rust-analyzer loses such labels in the tokens of other macros.
pub(crate) fn label(span: Span) -> Lifetime {
    let at = Span::call_site().located_at(span);
    Lifetime { apostrophe: at, ident: Ident::new("yield_directly_in_the_task_body", at) }
}

/// What to say of a final value in a task that declares only what it yields.
pub(crate) fn no_final_value(ty: &str, declared: &str) -> String {
    format!(
        "a task that yields ends without a value: `-> {declared}` names the type of what it yields. For a final value as well, declare `#[task(yield = {ty})]` and the type of that value after `->`"
    )
}

/// A use of the `yield_!` of a body that is left out: else its import would count as unused.
pub(crate) fn first_use(tokens: TokenStream) -> Option<TokenStream> {
    let mut before = None;
    for token in tokens {
        match token {
            TokenTree::Ident(i) if i == "yield_" && before != Some(':') => return Some(used(&i)),
            TokenTree::Group(g) => {
                if let Some(found) = first_use(g.stream()) {
                    return Some(found);
                }
                before = None;
            }
            TokenTree::Punct(p) => before = Some(p.as_char()),
            _ => before = None,
        }
    }
    None
}

impl<'a> Rewriter<'a> {
    pub(crate) fn new(ty: Option<&'a Type>, rules: Rules) -> Self {
        let (found, misplaced, bare, needs_label) = (0, 0, None, false);
        Rewriter { ty, rules, found, misplaced, bare, needs_label, nest: None, opaque: false }
    }

    /// For a body that does not parse.
    pub(crate) fn rewrite_tokens(&mut self, tokens: TokenStream) -> TokenStream {
        self.opaque = true;
        let out = self.loose_tokens(tokens);
        self.opaque = false;
        out
    }

    fn within(&mut self, nest: Nest, f: impl FnOnce(&mut Self)) {
        let outer = self.nest.replace(nest);
        f(self);
        self.nest = outer;
    }

    /// What a yield becomes. The value is bound before the await, so that its temporaries don't live across it, with
    /// the type from the signature, so that a wrong value is reported against that.
    fn replace(&mut self, value: Option<TokenStream>, span: Span, used: Option<&TokenStream>) -> TokenStream {
        if let Some(nest) = self.nest {
            self.misplaced += 1;
            let message = nest.message();
            return quote_spanned!(span=> { ::core::compile_error!(#message); });
        }
        self.found += 1;
        let co = co();
        let value = value.unwrap_or_else(|| quote_spanned!(span=> ()));
        let ty = self.ty.map_or_else(|| quote_spanned!(span=> _), ToTokens::to_token_stream);
        let item = Ident::new("__item", Span::mixed_site().located_at(span));
        let check = self.opaque.then(|| {
            self.needs_label = true;
            let label = label(span);
            quote_spanned!(span=> if false { break #label; })
        });
        quote_spanned!(span=> {
            #used
            let #item: #ty = #value;
            #check
            #co.put(#item).await;
        })
    }

    /// The tokens of a macro we know nothing of. Where they read as expressions or statements, they are handled as
    /// such; where not, token by token.
    fn macro_tokens(&mut self, mac: &mut Macro) {
        let own_yields = ["stream", "try_stream", "macro_rules"];
        let foreign = mac.path.segments.last().is_some_and(|s| own_yields.iter().any(|own| s.ident == own));
        if foreign || !mentions_yield(&mac.tokens) {
            return;
        }
        let outer = std::mem::replace(&mut self.opaque, true);
        let exprs = Punctuated::<Expr, Token![,]>::parse_terminated.parse2(mac.tokens.clone());
        if let Ok(mut exprs) = exprs {
            exprs.iter_mut().for_each(|e| self.visit_expr_mut(e));
            mac.tokens = exprs.into_token_stream();
        } else if let Ok(mut stmts) = Block::parse_within.parse2(mac.tokens.clone()) {
            stmts.iter_mut().for_each(|s| self.visit_stmt_mut(s));
            mac.tokens = stmts.into_iter().map(ToTokens::into_token_stream).collect();
        } else {
            mac.tokens = self.loose_tokens(mac.tokens.clone());
        }
        self.opaque = outer;
    }

    fn loose_tokens(&mut self, tokens: TokenStream) -> TokenStream {
        let mut out = TokenStream::new();
        let mut rest: std::collections::VecDeque<TokenTree> = tokens.into_iter().collect();
        while let Some(token) = rest.pop_front() {
            match token {
                TokenTree::Ident(i) if i == "yield_" => match (rest.front(), rest.get(1)) {
                    (Some(TokenTree::Punct(p)), Some(TokenTree::Group(g))) if p.as_char() == '!' => {
                        let inner = self.loose_tokens(g.stream());
                        let value = (!inner.is_empty()).then_some(inner);
                        out.extend(self.replace(value, i.span(), Some(&used(&i))));
                        rest.drain(..2);
                    }
                    _ => out.extend([TokenTree::Ident(i)]),
                },
                TokenTree::Ident(i) if i == "yield" => {
                    out.extend(self.loose_yield(i.span(), rest.into_iter().collect()));
                    return out;
                }
                TokenTree::Group(g) => {
                    let mut new = Group::new(g.delimiter(), self.loose_tokens(g.stream()));
                    new.set_span(g.span());
                    out.extend([TokenTree::Group(new)]);
                }
                token => out.extend([token]),
            }
        }
        out
    }

    /// After a bare `yield`: its value, as far as that reads as an expression, and the rest.
    fn loose_yield(&mut self, span: Span, after: TokenStream) -> TokenStream {
        let parser = |input: ParseStream<'_>| -> syn::Result<(Option<Expr>, TokenStream)> {
            let ends = input.is_empty() || input.peek(Token![;]) || input.peek(Token![,]);
            let value = if ends { None } else { Some(input.parse()?) };
            Ok((value, input.parse()?))
        };
        match parser.parse2(after) {
            Ok((mut value, rest)) => {
                value.iter_mut().for_each(|v| self.visit_expr_mut(v));
                let mut out = self.replace(value.map(ToTokens::into_token_stream), span, None);
                out.extend(self.loose_tokens(rest));
                out
            }
            Err(e) => {
                self.found += 1;
                e.into_compile_error()
            }
        }
    }

    /// `yield_!(x)`: its replacement, if this is one.
    fn yield_macro(&mut self, mac: &Macro) -> Option<Expr> {
        if mac.path.is_ident(GEN_BLOCK) {
            return Some(Expr::Verbatim(mac.tokens.clone()));
        }
        if mac.path.segments.last().is_none_or(|s| s.ident != "yield_") {
            return None;
        }
        let span = mac.path.span();
        let one = |input: ParseStream<'_>| -> syn::Result<Option<Expr>> {
            if input.is_empty() {
                return Ok(None);
            }
            let value: Expr = input.parse()?;
            if input.is_empty() { Ok(Some(value)) } else { Err(input.error("`yield_!` takes one value")) }
        };
        // Not `parse2`: that would put "unexpected end of input" at `#[task]`.
        let tokens = match mac.parse_body_with(one) {
            Ok(mut value) => {
                value.iter_mut().for_each(|v| self.visit_expr_mut(v));
                self.replace(value.map(ToTokens::into_token_stream), span, Some(&used(&mac.path)))
            }
            Err(e) => {
                self.found += 1;
                let e = e.into_compile_error();
                quote_spanned!(span=> { #e })
            }
        };
        Some(Expr::Verbatim(tokens))
    }

    /// An error in place of `what`, which still checks `kept`.
    fn refuse(&mut self, span: Span, message: &str, kept: &mut Expr) -> Expr {
        self.visit_expr_mut(kept);
        Expr::Verbatim(quote_spanned!(span=> {
            ::core::compile_error!(#message);
            let _ = #kept;
            ::core::unreachable!()
        }))
    }

    /// What a task of this kind may not do, or does in another way. `None` if there is nothing to change.
    fn by_rule(&mut self, expr: &mut Expr) -> Option<Expr> {
        match expr {
            Expr::Await(a) if self.rules.sync => {
                let message = "`.await` needs an async task: write `async fn`";
                Some(self.refuse(a.await_token.span, message, &mut a.base))
            }
            Expr::Try(t) => {
                let ty = self.rules.unit.as_ref()?;
                let message = format!("`?` needs a task that can fail: declare `-> Result<{ty}, E>`");
                Some(self.refuse(t.question_token.span, &message, &mut t.expr))
            }
            Expr::Return(r) if r.expr.is_none() && self.rules.fallible => {
                let span = r.return_token.span;
                r.expr = Some(syn::parse_quote_spanned!(span=> ::core::result::Result::Ok(())));
                None
            }
            Expr::Return(r) if r.expr.is_some() => {
                let ty = self.rules.unit.as_ref()?;
                let message = no_final_value(ty, ty);
                Some(Expr::Verbatim(syn::Error::new_spanned(r, message).into_compile_error()))
            }
            _ => None,
        }
    }
}

impl VisitMut for Rewriter<'_> {
    fn visit_stmt_mut(&mut self, stmt: &mut Stmt) {
        // A yield at the end of a block arrives as a statement.
        if let Stmt::Macro(m) = stmt
            && let Some(e) = self.yield_macro(&m.mac)
        {
            *stmt = Stmt::Expr(with_attrs(&m.attrs, e), m.semi_token);
            return;
        }
        visit_mut::visit_stmt_mut(self, stmt);
    }

    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        let nest = match expr {
            Expr::Closure(_) => Nest::Closure,
            Expr::Async(_) => Nest::AsyncBlock,
            Expr::Const(_) => Nest::Const,
            Expr::Macro(m) => {
                match self.yield_macro(&m.mac) {
                    Some(e) => *expr = with_attrs(&m.attrs, e),
                    None => visit_mut::visit_expr_mut(self, expr),
                }
                return;
            }
            Expr::Yield(ExprYield { attrs, yield_token, expr: value }) => {
                let span = yield_token.span;
                if !self.opaque {
                    self.bare.get_or_insert(span);
                }
                value.iter_mut().for_each(|v| self.visit_expr_mut(v));
                let value = value.take().map(ToTokens::into_token_stream);
                *expr = with_attrs(attrs, Expr::Verbatim(self.replace(value, span, None)));
                return;
            }
            _ => {
                let by_rule = if self.nest.is_none() { self.by_rule(expr) } else { None };
                match by_rule {
                    Some(e) => *expr = e,
                    None => visit_mut::visit_expr_mut(self, expr),
                }
                return;
            }
        };
        self.within(nest, |s| visit_mut::visit_expr_mut(s, expr));
    }

    fn visit_item_mut(&mut self, item: &mut Item) {
        let is_task = |a: &Attribute| a.path().segments.last().is_some_and(|s| s.ident == "task");
        // A task inside a task is handled by its own attribute.
        if !matches!(item, Item::Fn(f) if f.attrs.iter().any(is_task)) {
            self.within(Nest::Item, |s| visit_mut::visit_item_mut(s, item));
        }
    }

    fn visit_macro_mut(&mut self, mac: &mut Macro) {
        self.macro_tokens(mac);
    }
}

/// `#[cfg(…)] yield_!(x);` stays under its condition.
fn with_attrs(attrs: &[Attribute], expr: Expr) -> Expr {
    if attrs.is_empty() { expr } else { Expr::Verbatim(quote!(#(#attrs)* #expr)) }
}

/// A use of the macro by the name the user gave it: else its import would count as unused.
fn used(path: &impl ToTokens) -> TokenStream {
    quote!(#path!(@in_a_task);)
}

/// Whether anything in these tokens may be a yield; those of a `gen` block are its own.
pub(crate) fn mentions_yield(tokens: &TokenStream) -> bool {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let mut i = 0;
    while i < tokens.len() {
        if let Some(n) = gen_block(&tokens[i..]) {
            i += n;
            continue;
        }
        let found = match &tokens[i] {
            TokenTree::Ident(t) => t == "yield_" || t == "yield",
            TokenTree::Group(g) => mentions_yield(&g.stream()),
            _ => false,
        };
        if found {
            return true;
        }
        i += 1;
    }
    false
}

/// Marks yields outside of tasks.
pub(crate) struct NotATask;

impl VisitMut for NotATask {
    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        if let Expr::Yield(y) = expr {
            let span = y.yield_token.span;
            *expr = Expr::Verbatim(quote_spanned!(span=> {
                ::core::compile_error!("`yield` works only in a function marked `#[task]`");
                ::core::unreachable!()
            }));
            return;
        }
        visit_mut::visit_expr_mut(self, expr);
    }
}
