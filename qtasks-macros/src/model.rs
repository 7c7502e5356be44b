//! Our view of the function: what it takes, what comes out of it, how it is run.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::visit_mut::VisitMut as _;
use syn::{Attribute, Error, FnArg, Meta, ReturnType, Type, parse_quote_spanned};

use crate::args::{Args, Keep, OnRetry, name_problem};
use crate::body::{self, Yielding};
use crate::errors::Errors;
use crate::input::Function;
use crate::params::{self, From, Param};
use crate::types::{
    Fault, Outcome, declared_item, element, first_argument, impl_trait_in, lifetime_in, result_parts, text,
};
use crate::yields::{Rewriter, Rules};

/// A task, understood.
pub(crate) struct Model {
    pub(crate) args: Args,
    pub(crate) f: Function,
    /// `::qtasks::__private`
    pub(crate) p: TokenStream,
    pub(crate) params: Vec<Param>,
    pub(crate) is_async: bool,
    pub(crate) shape: Shape,
    /// What comes out for each yield; `None` of a plain task.
    pub(crate) item: Option<Outcome>,
    /// What comes out at the end.
    pub(crate) end: Outcome,
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) docs: Vec<Attribute>,
}

/// What the function is.
pub(crate) enum Shape {
    /// Returns once.
    Plain,
    /// Yields.
    Yields(Box<Yielding>),
    /// Hands out a stream of its own.
    Stream,
    /// Hands out an iterator of its own.
    Iterator,
}

