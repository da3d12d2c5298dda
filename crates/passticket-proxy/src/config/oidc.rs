//! Reads the identity providers whose tokens are accepted: `components.passticket-proxy.oidc`.

use std::{collections::BTreeSet, fmt, time::Duration};

use super::{reader::Field, tls_files::concatenate};
use tower_passticket::{
    identity::Registry,
    remote::Address,
    token::{Algorithm, IssuerUrl},
};

/// An identity provider: an entry of `components.passticket-proxy.oidc`.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OidcSettings {
    /// The claim `iss` of the provider's tokens: `issuer`.
    pub issuer: IssuerUrl,
    /// The URL of the provider's keys: `jwksUri`.
    pub jwks: Address,
    /// The accepted audiences, at least one: `audience`.
    pub audiences: Vec<String>,
    /// The accepted clients (`azp`): `authorizedParties`. If the list is empty, `azp` is checked only in a token with
    /// several audiences. The `azp` of this token must then be one of `audiences`.
    pub authorized_parties: Vec<String>,
    /// The accepted algorithms: `algorithms`.
    pub algorithms: Vec<Algorithm>,
    /// The claims that name the user: `userIdField`.
    pub user_id_fields: Vec<String>,
    /// The registry that the users belong to: `registry`, else `components.gateway.apiml.security.oidc.registry`.
    pub registry: Registry,
    /// The time between two fetches of the keys: `refreshMinutes`.
    pub refresh: Duration,
    /// The certificate authorities (CAs) of the server with the keys: `certificateAuthorities`. `None` means that the
    /// gateway uses the CAs that it trusts for services.
    pub authorities: Option<Vec<u8>>,
    /// The claims and values that the rules of `components.passticket-proxy.technicalUsers` name for this issuer.
    pub kept_values: BTreeSet<(String, String)>,
}

impl fmt::Debug for OidcSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcSettings").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Reads the entries. `registry` is the default registry.
pub(super) fn read(list: &Field<'_>, registry: Option<&Registry>) -> Vec<OidcSettings> {
    let items = list.items();
    let providers: Vec<_> = items.iter().map(|item| (item, provider(item, registry))).collect();
    for (index, (item, provider)) in providers.iter().enumerate() {
        let Some(provider) = provider else { continue };
        let mut before = providers[..index].iter().filter_map(|(_, other)| other.as_ref());
        if before.any(|other| other.issuer == provider.issuer) {
            let issuer = &provider.issuer;
            item.at.error(format_args!(
                "has the issuer {issuer} of an earlier entry; remove one of the two entries"
            ));
        }
    }
    for (index, (item, provider)) in providers.iter().enumerate() {
        let Some(provider) = provider else { continue };
        let mut before = providers[..index].iter().filter_map(|(_, other)| other.as_ref());
        if let Some(other) = before.find(|other| other.registry == provider.registry) {
            item.at.warning(format_args!(
                "has the same registry as {}, so each of the two providers can issue tokens for the users of the other \
                 one; write another registry, unless both providers have the same users",
                other.issuer
            ));
        }
    }
    for (index, (item, provider)) in providers.iter().enumerate() {
        let Some(provider) = provider else { continue };
        let mut before = providers[..index].iter().filter_map(|(_, other)| other.as_ref());
        if let Some(other) = before.find(|other| {
            other.jwks.to_string() == provider.jwks.to_string() && other.issuer != provider.issuer
        }) {
            item.at.warning(format_args!(
                "has the same jwksUri as {}, so each of the two issuers can sign tokens of the other one; write the \
                 jwksUri of this issuer, unless one server is both issuers",
                other.issuer
            ));
        }
    }
    providers.into_iter().filter_map(|(_, provider)| provider).collect()
}

/// Returns the items of a list, or a single value as a list. If there are no items, reports an error.
fn one_or_more<'a>(field: &Field<'a>) -> Option<Vec<Field<'a>>> {
    let items = field.one_or_more();
    if items.is_empty() {
        field.at.error("is empty; write at least one value, or remove the key");
        return None;
    }
    Some(items)
}

fn provider(item: &Field<'_>, default: Option<&Registry>) -> Option<OidcSettings> {
    let mut section = item.section();
    let issuer = section
        .required("issuer", "the claim iss of the tokens, exactly as the provider writes it");
    let jwks = section.required("jwksUri", "the https:// URL of the provider's keys (jwks_uri)");
    let audience = section.required(
        "audience",
        "the client id or the API name that the provider puts into aud; without it, a token for any other client would be \
         accepted",
    );
    let parties = section.present("authorizedParties");
    let algorithms = section.present("algorithms");
    let fields = section.present("userIdField");
    let own_registry = section.optional("registry");
    let minutes = section.optional("refreshMinutes").map(|field| field.number(1..=1440));
    let authorities = section.optional("certificateAuthorities").map(|field| concatenate(&field));
    section.finish();

    let registry = match (own_registry, default) {
        (Some(field), _) => field.parse(),
        (None, Some(registry)) => Some(registry.clone()),
        (None, None) => {
            item.at.error(
                "has no registry; write the name under which the identities of this provider are mapped to user ids, \
                 such as its host name",
            );
            None
        }
    };
    let issuer = issuer.and_then(|field| field.parse::<IssuerUrl>());
    let jwks = jwks.and_then(|field| {
        let address = field.parse::<Address>()?;
        if !address.is_protected() {
            field.at.error("is not protected by TLS, so a stranger could replace the keys; write an https:// URL");
            return None;
        }
        Some(address)
    });
    // An empty list is an error, because it could switch a check off.
    let texts = |field: &Field<'_>| -> Option<Vec<String>> {
        let items = one_or_more(field)?;
        items.iter().map(|item| item.text().map(str::to_owned)).collect()
    };
    let audiences = audience.as_ref().and_then(texts);
    let authorized_parties = parties.as_ref().map(texts);
    let algorithms = algorithms.map(|field| {
        let items = one_or_more(&field)?;
        items.iter().map(Field::parse::<Algorithm>).collect::<Option<Vec<_>>>()
    });
    let user_id_fields = fields.as_ref().map(texts);
    Some(OidcSettings {
        issuer: issuer?,
        jwks: jwks?,
        audiences: audiences.filter(|audiences| !audiences.is_empty())?,
        authorized_parties: authorized_parties.unwrap_or_else(|| Some(Vec::new()))?,
        algorithms: algorithms.unwrap_or_else(|| Some(vec![Algorithm::Rs256]))?,
        user_id_fields: user_id_fields.unwrap_or_else(|| Some(vec!["sub".to_owned()]))?,
        registry: registry?,
        refresh: Duration::from_secs(60 * minutes.unwrap_or(Some(10))?),
        authorities: match authorities {
            None => None,
            Some(read) => Some(read?),
        },
        // The rules are read later, because they depend on the routes.
        kept_values: BTreeSet::new(),
    })
}
