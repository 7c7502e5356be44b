//! The body of a function that declares no stream: whether it yields, and what it becomes then.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::visit_mut::VisitMut as _;
use syn::{Block, Error, Expr, ReturnType, Stmt, Type};

use crate::args::Args;
use crate::errors::Errors;
use crate::input::Function;
use crate::model::Shape;
use crate::types::{result_parts, text};
use crate::yields::{Rewriter, Rules, label, no_final_value};

/// A body that yields, rewritten.
pub(crate) struct Yielding {
    pub(crate) body: TokenStream,
    /// What the body returns.
    pub(crate) ret: Type,
    /// The type of what is yielded.
    pub(crate) ty: Type,
    /// Declared `-> Result<T, E>`.
    pub(crate) fallible: bool,
}

/// A plain function, or one that yields, and what. `None` if that can't be known.
pub(crate) fn shape(args: &Args, f: &Function, declared: &Type, errors: &mut Errors) -> Option<(Shape, Option<Type>)> {
    // First find out whether there are yields, then with which type they are to be replaced.
    let mut survey = Rewriter::new(None, Rules::default());
    let mut parsed = f.parse_body();
    match &parsed {
        Ok(Some(block)) => survey.visit_block_mut(&mut block.clone()),
        Ok(None) => {}
        // Being typed, or new syntax. Say nothing: rustc finds what is wrong with the body if it gets it, and an
        // editor finds what it needs to complete it.
        Err(_) => drop(survey.rewrite_tokens(f.body.stream())),
    }
    refuse_bare_yields(f, survey.bare, errors);
    let yields = survey.found > 0 || survey.misplaced > 0 || f.gen_token.is_some() || args.yields.is_some();
    if !yields {
        return Some((Shape::Plain, None));
    }
    if args.yields.is_none() && matches!(f.sig.output, ReturnType::Default) {
        let name = &f.sig.ident;
        let message = format!("`{name}` yields, so it needs a type of yielded values: `-> T`, or `#[task(yield = T)]`");
        errors.fatal(Error::new(name.span(), message));
        return None;
    }
    let (ty, ret, fallible) = match (&args.yields, result_parts(declared)) {
        (Some(y), _) => (y.clone(), declared.clone(), false),
        (None, Some((ok, unit))) => (ok, unit, true),
        (None, None) => (declared.clone(), syn::parse_quote!(()), false),
    };
    let unit = (args.yields.is_none() && !fallible).then(|| text(&ty));
    let rules = Rules { sync: f.sig.asyncness.is_none(), unit, fallible };
    if let (Ok(Some(block)), None) = (&mut parsed, &args.yields)
        && let Some(value) = final_value(block, fallible)
    {
        errors.on(&value, no_final_value(&text(&ty), &text(declared)));
        block.stmts.pop();
    }
    let body = rewrite(f, parsed, Rewriter::new(Some(&ty), rules), fallible);
    Some((Shape::Yields(Box::new(Yielding { body, ret, ty: ty.clone(), fallible })), Some(ty)))
}

/// On stable, rustc has its own error for these, which does not say what to do.
fn refuse_bare_yields(f: &Function, bare: Option<Span>, errors: &mut Errors) {
    if !cfg!(stable_rustc) || f.in_block {
        return;
    }
    let found = bare.map(|span| (span, "`yield`")).or(f.gen_token.as_ref().map(|g| (g.span(), "`gen fn`")));
    if let Some((span, what)) = found {
        let message = format!(
            "on stable Rust {what} works only in a block of tasks, `tasks!( ... )`; elsewhere write `yield_!(value)`"
        );
        errors.at(span, message);
    }
}