impl Model {
    /// Understands a function; what is wrong with it goes to `errors`. `Err` gives the function back if too little can
    /// be understood to declare a task.
    pub(crate) fn of(args: Args, mut f: Function, errors: &mut Errors) -> Result<Self, Box<Function>> {
        let typeless = check_signature(&f, errors);
        let params = read_params(&mut f, errors);
        let krate = args.krate.as_ref().map_or_else(|| quote!(::qtasks), ToTokens::to_token_stream);
        let p = quote!(#krate::__private);
        let declared = declared(&f);
        let shape = match own_items(&args, &declared, &p, errors) {
            Own::Items(own) => Some(own_shape(&args, &f, *own, errors)),
            Own::Unknown => None,
            Own::No => body::shape(&args, &f, &declared, errors),
        };
        let Some((shape, item)) = shape.filter(|_| !typeless) else { return Err(Box::new(f)) };
        let plain = |ty: &Type| Outcome::plain(ty, &p);
        let (item, end) = match &shape {
            Shape::Plain => (None, Outcome::of(&declared, &p)),
            Shape::Yields(y) if y.fallible => (item.as_ref().map(plain), Outcome::fallible_end(&y.ret, &p)),
            Shape::Yields(y) if args.yields.is_none() => (item.as_ref().map(plain), Outcome::plain(&y.ret, &p)),
            Shape::Yields(_) => (item.as_ref().map(plain), Outcome::of(&declared, &p)),
            Shape::Stream | Shape::Iterator => {
                (item.as_ref().map(|ty| Outcome::of(ty, &p)), Outcome::plain(&quote!(()), &p))
            }
        };
        let pick = |name: &str| f.attrs.iter().filter(|a| a.path().is_ident(name)).cloned().collect();
        let (cfgs, docs) = (pick("cfg"), pick("doc"));
        let is_async = f.sig.asyncness.is_some();
        let mut model = Model { args, f, p, params, is_async, shape, item, end, cfgs, docs };
        model.validate(errors);
        if model.unusable_values(errors) { Err(Box::new(model.f)) } else { Ok(model) }
    }

    /// Whether it is made and polled on a thread that may block.
    pub(crate) fn is_sync(&self) -> bool {
        !self.is_async && !matches!(self.shape, Shape::Stream)
    }

    /// Whether it takes a `&Context`.
    pub(crate) fn borrows_context(&self) -> bool {
        self.params.iter().any(|p| matches!(p.from, From::ContextRef))
    }

    pub(crate) fn is_generating(&self) -> bool {
        self.item.is_some()
    }

    /// The name of the function, without `r#`.
    pub(crate) fn name(&self) -> String {
        self.f.sig.ident.unraw().to_string()
    }

    /// What is stored for each yield, and the same for people; `None` of a plain task.
    pub(crate) fn value(&self) -> Option<(TokenStream, String)> {
        let item = self.item.as_ref()?;
        let out = self.args.handler.as_ref().and_then(|h| h.out.as_ref());
        Some(out.map_or_else(|| (item.ok.clone(), item.text.clone()), |ty| (ty.to_token_stream(), text(ty))))
    }

    /// The error that a `Result` from its body may hold, where there is one.
    pub(crate) fn error(&self) -> Option<&Fault> {
        self.end.error.as_ref().or(self.item.as_ref().and_then(|item| item.error.as_ref()))
    }

    /// How what comes out of the body is read.
    pub(crate) fn read(&self, outcome: &Outcome) -> TokenStream {
        match &outcome.error {
            Some(error) if self.args.retry.retry_on.is_some() => (error.read)(&quote!(__QtasksRetryOn)),
            Some(error) => (error.read)(&error.wishes),
            None => outcome.read.clone(),
        }
    }

    /// Whether the end brings a value that is stored.
    pub(crate) fn has_final_value(&self) -> bool {
        self.args.yields.is_some() && self.end.text != "()" && matches!(self.shape, Shape::Yields(_))
    }

    /// Whether items are compared with what an earlier attempt yielded.
    pub(crate) fn is_replayed(&self) -> bool {
        !self.is_restarted() && !self.is_resumed()
    }

    pub(crate) fn is_restarted(&self) -> bool {
        self.args.on_retry.as_ref().is_some_and(|r| r.value == OnRetry::Restart)
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.params.iter().any(Param::is_resume)
    }

    /// What one argument says about another, or about the function. An argument that makes no sense is dropped, so
    /// that nothing more is said of it.
    fn validate(&mut self, errors: &mut Errors) {
        if !self.is_generating() {
            self.refuse_what_needs_yields(errors);
        }
        if self.is_restarted() && self.is_resumed() {
            let on_retry = self.args.on_retry.take();
            errors.on(
                &on_retry.map(|r| r.key),
                "a task that takes a `Resume` goes on where it was, and does not restart: leave one of the two out",
            );
        }
        self.validate_keep(errors);
        self.validate_echo(errors);
        self.validate_name(errors);
        self.args.retry.validate(errors);
        crate::schedule::validate(&mut self.args, &self.params, &self.f.sig.ident, errors);
    }

    /// Refuses values of types that have no name or don't own their data. Answers whether there are any.
    fn unusable_values(&self, errors: &mut Errors) -> bool {
        let mut any = false;
        for ty in self.value_types() {
            if let Some(opaque) = impl_trait_in(&ty) {
                let future = text(&opaque).contains("Future<") && self.item.is_none();
                let message = if future {
                    "a task that returns a future is an `async fn`"
                } else {
                    "a value of a task is read again where it is waited for: its type needs a name"
                };
                errors.on(&opaque, message);
                any = true;
            } else if let Some(lifetime) = lifetime_in(&ty) {
                let message = "a value of a task is sent back from a worker and must own its data: no lifetimes here";
                errors.at(lifetime, message);
                any = true;
            }
        }
        any
    }

    /// The types of what is sent back, as declared.
    fn value_types(&self) -> Vec<Type> {
        let ok = |ty: &Type| result_parts(ty).map_or_else(|| ty.clone(), |(ok, _)| ok);
        let declared = declared(&self.f);
        let mut types: Vec<Type> = self.args.handler.iter().filter_map(|h| h.out.clone()).collect();
        match &self.shape {
            Shape::Plain => types.push(ok(&declared)),
            Shape::Yields(y) if self.args.yields.is_some() => types.extend([y.ty.clone(), ok(&declared)]),
            Shape::Yields(y) => types.push(y.ty.clone()),
            Shape::Stream | Shape::Iterator => {
                types.extend(self.item.as_ref().and_then(|i| syn::parse2(i.ty.clone()).ok()))
            }
        }
        types
    }

    fn refuse_what_needs_yields(&mut self, errors: &mut Errors) {
        let name = &self.f.sig.ident;
        let mut refuse = |key: &syn::Ident, does: &str| {
            errors.on(key, format!("`{key}` {does}, but `{name}` yields nothing"));
        };
        if let Some(h) = self.args.handler.take() {
            refuse(&h.key, "handles yielded values");
        }
        if let Some(keep) = self.args.keep.take() {
            refuse(&keep.key, "says which yielded values are kept");
        }
        if let Some(max) = self.args.yields_max.take() {
            refuse(&max.key, "limits yielded values");
        }
        if let Some(on_retry) = self.args.on_retry.take() {
            refuse(&on_retry.key, "says what becomes of yielded values");
        }
        for param in self.params.iter().filter(|p| p.is_resume()) {
            errors
                .on(&param.ty, format!("a `Resume` goes on after the last yielded value, but `{name}` yields nothing"));
        }
    }

    fn validate_keep(&mut self, errors: &mut Errors) {
        let restarts = self.is_restarted() || self.is_resumed();
        let wrong = self.args.keep.take_if(|keep| matches!(keep.value, Keep::Last(_)) && !restarts);
        if let Some(keep) = wrong {
            errors.on(
                &keep.key,
                "a second attempt would need the values that are not kept: take a `Resume<T>` parameter, or add `on_retry = restart`",
            );
        }
    }

    fn validate_echo(&self, errors: &mut Errors) {
        let Some(span) = self.args.echo.filter(|_| !self.params.iter().any(Param::is_context)) else { return };
        let rest = params::list(&self.params);
        let comma = if rest.is_empty() { "" } else { ", " };
        let gen_token = self.f.gen_token.as_ref().map_or("", |_| "gen ");
        let asyncness = if self.is_async { "async " } else { "" };
        let name = &self.f.sig.ident;
        let signature = format!("{asyncness}{gen_token}fn {name}(ctx: Context{comma}{rest})");
        errors.at(span, format!("`echo` needs the context of the task: write `{signature}`"));
    }

    fn validate_name(&self, errors: &mut Errors) {
        if self.args.name.is_none()
            && let Some(problem) = name_problem("name of a task", &self.name())
        {
            errors.on(&self.f.sig.ident, format!("{problem}. Give it one by `#[task(name = \"…\")]`"));
        }
    }

    /// The first paragraph of the doc comment.
    pub(crate) fn first_doc(&self) -> Option<String> {
        let lines = self.docs.iter().filter_map(|doc| match &doc.meta {
            Meta::NameValue(nv) => match crate::args::literal(&nv.value) {
                Some(syn::Lit::Str(s)) => Some(s.value()),
                _ => None,
            },
            _ => None,
        });
        let all = lines.collect::<Vec<_>>().join("\n");
        let trimmed = all.lines().map(str::trim).skip_while(|l| l.is_empty());
        let first: Vec<&str> = trimmed.take_while(|l| !l.is_empty()).collect();
        (!first.is_empty()).then(|| first.join(" "))
    }
}

fn declared(f: &Function) -> Type {
    match &f.sig.output {
        ReturnType::Type(_, t) => (**t).clone(),
        ReturnType::Default => parse_quote_spanned!(f.sig.ident.span()=> ()),
    }
}

/// What no task can be. Answers whether the types in the signature mean nothing outside of it.
fn check_signature(f: &Function, errors: &mut Errors) -> bool {
    let sig = &f.sig;
    let mut fatal = |tokens: &dyn ToTokens, message: &str| {
        errors.fatal(Error::new_spanned(tokens.to_token_stream(), message));
    };
    let method = matches!(sig.inputs.first(), Some(FnArg::Receiver(_)));
    if let Some(FnArg::Receiver(r)) = sig.inputs.first() {
        fatal(
            r,
            "a method cannot be a task: a worker has no `self` to call it on. Use a free function, and `State<T>` for what the worker supplies",
        );
    }
    let generic = !sig.generics.params.is_empty();
    if generic {
        fatal(
            &sig.generics,
            "a generic function cannot be a task: a task is one function under one name. Write a task that calls it with concrete types",
        );
    }
    if let Some(w) = &sig.generics.where_clause {
        fatal(w, "a task takes no `where` clause");
    }
    if let Some(c) = &sig.constness {
        fatal(c, "a `const fn` cannot be a task");
    }
    if let syn::Safety::Unsafe(u) = &sig.safety {
        fatal(u, "an `unsafe fn` cannot be a task: a worker calls it with whatever arguments arrive");
    }
    if let Some(abi) = &sig.abi {
        fatal(abi, "an `extern fn` cannot be a task");
    }
    if let Some(v) = &sig.variadic {
        fatal(v, "a task has a fixed number of arguments");
    }
    method || generic
}

fn read_params(f: &mut Function, errors: &mut Errors) -> Vec<Param> {
    let mut complain = |e| errors.fatal(e);
    let typed = f.sig.inputs.iter_mut().filter_map(|input| match input {
        FnArg::Typed(p) => Some(p),
        FnArg::Receiver(_) => None,
    });
    let params: Vec<Param> = typed.enumerate().map(|(i, p)| Param::read(i, p, &mut complain)).collect();
    let mut names = Vec::new();
    for p in &params {
        if let From::Caller { wire, .. } = &p.from {
            if names.contains(&wire) {
                errors.fatal(Error::new(p.ident.span(), format!("two arguments are named `{wire}`")));
            }
            names.push(wire);
        }
    }
    params
}

/// Whether a function hands out a stream or an iterator.
enum Own {
    No,
    /// It does: which, and the type of the items.
    Items(Box<(Shape, Type)>),
    /// It does, but the type of the items is not told.
    Unknown,
}

fn own_items(args: &Args, ty: &Type, p: &TokenStream, errors: &mut Errors) -> Own {
    for (name, shape) in [("Stream", Shape::Stream), ("Iterator", Shape::Iterator)] {
        match declared_item(ty, name) {
            Some(Some(item)) => return Own::Items(Box::new((shape, item))),
            Some(None) => {
                let message = format!("the type of the items must be known: write `impl {name}<Item = T>`");
                errors.on(ty, message);
                return Own::Unknown;
            }
            None => {}
        }
    }
    if let Some(item) = first_argument(ty, "BoxStream").or_else(|| first_argument(ty, "LocalBoxStream")) {
        return Own::Items(Box::new((Shape::Stream, item.clone())));
    }
    if let (Some(span), Some(_)) = (args.iterator, args.stream) {
        errors.at(span, "a function hands out a stream or an iterator, not both");
    }
    let span = ty.span();
    if args.stream.is_some() {
        return Own::Items(Box::new((Shape::Stream, parse_quote_spanned!(span=> <#ty as #p::OwnStream>::Item))));
    }
    if args.iterator.is_none() {
        return Own::No;
    }
    let item = element(ty).cloned();
    let projected = || parse_quote_spanned!(span=> <#ty as ::core::iter::IntoIterator>::Item);
    Own::Items(Box::new((Shape::Iterator, item.unwrap_or_else(projected))))
}

fn own_shape(args: &Args, f: &Function, own: (Shape, Type), errors: &mut Errors) -> (Shape, Option<Type>) {
    if let Some(g) = &f.gen_token {
        errors.fatal(Error::new_spanned(g, "a `gen fn` declares the type of what it yields, not a stream of it"));
    }
    if let Some(y) = &args.yields {
        errors.on(y, "this function hands out a stream: the type of its values is known from that");
    }
    let mut survey = Rewriter::new(None, Rules::default());
    if let Ok(Some(mut block)) = f.parse_body() {
        survey.visit_block_mut(&mut block);
    }
    if survey.found > 0 {
        errors.fatal(Error::new_spanned(
            &f.sig.output,
            "a function that yields declares the type of what it yields, `-> T`; only one that makes its stream itself declares `-> impl Stream`",
        ));
    }
    (own.0, Some(own.1))
}
