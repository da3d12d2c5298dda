//! Fuzz targets for user ids, for APPLIDs (names of z/OS applications), and for texts in commands for the external
//! security manager (ESM): RACF, ACF2 or Top Secret.

use std::{fmt, str::FromStr};

use passticket_proxy::esm::{
    self, Commands, EmailOperand, Esm, Identity, Label, NameOperand, RegistryOperand,
};
use tower_passticket::passticket::{Applid, UserId};

use crate::support::lines;

/// The input is a user id or an APPLID.
pub(crate) fn names(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (user, applid) = (UserId::new(text), Applid::new(text));
    let name = match (&user, &applid) {
        (Ok(user), Ok(applid)) => {
            assert_eq!(user.as_str(), applid.as_str());
            user.as_str()
        }
        (Err(user), Err(applid)) => {
            assert_eq!(user.rule(), applid.rule());
            assert!(user.to_string().len() < 500);
            return;
        }
        _ => panic!("user ids and APPLIDs must have the same rules"),
    };
    assert!((1..=8).contains(&name.len()));
    assert!(
        name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"#@$".contains(&b))
    );
    assert_eq!(UserId::new(name).as_ref(), user.as_ref());
    assert!(name.eq_ignore_ascii_case(text));
    assert!(user.as_ref().is_ok_and(|user| user.as_bytes() == name.as_bytes()));
}

/// Returns the commands as TSO (the command line of z/OS) or ACF2 reads them: without comments, and each
/// command as one line.
fn submitted(commands: &Commands) -> Vec<String> {
    let (mut joined, mut is_continuation) = (Vec::<String>::new(), false);
    for line in commands.lines() {
        assert!(line.len() <= 72, "{line}");
        assert!(line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{line:?}");
        assert!(!line.starts_with("/*") && !line.starts_with("//"), "{line}");
        if !is_continuation && (line.starts_with(" /*") || line.starts_with('*')) {
            continue;
        }
        let (text, is_continued) = match line.strip_suffix('+') {
            Some(text) => (text, true),
            None => (line, false),
        };
        match joined.last_mut().filter(|_| is_continuation) {
            Some(last) => last.push_str(text.trim_start()),
            None => joined.push(text.to_owned()),
        }
        is_continuation = is_continued;
    }
    assert!(!is_continuation);
    joined
}

/// Parses the operand `text`, or `plain` if `text` is missing or not valid.
fn text<T: FromStr<Err: fmt::Display>>(text: Option<&&str>, plain: &str) -> T {
    let parse = |text: &str| T::from_str(text).map_err(|error| error.to_string());
    text.and_then(|text| parse(text).ok()).unwrap_or_else(|| parse(plain).expect("a valid text"))
}

/// The input consists of lines with an e-mail address, a registry, a label, a subject and an issuer.
///
/// Checks that a text cannot change the structure of a command. The target compares the commands with the commands for
/// harmless texts, such as `a@b`.
pub(crate) fn esm_texts(data: &[u8]) {
    let lines = lines(data, 5);
    let (email, registry) =
        (text::<EmailOperand>(lines.first(), "a@b"), text(lines.get(1), "acme"));
    let label = text::<Label>(lines.get(2), "Zowe");
    let subject = text::<NameOperand>(lines.get(3), "CN=a");
    let issuer = text::<NameOperand>(lines.get(4), "CN=a");
    let plain_email: EmailOperand = text(None, "a@b");
    let plain_registry: RegistryOperand = text(None, "acme");
    let plain_label: Label = text(None, "Zowe");
    let plain_name: NameOperand = text(None, "CN=a");
    let (gateway, user) = (UserId::new("ZWESVUSR"), UserId::new("JANE"));
    let (gateway, user) = (gateway.expect("a valid user id"), user.expect("a valid user id"));
    for esm in [Esm::Racf, Esm::Acf2, Esm::TopSecret] {
        for (given, plain, values) in [
            (
                Identity::Email { email: &email, registry: &registry },
                Identity::Email { email: &plain_email, registry: &plain_registry },
                [email.as_str(), registry.as_str(), label.as_str()],
            ),
            (
                Identity::Certificate { subject: &subject, issuer: Some(&issuer) },
                Identity::Certificate { subject: &plain_name, issuer: Some(&plain_name) },
                [subject.as_str(), issuer.as_str(), label.as_str()],
            ),
        ] {
            let Ok(got) = esm::identity(esm, &gateway, &user, given, &label) else {
                assert!(values.iter().any(|value| value.contains('\'')));
                continue;
            };
            let plain = esm::identity(esm, &gateway, &user, plain, &plain_label);
            let (got, plain) =
                (submitted(&got), submitted(&plain.expect("the plain texts have no apostrophe")));
            assert_eq!(got.len(), plain.len(), "{got:?}");
            let different: Vec<_> = got.iter().zip(&plain).filter(|(a, b)| a != b).collect();
            assert!(different.len() <= 1, "{different:?}");
            for (got, plain) in different {
                for c in ['(', ')', ';', '"', '&'] {
                    assert_eq!(got.matches(c).count(), plain.matches(c).count(), "{got}");
                }
                let apostrophes = got.matches('\'').count();
                assert!(apostrophes.is_multiple_of(2), "{got}");
            }
        }
    }
}
