//! Reads PassTicket keys in PKCS#11 tokens: `key: { pkcs11: { module, token, label, pinFile } }`.

use std::{collections::BTreeMap, path::PathBuf};

use passticket_pkcs11::{KeyLabel, Pin, Token, TokenKey, TokenLabel};

use super::{
    problem::{Place, Problem},
    reader::{At, Field},
};

/// A PassTicket key in a PKCS#11 token, and its place in the configuration. Reading the configuration does not open the
/// token.
#[derive(Clone, Debug)]
pub struct ConfiguredTokenKey {
    key: TokenKey,
    place: Place,
}

impl ConfiguredTokenKey {
    /// Returns the key.
    pub fn key(&self) -> &TokenKey {
        &self.key
    }

    /// Finds the key in the token and makes a trial MAC. This function blocks the calling thread for at most 5 seconds.
    ///
    /// # Errors
    /// The problem has the place of the key in the configuration.
    pub fn check(&self) -> Result<(), Problem> {
        self.key.check().map_err(|error| Problem::new(self.place.clone(), &error.to_string()))
    }
}

/// The PKCS#11 tokens of a configuration. Keys of one token share its sessions and threads.
#[derive(Default)]
pub(super) struct Tokens<'a> {
    tokens: BTreeMap<(PathBuf, TokenLabel), (PathBuf, At<'a>, Token)>,
    pub(super) keys: Vec<ConfiguredTokenKey>,
}

impl<'a> Tokens<'a> {
    pub(super) fn read(&mut self, field: &Field<'a>) -> Option<TokenKey> {
        let mut section = field.section();
        let module =
            "the path of the PKCS#11 module, which is a shared library of the token's vendor";
        let module = section.required("module", module).and_then(|field| field.path());
        let label = section.required("token", "the label of the token");
        let label = label.and_then(|field| field.parse::<TokenLabel>());
        let key = section.required("label", "the label of the key in the token");
        let key = key.and_then(|field| field.parse::<KeyLabel>());
        let pin =
            section.required("pinFile", "the path of a file with the PIN of the token's user");
        let pin = pin.and_then(|field| {
            let (path, content) = field.secret_file()?;
            match Pin::parse(&content) {
                Ok(pin) => Some((path, pin, field.at)),
                Err(error) => {
                    field.at.error(format_args!("{}: {error}", path.display()));
                    None
                }
            }
        });
        section.finish();
        let (module, label, key, (path, pin, at)) = (module?, label?, key?, pin?);
        let token = self.token(module, label, path, pin, at)?;
        let key = TokenKey::new(token, key);
        self.keys.push(ConfiguredTokenKey { key: key.clone(), place: field.at.place() });
        Some(key)
    }

    fn token(
        &mut self,
        module: PathBuf,
        label: TokenLabel,
        path: PathBuf,
        pin: Pin,
        at: At<'a>,
    ) -> Option<Token> {
        let name = (module, label);
        if let Some((first, first_at, token)) = self.tokens.get(&name) {
            if *first != path {
                at.error(format_args!(
                    "is another file than the one in {first_at} for the same token, which has one PIN; write the same \
                     file in both places"
                ));
                return None;
            }
            return Some(token.clone());
        }
        let token = Token::new(&name.0, name.1.clone(), pin);
        self.tokens.insert(name, (path, at, token.clone()));
        Some(token)
    }
}
