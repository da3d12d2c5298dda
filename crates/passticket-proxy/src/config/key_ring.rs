//! Explains what to do about key rings. A key ring is a store for certificates and keys in the security product of
//! z/OS, so a program on another machine cannot read it. The texts contain commands that export the content of a ring.

use tower_passticket::passticket::UserId;

const TYPES: [&str; 4] = ["JCERACFKS", "JCECCARACFKS", "JCEHYBRIDRACFKS", "RACFKS"];

/// A key ring and a certificate in it. A field is `None` if the configuration does not contain it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct KeyRing {
    owner: Option<UserId>,
    name: Option<String>,
    label: Option<String>,
}

impl KeyRing {
    /// Parses a file name such as `safkeyring://ZWESVUSR/ZoweKeyring` or `safkeyring:////ZWESVUSR/ZoweKeyring&label`.
    /// The URL scheme has variants, such as `safkeyringjce`.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        let rest = path.trim().strip_prefix("safkeyring")?;
        let ring = rest.split_once(':').map_or("", |(_, ring)| ring).trim_matches('/');
        let (ring, label) =
            ring.split_once('&').map_or((ring, None), |(ring, label)| (ring, Some(label)));
        let (owner, name) = ring.split_once('/').unwrap_or_default();
        let is_name = !name.is_empty()
            && name.len() <= 237
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "@#$._-".contains(c));
        Some(Self {
            owner: UserId::new(owner).ok(),
            name: is_name.then(|| name.to_owned()),
            label: label.map(str::to_owned),
        })
    }

    pub(super) fn is_type(name: &str) -> bool {
        TYPES.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Returns the error for a key ring that is configured as the key store. `label` is the label of the certificate.
    pub(super) fn export_key(&self, label: Option<&str>) -> String {
        let owner = self.owner();
        format!(
            "is a key ring of z/OS, which cannot be read from a file; export the certificate with its key on z/OS: \
             RACDCERT ID({owner}) EXPORT(LABEL('{}')) DSN('{owner}.GATEWAY.P12') FORMAT(PKCS12DER) \
             PASSWORD('<PASSWORD>'), copy the data set in binary, and write type: PKCS12 and the path of the copy",
            operand(label.or(self.label.as_deref()))
        )
    }

    /// Returns the error for a key ring that is configured as the trust store.
    pub(super) fn export_authorities(&self) -> String {
        let owner = self.owner();
        let ring = self.name.as_deref().unwrap_or("<RING>");
        let label = operand(self.label.as_deref());
        format!(
            "is a key ring of z/OS, which cannot be read from a file; list its authorities on z/OS: RACDCERT \
             ID({owner}) LISTRING({ring}), export each of them: RACDCERT CERTAUTH EXPORT(LABEL('{label}')) \
             DSN('{owner}.CA.PEM') FORMAT(CERTB64), and set \
             zowe.certificate.pem.certificateAuthorities to the paths of the copies"
        )
    }

    /// Returns the error for a key ring that is configured as any other file.
    pub(super) fn export_file(&self) -> String {
        let (owner, label) = (self.owner(), operand(self.label.as_deref()));
        format!(
            "is a key ring of z/OS, which cannot be read from a file; export its content on z/OS (a certificate with \
             its key: RACDCERT ID({owner}) EXPORT(LABEL('{label}')) DSN('{owner}.GATEWAY.P12') FORMAT(PKCS12DER) \
             PASSWORD('<PASSWORD>'); an authority: RACDCERT CERTAUTH EXPORT(LABEL('{label}')) DSN('{owner}.CA.PEM') \
             FORMAT(CERTB64)), and write the path of the copy"
        )
    }

    fn owner(&self) -> String {
        self.owner.map_or_else(|| "<USER>".to_owned(), |owner| owner.to_string())
    }
}

/// Returns a label that the command can contain between apostrophes. Other labels, such as one that could end the
/// operand, become `<LABEL>`.
fn operand(label: Option<&str>) -> &str {
    let is_plain = |label: &&str| {
        let is_allowed = |c: char| (c.is_ascii_graphic() && c != '\'') || c == ' ';
        !label.is_empty() && label.len() <= 32 && label.chars().all(is_allowed)
    };
    label.filter(is_plain).unwrap_or("<LABEL>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_key_rings_have_an_owner_and_a_name() {
        for (path, owner, name) in [
            ("safkeyring://ZWESVUSR/ZoweKeyring", Some("ZWESVUSR"), Some("ZoweKeyring")),
            ("safkeyring:////ZWESVUSR/Zowe.Ring", Some("ZWESVUSR"), Some("Zowe.Ring")),
            ("safkeyringjcecca://zwesvusr/R", Some("ZWESVUSR"), Some("R")),
            ("safkeyring:////ZWESVUSR/R&my ca", Some("ZWESVUSR"), Some("R")),
            ("safkeyring://OWNERISTOOLONG/R'X", None, None),
            ("safkeyring", None, None),
        ] {
            let ring = KeyRing::of_path(path).unwrap();
            assert_eq!(ring.owner.map(|owner| owner.to_string()).as_deref(), owner, "{path}");
            assert_eq!(ring.name.as_deref(), name, "{path}");
        }
        assert_eq!(KeyRing::of_path("/zowe/safkeyring"), None);
    }

    #[test]
    fn the_commands_contain_configured_values_but_no_label_with_an_apostrophe() {
        let ring = KeyRing::of_path("safkeyring://ZWESVUSR/ZoweKeyring").unwrap();
        let text = ring.export_key(Some("my cert"));
        let command = "RACDCERT ID(ZWESVUSR) EXPORT(LABEL('my cert')) DSN('ZWESVUSR.GATEWAY.P12') FORMAT(PKCS12DER)";
        assert!(text.contains(command), "{text}");
        for label in [None, Some("a')) DELETE(LABEL('b"), Some("")] {
            assert!(ring.export_key(label).contains("LABEL('<LABEL>')"), "{label:?}");
        }
        let text = ring.export_authorities();
        assert!(text.contains("RACDCERT ID(ZWESVUSR) LISTRING(ZoweKeyring)"), "{text}");
        let labelled = KeyRing::of_path("safkeyring:////ZWESVUSR/R&my ca").unwrap();
        assert!(labelled.export_authorities().contains("CERTAUTH EXPORT(LABEL('my ca'))"));
        let unknown = KeyRing::of_path("safkeyring").unwrap();
        assert!(unknown.export_key(None).contains("RACDCERT ID(<USER>)"));
    }
}
