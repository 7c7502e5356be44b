//! All the errors of one task, told together.

use std::fmt::Display;

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::Error;

#[derive(Default)]
pub(crate) struct Errors {
    all: Vec<Error>,
    /// What can be understood of the signature is not enough to run the function.
    pub(crate) fatal: bool,
}

impl Errors {
    pub(crate) fn add(&mut self, error: Error) {
        self.all.push(error);
    }

    pub(crate) fn at(&mut self, span: Span, message: impl Display) {
        self.add(Error::new(span, message));
    }

    pub(crate) fn on(&mut self, tokens: &impl ToTokens, message: impl Display) {
        self.add(Error::new_spanned(tokens, message));
    }

    /// An error of the signature, after which the body is left out.
    pub(crate) fn fatal(&mut self, error: Error) {
        self.fatal = true;
        self.add(error);
    }

    pub(crate) fn into_compile_errors(self) -> TokenStream {
        self.all.into_iter().map(Error::into_compile_error).collect()
    }

    #[cfg(test)]
    pub(crate) fn messages(&self) -> Vec<String> {
        self.all.iter().map(ToString::to_string).collect()
    }
}
