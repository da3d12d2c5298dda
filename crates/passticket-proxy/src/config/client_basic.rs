//! The key `clientBasic` of a service: what the gateway does with `Authorization: Basic` of a client
//! (docs/decisions.md#d24).

use tower_passticket::layer::{ClientBasic, OnFailure};

use super::reader::{At, Section};

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

/// Warns of a service whose clients cannot log in, because no server checks passwords.
pub(super) fn warn_without_logins(client_basic: ClientBasic, at: &At<'_>) {
    if client_basic == ClientBasic::Verify {
        at.warning("verify needs a server that checks passwords; write users: PATH, or zOSMF.host");
    }
}

/// Reports settings of a service that contradict each other. `evaluates_credentials` is whether a route of the service
/// has another scheme than bypass.
pub(super) fn check(
    client_basic: ClientBasic,
    at: &At<'_>,
    on_failure: OnFailure,
    evaluates_credentials: bool,
) {
    if !evaluates_credentials {
        at.warning("has no effect with scheme bypass, which forwards each header");
    } else if client_basic == ClientBasic::Forward && on_failure == OnFailure::Reject {
        at.error(
            "contradicts onFailure: reject, which refuses a request that has only Basic; write onFailure: forward to \
             this service",
        );
    }
}
