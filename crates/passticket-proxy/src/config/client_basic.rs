//! Reads and checks the setting `clientBasic` of a service. The setting says what the gateway does with a client's
//! header `Authorization: Basic` (docs/decisions.md#d24).

use tower_passticket::layer::{ClientBasic, OnFailure};

use super::{
    configured_route::ServiceScheme,
    reader::{At, Section},
};

pub(super) fn read<'a>(section: &mut Section<'a>) -> Option<(ClientBasic, At<'a>)> {
    let field = section.optional("clientBasic")?;
    let value = field.read(|text| match text {
        "strip" => Ok(ClientBasic::Strip),
        "verify" => Ok(ClientBasic::Verify),
        "forward" => Ok(ClientBasic::Forward),
        _ => Err("is unknown; write strip, verify or forward"),
    });
    Some((value?, field.at))
}

/// Warns about a service with `clientBasic: verify`. Call this function only if the gateway has no users with
/// passwords.
pub(super) fn warn_without_logins(client_basic: ClientBasic, at: &At<'_>) {
    if client_basic == ClientBasic::Verify {
        at.warning(
            "verify needs users with passwords; set components.passticket-proxy.users to a file with users, or set \
             zOSMF.host",
        );
    }
}

/// Reports a value that has no effect because of `schemes`, or that contradicts `onFailure`. `schemes` are the schemes
/// of the service's routes.
pub(super) fn check(
    client_basic: ClientBasic,
    at: &At<'_>,
    on_failure: OnFailure,
    schemes: &[ServiceScheme],
) {
    let is_x509 = |scheme: &ServiceScheme| matches!(scheme, ServiceScheme::X509 { .. });
    if schemes.iter().all(|scheme| *scheme == ServiceScheme::Bypass) {
        at.warning(
            "has no effect with scheme bypass, which forwards each header; remove this setting",
        );
    } else if client_basic == ClientBasic::Verify
        && schemes.iter().all(|scheme| is_x509(scheme) || *scheme == ServiceScheme::Bypass)
    {
        at.warning(
            "has no effect with scheme x509, because only the client certificate counts; remove this key, or write \
             another scheme",
        );
    } else if client_basic == ClientBasic::Forward && on_failure == OnFailure::Reject {
        at.error(
            "contradicts onFailure: reject, which refuses a request that has only Basic; set onFailure: forward for \
             this service",
        );
    }
}
