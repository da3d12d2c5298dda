//! One session with a PKCS#11 token: opening it, logging in, finding keys and computing MACs.

use std::{collections::BTreeMap, sync::Arc};

use cryptoki::{
    error::{Error, RvError},
    mechanism::{Mechanism, MechanismType},
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};
use zeroize::Zeroizing;

use super::{
    error::{KeyFault, Pkcs11Error},
    module::{Initialized, Module},
    names::{KeyLabel, Pin, TokenLabel},
};

/// Whether a session can change the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

#[derive(Debug)]
pub(super) struct TokenSession {
    // The fields are dropped in this order: a session must be closed before its module is finalized.
    session: Session,
    /// The keys that were found and checked in this session.
    keys: BTreeMap<KeyLabel, ObjectHandle>,
    slot: Slot,
    token: TokenLabel,
    module: Initialized,
}

impl TokenSession {
    /// Finds the token, opens a session and logs in.
    pub(super) fn open(
        module: &Arc<Module>,
        token: &TokenLabel,
        pin: &Pin,
        access: Access,
    ) -> Result<Self, Pkcs11Error> {
        let path = module.path();
        let module = module.initialized()?;
        let failed = |error: Error| Pkcs11Error::call(token, &error);
        let library = module.library();
        let (mut found, mut present) = (Vec::new(), Vec::new());
        for slot in library.get_slots_with_token().map_err(failed)? {
            // A token can disappear between the two calls.
            let Ok(info) = library.get_token_info(slot) else { continue };
            if !info.token_initialized() {
                continue;
            }
            if info.label().trim_end() == token.as_str() {
                found.push((slot, info));
            } else {
                present.push(info.label().trim_end().to_owned());
            }
        }
        let (slot, info) = match found.len() {
            1 => found.swap_remove(0),
            0 => {
                present.sort();
                let present =
                    if present.is_empty() { "none".to_owned() } else { present.join(", ") };
                return Err(Pkcs11Error::NoToken {
                    token: token.clone(),
                    path: path.to_owned(),
                    present: present.into(),
                });
            }
            count => return Err(Pkcs11Error::SeveralTokens { token: token.clone(), count }),
        };
        let session = match access {
            Access::Read => library.open_ro_session(slot),
            Access::Write => library.open_rw_session(slot),
        };
        let session = session.map_err(failed)?;
        if info.user_pin_final_try() {
            return Err(Pkcs11Error::FinalPinTry { token: token.clone() });
        }
        match session.login(UserType::User, Some(&AuthPin::from(pin.expose()))) {
            // All sessions that a process has opened with one token share one login. So another session may already
            // have logged in.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => return Err(failed(error)),
        }
        Ok(Self { session, keys: BTreeMap::new(), slot, token: token.clone(), module })
    }

    pub(super) fn hmac(
        &mut self,
        key: &KeyLabel,
        data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Pkcs11Error> {
        let handle = match self.keys.get(key) {
            Some(handle) => *handle,
            None => {
                let handle = self.find(key)?;
                self.keys.insert(key.clone(), handle);
                handle
            }
        };
        let mac = self.session.sign(&Mechanism::Sha512Hmac, handle, data);
        Ok(Zeroizing::new(mac.map_err(|error| self.failed(&error))?))
    }

    /// Finds the only secret key with this label, and checks how it is protected.
    fn find(&self, key: &KeyLabel) -> Result<ObjectHandle, Pkcs11Error> {
        self.check_mechanism()?;
        let (token, key) = (self.token.clone(), key.clone());
        let handle = match self.labelled(&key)?[..] {
            [handle] => handle,
            [] => return Err(Pkcs11Error::NoKey { token, key }),
            [..] => return Err(Pkcs11Error::SeveralKeys { token, key }),
        };
        let wanted = [AttributeType::Sensitive, AttributeType::Extractable, AttributeType::Sign];
        let attributes = self.session.get_attributes(handle, &wanted);
        let attributes = attributes.map_err(|error| self.failed(&error))?;
        match fault(&attributes) {
            None => Ok(handle),
            Some(fault) => Err(Pkcs11Error::WrongKey { token, key, fault }),
        }
    }

    fn labelled(&self, key: &KeyLabel) -> Result<Vec<ObjectHandle>, Pkcs11Error> {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::Label(key.as_str().as_bytes().to_vec()),
        ];
        self.session.find_objects(&template).map_err(|error| self.failed(&error))
    }

