//! Stands in for `token_key` in a program without the feature `pkcs11`.

use std::{convert::Infallible, marker::PhantomData};

use super::{problem::Problem, reader::Field};

/// A PassTicket key in a PKCS#11 token. There is none in this program.
#[derive(Clone, Debug)]
pub struct ConfiguredTokenKey(Infallible);

impl ConfiguredTokenKey {
    /// Checks the key.
    ///
    /// # Errors
    /// There is no value of this type, so this function is never called.
    pub fn check(&self) -> Result<(), Problem> {
        match self.0 {}
    }
}

/// The keys in PKCS#11 tokens. There are none in this program.
#[derive(Default)]
pub(super) struct Tokens<'a> {
    pub(super) keys: Vec<ConfiguredTokenKey>,
    of: PhantomData<&'a ()>,
}

impl<'a> Tokens<'a> {
    /// Reports that this program cannot use PKCS#11 tokens.
    pub(super) fn read(&mut self, field: &Field<'a>) -> Option<Infallible> {
        field.at.error(
            "needs a program with the feature pkcs11, and this one was built without it; build the program with its default \
             features, or write { file: PATH }",
        );
        None
    }
}
