//! The compatibility profile: where the documentation of Zowe and the running Zowe API Mediation Layer (API ML)
//! disagree, the gateway follows one of them (docs/decisions.md#d1).

/// The profile that the gateway follows where the documentation of Zowe and the running Zowe API ML v3 disagree.
///
/// | case | `Documented` | `ZoweV3` |
/// |---|---|---|
/// | success of `access-token/validate`, and of `access-token/revoke` and the endpoints below it | 200 without a body. Exception: if the client asks for JSON, the 200 of `validate` has a JSON body | 204 |
/// | the caller of an endpoint below `access-token/revoke/tokens` has no SAF permission | 401 | 403 |
/// | `access-token/validate` or `access-token/revoke`: the token in the body is revoked or is not a PAT; `validate` also: the token is out of scope | 401, and the message gives the reason | 401 without a body |
/// | the body of `validate` or `revoke` lacks a field | 400 | 401 |
/// | the body of `oidc-token/validate` lacks the token | 400 | 401 without a body |
/// | the certificate has no user (except for `login` and `generate`) | 401 | 403 |
/// | `ticket` or `refresh` without a certificate | 403 with a message | 403 without a body |
/// | a PassTicket cannot be generated now, but a later request can succeed | 503 | 500 |
/// | the body of `delegate/passticket` is malformed | 400 with a message | 400 without a body |
/// | texts of messages | may end with a detail, such as the position of a syntax error | only Zowe's text; with 429 also the detail, such as the time that the client must wait |
/// | the path that a message contains, for the auth API and for `/gateway/auth/check` | as in the request | below `/zaas/` instead of `/gateway/` |
/// | content type of `keys/public` | `text/plain` | `application/json` |
/// | the credential for `/gateway/api/v1/services`, `/gateway/api/v1/services/{serviceId}` or `/application/health` is not valid | 401, and the message gives the reason | 401 with `ZWEAO402E`, without `X-Zowe-Auth-Failure` |
/// | an unknown path below `/zaas/api/v1/auth` | 404 with `ZWEAO404E` | 404 with `ZWEAM104E` |
/// | `/gateway/api/v1/services/{serviceId}` for an unknown service | 404 with `ZWEAO404E` | 404 with a document that contains the id of the service and the status `UNKNOWN` |
/// | wrong method for a `GET` endpoint outside of the auth API | 405 with `ZWEAG101E` | 405 with `ZWEAO405E` |
/// | content type of `/application/health` | `application/json` | `application/vnd.spring-boot.actuator.v3+json` |
/// | routes: `X-Zowe-Auth-Failure` if the token is logged out, revoked or out of scope | `ZWEAG102E` | `ZWEAG160E` |
/// | routes: `X-Zowe-Auth-Failure` if the token has expired | `ZWEAG103E` | `ZWEAG141E` with the scheme PassTicket; with other schemes a text without a number |
/// | routes: the service cannot be reached, or closes the connection before its response | 503 (`ZWEAO503E`) or 502 (`ZWEAG510E`) | 500 (`ZWEAO500E`) |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compatibility {
    /// Statuses and bodies are as in the documentation of Zowe.
    #[default]
    Documented,
    /// Statuses, texts and empty bodies are as in the running Zowe API ML.
    ZoweV3,
}
