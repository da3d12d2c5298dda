//! Reads the keys that sign and verify the gateway's own tokens: `components.passticket-proxy.signingKey`, or
//! `signingKeys` with several keys.

use super::{
    environment::Environment,
    passwords::{self, PasswordSetting},
    pem::{self, Wanted},
    private_key_file,
    reader::{Field, Section},
};
use tower_passticket::token::{KeyId, RsaKeyError, SigningKey, VerifyingKey};

/// The maximum number of keys. A token with a wrong signature costs one check for each key.
const MAX_KEYS: usize = 8;

pub(super) struct SigningKeys {
    /// The key that signs.
    pub(super) signing: SigningKey,
    /// The keys that only verify.
    pub(super) retained: Vec<VerifyingKey>,
}

pub(super) enum SigningKeysField<'a> {
    /// `signingKey`.
    One(Field<'a>),
    /// `signingKeys`.
    Several(Field<'a>),
}

/// Finds the setting `signingKey` or `signingKeys`. A section with both settings, or with neither, is an error.
pub(super) fn field<'a>(section: &mut Section<'a>) -> Option<SigningKeysField<'a>> {
    let several = section.optional("signingKeys");
    let Some(several) = several else {
        let remedy = "the path of a PEM file with the RSA private key that signs tokens";
        return section.required("signingKey", remedy).map(SigningKeysField::One);
    };
    if let Some(one) = section.optional("signingKey") {
        one.at.error(
            "is present together with signingKeys; add its file to signingKeys (file: PATH), and remove this setting",
        );
        return None;
    }
    Some(SigningKeysField::Several(several))
}

/// Reads the files. `password` is the password of the file that `signingKey` names.
pub(super) fn read(
    field: &SigningKeysField<'_>,
    password: &PasswordSetting,
    env: Environment<'_>,
) -> Option<SigningKeys> {
    match field {
        SigningKeysField::One(file) => {
            let Key::Private(signing) = key(file, password, Use::Signs)? else { return None };
            Some(SigningKeys { signing, retained: Vec::new() })
        }
        SigningKeysField::Several(list) => several(list, env),
    }
}

fn several(list: &Field<'_>, env: Environment<'_>) -> Option<SigningKeys> {
    let items = list.items();
    if items.len() > MAX_KEYS {
        list.at.error(format_args!(
            "has {} keys; write at most {MAX_KEYS}, and remove keys whose tokens have all expired",
            items.len()
        ));
        return None;
    }
    let entries: Vec<_> = items.iter().map(|item| entry(item, env)).collect();
    // The entries are compared even if the file of one entry has a problem.
    let mut is_good = true;
    let signing = entries.iter().filter(|entry| entry.signs.is_some()).count();
    if signing == 0 {
        list.at.error("has no key that signs; set signs: true in one entry");
        is_good = false;
    }
    for (index, entry) in entries.iter().enumerate() {
        let before = &entries[..index];
        if let Some(signs) = &entry.signs
            && before.iter().any(|other| other.signs.is_some())
        {
            signs.at.error("makes a second key sign; set signs: true in only one entry");
            is_good = false;
        }
        if let Some((id, at)) = &entry.id
            && before.iter().any(|other| other.id.as_ref().is_some_and(|(other, _)| other == id))
        {
            at.at.error(format_args!("{id} is the kid of an earlier entry; choose another kid"));
            is_good = false;
        }
        let same = |key: &Key, other: &Key| key.public().is_same_key(&other.public());
        if let Some((key, file)) = &entry.key
            && before.iter().any(|other| other.key.as_ref().is_some_and(|(o, _)| same(key, o)))
        {
            file.at.error("has the same key as an earlier entry; remove one of the two entries");
            is_good = false;
        }
    }
    let (mut signing, mut retained) = (None, Vec::new());
    for Entry { key, id, signs } in entries {
        let (key, id) = (key?.0, id.map(|(id, _)| id));
        match (key, signs, id) {
            (Key::Private(key), Some(_), Some(id)) => signing = Some(key.with_key_id(id)),
            (Key::Private(key), Some(_), None) => signing = Some(key),
            (key, _, Some(id)) => retained.push(key.public().with_key_id(id)),
            (key, _, None) => retained.push(key.public()),
        }
    }
    Some(SigningKeys { signing: signing.filter(|_| is_good)?, retained })
}

struct Entry<'a> {
    /// The key, and the setting `file` of the entry. `None` if the file has a problem, which was reported.
    key: Option<(Key, Field<'a>)>,
    id: Option<(KeyId, Field<'a>)>,
    /// The setting `signs` of the entry, if it is `true`.
    signs: Option<Field<'a>>,
}

enum Key {
    Private(SigningKey),
    Public(VerifyingKey),
}

impl Key {
    fn public(&self) -> VerifyingKey {
        match self {
            Self::Private(key) => key.verifying_key(),
            Self::Public(key) => key.clone(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Signs,
    Verifies,
}

fn entry<'a>(item: &Field<'a>, env: Environment<'_>) -> Entry<'a> {
    let mut section = item.section();
    let file = section.required("file", "the path of a PEM file with an RSA private key");
    let id = section.optional("kid").and_then(|field| Some((field.parse::<KeyId>()?, field)));
    let signs = section.optional("signs").filter(Field::is_on);
    let password = passwords::setting(section.optional("password").as_ref(), env);
    section.finish();
    let r#use = if signs.is_some() { Use::Signs } else { Use::Verifies };
    Entry { key: file.and_then(|file| Some((key(&file, &password, r#use)?, file))), id, signs }
}

/// Reads the file of a key. The file of a key that does not sign may contain only the public key. So an operator can
/// delete the old private key.
fn key(field: &Field<'_>, password: &PasswordSetting, r#use: Use) -> Option<Key> {
    let (path, pem) = private_key_file::read(field, password)?;
    let error = match SigningKey::from_pem(&pem) {
        Ok(key) => return Some(Key::Private(key)),
        Err(error) => error,
    };
    if let (RsaKeyError::NotRsaPrivate, Use::Verifies, Ok(key)) =
        (&error, r#use, VerifyingKey::from_pem(&pem))
    {
        return Some(Key::Public(key));
    }
    let text = pem::explain(&pem, &path, Wanted::PrivateKey).unwrap_or_else(|| error.to_string());
    field.at.error(format_args!("{} {text}", path.display()));
    None
}