/// The body with its yields replaced, and an end that fits.
fn rewrite(
    f: &Function,
    parsed: syn::Result<Option<Block>>,
    mut rewriter: Rewriter<'_>,
    fallible: bool,
) -> TokenStream {
    let (stmts, ends_in_result) = match parsed {
        Ok(Some(mut block)) => {
            rewriter.visit_block_mut(&mut block);
            let stmts = &block.stmts;
            (quote!(#(#stmts)*), ends_in_result(stmts))
        }
        Ok(None) => (f.body.stream(), false),
        Err(_) => (rewriter.rewrite_tokens(f.body.stream()), false),
    };
    let body = if fallible && !ends_in_result {
        // Falling off the end is success.
        quote! {
            let (): () = { #stmts };
            #[allow(unreachable_code)]
            ::core::result::Result::Ok(())
        }
    } else {
        stmts
    };
    if !rewriter.needs_label {
        return body;
    }
    // A yield that is not directly in the body cannot reach the label.
    let label = label(Span::call_site());
    quote! {
        #label: {
            return { #body };
        }
        #[allow(unreachable_code)]
        ::core::unreachable!()
    }
}

/// The value at the end of a body that should have none.
fn final_value(block: &Block, fallible: bool) -> Option<Expr> {
    let Some(Stmt::Expr(last, None)) = block.stmts.last() else { return None };
    let inner = match last {
        Expr::Call(call) if fallible && ends_in_result(&block.stmts) && is_call_of(call, "Ok") => call.args.first()?,
        _ => last,
    };
    is_value(inner).then(|| inner.clone())
}

fn is_call_of(call: &syn::ExprCall, name: &str) -> bool {
    matches!(&*call.func, Expr::Path(p) if p.path.segments.last().is_some_and(|s| s.ident == name))
}

/// Surely a value, and not `()`.
fn is_value(e: &Expr) -> bool {
    match e {
        Expr::Array(_)
        | Expr::Cast(_)
        | Expr::Field(_)
        | Expr::Index(_)
        | Expr::Lit(_)
        | Expr::Path(_)
        | Expr::Range(_)
        | Expr::Reference(_)
        | Expr::Repeat(_)
        | Expr::Struct(_)
        | Expr::Unary(_) => true,
        Expr::Tuple(t) => !t.elems.is_empty(),
        Expr::Binary(b) => {
            use syn::BinOp::{
                Add, And, BitAnd, BitOr, BitXor, Div, Eq, Ge, Gt, Le, Lt, Mul, Ne, Or, Rem, Shl, Shr, Sub,
            };
            matches!(
                b.op,
                Add(_)
                    | Sub(_)
                    | Mul(_)
                    | Div(_)
                    | Rem(_)
                    | And(_)
                    | Or(_)
                    | BitXor(_)
                    | BitAnd(_)
                    | BitOr(_)
                    | Shl(_)
                    | Shr(_)
                    | Eq(_)
                    | Lt(_)
                    | Le(_)
                    | Ne(_)
                    | Ge(_)
                    | Gt(_)
            )
        }
        _ => false,
    }
}

/// Whether a body ends in an explicit `Ok(…)` or `Err(…)`, in some branch.
fn ends_in_result(stmts: &[Stmt]) -> bool {
    matches!(stmts.last(), Some(Stmt::Expr(last, None)) if gives_result(last))
}

fn gives_result(expr: &Expr) -> bool {
    match expr {
        Expr::Call(call) => is_call_of(call, "Ok") || is_call_of(call, "Err"),
        Expr::MethodCall(call) => gives_result(&call.receiver),
        Expr::If(branches) => {
            let other = branches.else_branch.as_ref();
            other.is_some_and(|(_, other)| ends_in_result(&branches.then_branch.stmts) || gives_result(other))
        }
        Expr::Match(branches) => branches.arms.iter().any(|arm| gives_result(&arm.body)),
        Expr::Block(block) => ends_in_result(&block.block.stmts),
        Expr::Unsafe(block) => ends_in_result(&block.block.stmts),
        Expr::Paren(inner) => gives_result(&inner.expr),
        Expr::Group(inner) => gives_result(&inner.expr),
        _ => false,
    }
}