    /// Checks that the token computes HMAC-SHA-512. Returns the minimum and the maximum length of keys, in bytes. A
    /// maximum of 0 means that the token states none.
    fn check_mechanism(&self) -> Result<(usize, usize), Pkcs11Error> {
        let info = self.module.library().get_mechanism_info(self.slot, MechanismType::SHA512_HMAC);
        match info {
            Ok(info) if info.sign() => Ok((info.min_key_size(), info.max_key_size())),
            Ok(_) | Err(Error::Pkcs11(RvError::MechanismInvalid, _)) => {
                Err(Pkcs11Error::NoMechanism { token: self.token.clone() })
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Stores a key. `expected` is the MAC that the key must make of `probe`.
    pub(super) fn import(
        &mut self,
        key: &KeyLabel,
        mut value: Zeroizing<Vec<u8>>,
        probe: &[u8],
        expected: &[u8],
    ) -> Result<(), Pkcs11Error> {
        self.check_new(key, value.len())?;
        let mut template = new_key(key);
        template.push(Attribute::KeyType(KeyType::GENERIC_SECRET));
        template.push(Attribute::Value(std::mem::take(&mut *value)));
        let created = self.session.create_object(&template);
        if let Some(Attribute::Value(copy)) = template.last_mut() {
            *value = std::mem::take(copy);
        }
        let handle = created.map_err(|error| self.failed(&error))?;
        self.finish(
            key,
            handle,
            |mac| (mac == expected).then_some(()).ok_or(KeyFault::OtherMac),
            probe,
        )
    }

    pub(super) fn generate(
        &mut self,
        key: &KeyLabel,
        len: usize,
        probe: &[u8],
    ) -> Result<(), Pkcs11Error> {
        self.check_new(key, len)?;
        let mut template = new_key(key);
        template.push(Attribute::ValueLen((len as u64).into()));
        let made = self.session.generate_key(&Mechanism::GenericSecretKeyGen, &template);
        let handle = made.map_err(|error| self.failed(&error))?;
        self.finish(key, handle, |_| Ok(()), probe)
    }

    fn check_new(&self, key: &KeyLabel, len: usize) -> Result<(), Pkcs11Error> {
        let (min, max) = self.check_mechanism()?;
        if len < min || max != 0 && len > max {
            return Err(Pkcs11Error::KeyLength { token: self.token.clone(), min, max, len });
        }
        if self.labelled(key)?.is_empty() {
            return Ok(());
        }
        Err(Pkcs11Error::LabelTaken { token: self.token.clone(), key: key.clone() })
    }

    /// Checks a new key. If the check fails, deletes the key from the token.
    fn finish(
        &mut self,
        key: &KeyLabel,
        handle: ObjectHandle,
        check: impl FnOnce(&[u8]) -> Result<(), KeyFault>,
        probe: &[u8],
    ) -> Result<(), Pkcs11Error> {
        let token = self.token.clone();
        let checked = match self.hmac(key, probe) {
            Ok(mac) => check(&mac).map_err(|fault| Pkcs11Error::WrongKey {
                token,
                key: key.clone(),
                fault,
            }),
            Err(error) => Err(error),
        };
        if checked.is_err() {
            self.keys.remove(key);
            // If the deletion also fails, its error is ignored, because the first error is more useful.
            let _ = self.session.destroy_object(handle);
        }
        checked
    }

    fn failed(&self, error: &Error) -> Pkcs11Error {
        Pkcs11Error::call(&self.token, error)
    }
}

/// Returns the attributes of a new key, without its type and value.
fn new_key(key: &KeyLabel) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Label(key.as_str().as_bytes().to_vec()),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Verify(false),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
    ]
}

/// Returns what is wrong with a key. An attribute that the token does not return counts as wrong.
fn fault(attributes: &[Attribute]) -> Option<KeyFault> {
    let is = |wanted: &Attribute| attributes.contains(wanted);
    if !is(&Attribute::Sensitive(true)) {
        Some(KeyFault::NotSensitive)
    } else if !is(&Attribute::Extractable(false)) {
        Some(KeyFault::Extractable)
    } else if !is(&Attribute::Sign(true)) {
        Some(KeyFault::CannotSign)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_must_be_protected_and_make_macs() {
        use Attribute::{Extractable, Sensitive, Sign};
        for (attributes, want) in [
            (vec![Sensitive(true), Extractable(false), Sign(true)], None),
            (vec![Sensitive(false), Extractable(false), Sign(true)], Some(KeyFault::NotSensitive)),
            (vec![Sensitive(true), Extractable(true), Sign(true)], Some(KeyFault::Extractable)),
            (vec![Sensitive(true), Extractable(false), Sign(false)], Some(KeyFault::CannotSign)),
            (vec![], Some(KeyFault::NotSensitive)),
            (vec![Sensitive(true), Sign(true)], Some(KeyFault::Extractable)),
        ] {
            assert_eq!(fault(&attributes), want, "{attributes:?}");
        }
    }
}
