//! Error messages for clients, with the numbers, keys and texts of Zowe's API Mediation Layer (API ML).
//!
//! Most error responses of the gateway itself contain one of these messages. There are exceptions. In the profile
//! [`ZoweV3`](crate::layer::Compatibility::ZoweV3), some responses have no body or another document, as in API ML. A
//! browser may get an HTML page. A failed token exchange gets the JSON document of RFC 6749 §5.2. If the gateway is not
//! healthy, `/application/health` returns its health with status 503. The gateway does not replace error responses of
//! services. [`ApiMessage::into_response`] makes the HTTP response. The page `docs/reference/error-messages.md`
//! explains the numbers.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// One entry of the message catalogue: the template of a message.
#[derive(Debug, PartialEq, Eq)]
pub struct Template {
    number: &'static str,
    key: &'static str,
    text: &'static str,
    reason: &'static str,
    action: &'static str,
}

impl Template {
    /// Returns the number with its type letter, such as `ZWEAG120E`.
    pub fn number(&self) -> &'static str {
        self.number
    }

    /// Returns the text, with `{}` in the place of each argument.
    pub fn text(&self) -> &'static str {
        self.text
    }
}

macro_rules! catalogue {
    ($($(#[$doc:meta])* $name:ident = $number:literal $key:literal $text:literal $reason:literal $action:literal;)*) => {
        $($(#[$doc])* pub const $name: Template = Template {
            number: $number, key: $key, text: $text, reason: $reason, action: $action,
        };)*
    };
}

catalogue! {
    /// The endpoint does not support the HTTP method.
    INVALID_METHOD = "ZWEAG101E" "org.zowe.apiml.security.invalidMethod"
        "Authentication method '{}' is not supported for URL '{}'"
        "The HTTP request method is not supported by the URL."
        "Use the correct HTTP request method supported by the URL.";
    /// The token is malformed, forged, revoked or out of scope.
    INVALID_TOKEN = "ZWEAG102E" "org.zowe.apiml.zaas.security.invalidToken"
        "Token is not valid"
        "The JWT token is not valid."
        "Provide a valid token.";
    /// The token has expired.
    EXPIRED_TOKEN = "ZWEAG103E" "org.zowe.apiml.zaas.security.expiredToken"
        "The token has expired"
        "The JWT token has expired."
        "Obtain a new token by performing an authentication request.";
    /// A server or a store that is needed for authentication is not available.
    AUTHENTICATION_UNAVAILABLE = "ZWEAG104E" "org.zowe.apiml.security.serviceUnavailable"
        "Authentication service is not available"
        "The authentication service is not available."
        "Repeat the request later; if that does not help, tell the operator of the gateway.";
    /// The endpoint requires authentication, and the request has no credential.
    AUTHENTICATION_REQUIRED = "ZWEAG105E" "org.zowe.apiml.security.authRequired"
        "Authentication is required for URL '{}'"
        "Authentication is required."
        "Provide valid authentication.";
    /// The user or the password is wrong.
    INVALID_CREDENTIALS = "ZWEAG120E" "org.zowe.apiml.security.login.invalidCredentials"
        "Invalid username or password for URL '{}'"
        "The username and/or password are invalid."
        "Provide a valid username and password.";
    /// The user or the password of a routed request is wrong.
    INVALID_PASSWORD = "ZWEAG120E" "org.zowe.apiml.security.login.invalidCredentials"
        "Invalid username or password"
        "The username and/or password are invalid."
        "Provide a valid username and password.";
    /// The login request has no usable credential, or the login provider cannot change passwords.
    INVALID_LOGIN_INPUT = "ZWEAG121E" "org.zowe.apiml.security.login.invalidInput"
        "Authorization header is missing, or the request body is missing or invalid for URL '{}'"
        "The authorization header is missing, or the request body is missing or invalid."
        "Provide valid authentication.";
    /// The auth API does not accept the token.
    TOKEN_NOT_VALID_FOR_URL = "ZWEAG130E" "org.zowe.apiml.security.query.invalidToken"
        "Token is not valid for URL '{}'"
        "The token is not valid."
        "Provide a valid token.";
    /// The request needs a token, but has no token.
    TOKEN_NOT_PROVIDED = "ZWEAG131E" "org.zowe.apiml.security.query.tokenNotProvided"
        "No authorization token provided for URL '{}'"
        "No authorization token is provided."
        "Provide a valid authorization token.";
    /// The request for a PassTicket has no valid application name.
    INVALID_APPLICATION_NAME = "ZWEAG140E" "org.zowe.apiml.security.ticket.invalidApplicationName"
        "The 'applicationName' parameter name is missing."
        "The application name is not provided."
        "Provide the 'applicationName' parameter.";
    /// The PassTicket could not be generated.
    TICKET_FAILED = "ZWEAG141E" "org.zowe.apiml.security.ticket.generateFailed"
        "The generation of the PassTicket failed. Reason: {}"
        "An error occurred in the SAF Auth Service. Review the reason in the error message."
        "Supply a valid user and application name, and check that corresponding permissions have been set up.";
    /// No SAF identity token could be made. SAF is the z/OS interface to the security product.
    SAF_TOKEN_FAILED = "ZWEAG150E" "org.zowe.apiml.security.idt.failed"
        "SAF IDT generation failed. Reason: {}"
        "The server that makes SAF identity tokens refused to make one."
        "Check that PassTickets for the application are set up, and that the security product makes identity tokens for it.";
    /// The request has no credential.
    MISSING_AUTHENTICATION = "ZWEAG160E" "org.zowe.apiml.zaas.security.schema.missingAuthentication"
        "No authentication provided in the request"
        "The JWT token or client certificate was not provided with the request"
        "Configure your client to provide valid authentication.";
    /// No mainframe user belongs to the credential, or to the e-mail address in the request.
    NO_USER = "ZWEAG161E" "org.zowe.apiml.zaas.security.schema.x509.mappingFailed"
        "No user was found"
        "It was not possible to map provided token or certificate to the mainframe identity."
        "Ask your security administrator to connect your token or client certificate with your mainframe user.";
    /// The request needs a client certificate, but has none, or has one that the gateway does not accept.
    MISSING_CERTIFICATE = "ZWEAG167E" "org.zowe.apiml.gateway.security.schema.missingX509Authentication"
        "No client certificate provided in the request"
        "The X509 client certificate was not provided with the request"
        "Configure your client to provide valid certificate.";
    /// The result of an access check: the user does not have the requested access to the resource.
    ACCESS_REFUSED = "ZWEAG711E" "org.zowe.apiml.security.unauthorized"
        "The principal '{}' is missing queried authorization."
        "The principal does not have the queried access to the resource name within the resource class."
        "No action is needed.";
    /// The service sent no valid response in time, or the client has chosen an unknown instance of the service.
    UNEXPECTED_STATUS = "ZWEAG510E" "org.zowe.apiml.gateway.responseStatusError"
        "Request to the resource ended with unexpected status code."
        "The service did not respond properly."
        "Verify that the target service is healthy.";
    /// The request is malformed, or a part of it is not allowed.
    BAD_REQUEST = "ZWEAO400E" "org.zowe.apiml.common.badRequest"
        "The structure of the request is invalid: {}"
        "The request is not one that the gateway can pass on."
        "Correct the request as the message says.";
    /// The endpoint of the gateway needs a credential, and the request has none. In the profile `ZoweV3`, some
    /// endpoints also send this message if the credential is not valid. A gRPC call gets this message if its credential
    /// ends before the service responds.
    UNAUTHORIZED = "ZWEAO402E" "org.zowe.apiml.common.unauthorized"
        "The request has not been applied because it lacks valid authentication credentials."
        "The accessed resource requires authentication. The request is missing valid authentication credentials or the token expired."
        "Review the product documentation for more details about acceptable authentication. Verify that your credentials are valid and contact security administrator to obtain valid credentials.";
    /// ZAAS has no endpoint with this path.
    NO_SUCH_ENDPOINT = "ZWEAM104E" "org.zowe.apiml.common.endPointNotFound"
        "The endpoint you are looking for '{}' could not be located"
        "The endpoint you are looking for could not be located."
        "Verify that the URL of the endpoint you are trying to reach is correct.";
    /// No service, no endpoint and no Personal Access Token has this path. The gateway also sends this message if a
    /// list of services is empty.
    NOT_FOUND = "ZWEAO404E" "org.zowe.apiml.common.notFound"
        "The service can not find the requested resource." "" "";
    /// The Personal Access Token cannot be rotated, because it has expired, is revoked or was already rotated.
    TOKEN_CONFLICT = "ZWEAO409E" "org.zowe.apiml.common.conflict"
        "The request contradicts the state of the resource: {}"
        "The token has expired, is revoked, or was already rotated."
        "List your tokens, and use one that is active.";
    /// The gateway, the route or the endpoint does not allow this HTTP method.
    METHOD_NOT_ALLOWED = "ZWEAO405E" "org.zowe.apiml.common.methodNotAllowed"
        "The request method has been disabled and cannot be used for the requested resource." "" "";
    /// The body of a request to an endpoint of the gateway is longer than the endpoint allows.
    CONTENT_TOO_LARGE = "ZWEAO413E" "org.zowe.apiml.common.contentTooLarge"
        "The request body is larger than {} bytes."
        "The endpoint takes small JSON documents only."
        "Send a smaller body.";
    /// The body of a routed request is longer than the route allows.
    ROUTE_CONTENT_TOO_LARGE = "ZWEAO413E" "org.zowe.apiml.common.contentTooLarge"
        "The request body is larger than {} bytes."
        "The gateway is configured to send no larger bodies to this service."
        "Send a smaller body, or ask the operator of the gateway to raise the limit.";
    /// The gateway has an internal error.
    INTERNAL = "ZWEAO500E" "org.zowe.apiml.common.internalServerError"
        "The service has encountered a situation it doesn't know how to handle. Please contact support for further assistance. More details are available in the log under the provided message instance ID"
        "" "";
    /// The service or the gateway cannot handle the request now. For example, the service cannot be reached.
    SERVICE_UNAVAILABLE = "ZWEAO503E" "org.zowe.apiml.common.serviceUnavailable"
        "The server is not able to handle the request: {}"
        "The service is not ready to handle the request, or it cannot be reached."
        "Repeat the request later; if that does not help, contact support for further assistance.";
    /// The token of a request to the auth API has expired.
    TOKEN_EXPIRED_FOR_URL = "ZWEAT100E" "org.zowe.apiml.security.expiredToken"
        "Token is expired for URL '{}'"
        "The validity of the token is expired."
        "Obtain a new token by performing an authentication request.";
    /// The user is authenticated, but has no permission.
    FORBIDDEN = "ZWEAT403E" "org.zowe.apiml.security.forbidden"
        "The user is not authorized to the target resource: {}"
        "The service has accepted the authentication of the user but the user does not have access rights to the resource."
        "Contact your security administrator to give you access.";
    /// A web page of another origin made the browser send the request.
    CROSS_ORIGIN = "ZWEAT403E" "org.zowe.apiml.security.crossOrigin"
        "The request comes from a web page of another site"
        "A web page that does not belong to the gateway made the browser send a request with the credentials of the user."
        "Use the pages of the gateway. If the page belongs to the gateway, ask its operator to add the host of the page to zowe.externalDomains.";
    /// A script asks for a token with a credential that the browser attaches.
    SCRIPT_REQUEST = "ZWEAT403E" "org.zowe.apiml.security.scriptRequest"
        "A script of a web page may not create a token with the session of the user"
        "A script made the browser send a request for a new token with a cookie or a certificate of the user."
        "Use the page of the gateway for tokens. A program sends a login token in the Authorization header.";
    /// z/OS reports an unknown error for a login.
    PLATFORM_UNKNOWN = "ZWEAT409E" "org.zowe.apiml.security.platform.errno.UNKNOWN"
        "The platform returned error: {}"
        "The platform responded with unknown errno code."
        "Please submit an issue with this message.";
    /// z/OS refuses a login: the password is wrong.
    PLATFORM_WRONG_PASSWORD = "ZWEAT410E" "org.zowe.apiml.security.platform.errno.EACCES"
        "The platform returned error: {}"
        "The specified password is incorrect."
        "Provide correct password.";
    /// z/OS or the security product has an error.
    PLATFORM_ERROR = "ZWEAT411E" "org.zowe.apiml.security.platform.errno.ERROR"
        "The platform returned error: {}"
        "The platform returned error, specified in the error message."
        "Contact your security administrator with the message.";
    /// z/OS refuses a login: the password has expired.
    PLATFORM_PASSWORD_EXPIRED = "ZWEAT412E" "org.zowe.apiml.security.platform.errno.EMVSEXPIRE"
        "The platform returned error: {}"
        "The specified password is expired."
        "Contact your security administrator to reset your password.";
    /// z/OS refuses a login: the user is revoked.
    PLATFORM_USER_REVOKED = "ZWEAT414E" "org.zowe.apiml.security.platform.errno.EMVSSAFEXTRERR"
        "The platform returned error: {}"
        "The user name access has been revoked."
        "Contact your security administrator to unsuspend your account.";
    /// z/OS refuses a login: the user does not exist.
    PLATFORM_UNKNOWN_USER = "ZWEAT415E" "org.zowe.apiml.security.platform.errno.ESRCH"
        "The platform returned error: {}"
        "The user name does not exist in the system."
        "Provide correct user name.";
    /// z/OS refuses a login: the user name or the password is malformed.
    PLATFORM_MALFORMED = "ZWEAT416E" "org.zowe.apiml.security.platform.errno.EINVAL"
        "The platform returned error: {}"
        "The specified user name or password is invalid."
        "Provide correct user name or password.";
    /// The login provider refuses the new password.
    NEW_PASSWORD_INVALID = "ZWEAT413E" "org.zowe.apiml.security.platform.errno.EMVSPASSWORD"
        "The platform returned error: EMVSPASSWORD: The new password is not valid"
        "The new password does not follow the rules of the security product."
        "Choose another new password.";
    /// There were too many failed logins in a short time.
    TOO_MANY_ATTEMPTS = "ZWESG429E" "org.zowe.apiml.security.login.tooManyAttempts"
        "Request was denied access."
        "There were too many failed attempts to log in."
        "Wait for as long as the message says, and then provide a valid username and password.";
    /// The caller has made too many calls in a short time.
    TOO_MANY_CALLS = "ZWESG429E" "org.zowe.apiml.security.tooManyCalls"
        "Request was denied access."
        "There were too many calls in a short time."
        "Wait for as long as the message says.";
    /// The address of the client has too many requests in flight.
    TOO_MANY_IN_FLIGHT = "ZWESG429E" "org.zowe.apiml.security.tooManyRequestsInFlight"
        "Request was denied access."
        "The address of the client has too many requests in flight."
        "Repeat the request when other requests have ended.";
    /// The user has too many open WebSockets. If the request has no user, the address of the client has too many.
    TOO_MANY_WEB_SOCKETS = "ZWESG429E" "org.zowe.apiml.security.tooManyWebSockets"
        "Request was denied access."
        "The user has too many open WebSockets."
        "Close a WebSocket, for example a tab of the browser, and repeat the request.";
    /// The user has too many Personal Access Tokens that have not expired.
    TOO_MANY_PATS = "ZWESG429E" "org.zowe.apiml.security.tooManyPersonalAccessTokens"
        "Request was denied access."
        "The user has too many Personal Access Tokens that have not expired."
        "Use a token that you have, or wait until one has expired. A shorter validity frees the tokens earlier.";
    /// Zowe's SAF endpoint does not support the class of the resource.
    SAF_ENDPOINT_CLASS = "ZWEAT602E" "org.zowe.apiml.security.common.auth.saf.endpoint.nonZoweClass"
        "The SAF provider `endpoint` supports only the resource class 'ZOWE', but the current one is '{}'"
        "The parameter `apiml.security.authorization.provider` is set to `endpoint`"
        "Change the SAF provider to another one to use this endpoint";
    /// An access check gave no decision, for example because Zowe's SAF endpoint reported an error.
    SAF_ENDPOINT_FAILED = "ZWEAT603E" "org.zowe.apiml.security.common.auth.saf.endpoint.endpointImproprietyConfigure"
        "Endpoint `{}` is not properly configured"
        "The application cannot call the endpoint to check the SAF resource of the user"
        "Verify the state of ZSS and IZS, then check if parameters `apiml.security.authorization.endpoint.*` are matching.";
    /// The body of `access-token/generate` or `POST access-tokens` is not valid, or names too many scopes.
    INVALID_PAT_BODY = "ZWEAT605E" "org.zowe.apiml.security.query.invalidAccessTokenBody"
        "Invalid body provided in request to create personal access token"
        "The request body is not valid"
        "Use a valid body in the request. Format of a message: {validity: int , scopes: [string]}.";
    /// The body of `access-token/generate` or `POST access-tokens` has no scopes.
    PAT_WITHOUT_SCOPES = "ZWEAT606E" "org.zowe.apiml.security.token.accessTokenBodyMissingScopes"
        "Body in the HTTP request for Personal Access Token does not contain scopes"
        "The request body is not valid"
        "Provide a list of services for which this token will be valid";
    /// The gateway could not issue a login token.
    ZOWE_TOKEN_FAILED = "ZWEAZ600W" "org.zowe.apiml.zaas.zoweJwt.noToken"
        "ZAAS cannot generate or obtain Zowe token. Reason: {}"
        "The gateway could not sign a token."
        "Tell the operator of the gateway.";
    /// The gateway got no token of z/OSMF. For example, z/OSMF has refused to log the user in.
    ZOSMF_TOKEN_FAILED = "ZWEAZ601W" "org.zowe.apiml.zaas.zosmf.noZosmfTokenReceived"
        "z/OSMF is not available or z/OSMF response does not contain any token. Reason: {}"
        "z/OSMF did not log the user in."
        "Check that the user may use z/OSMF, and that PassTickets for z/OSMF are set up.";
    /// The body of `access-token/revoke/tokens`, or of an endpoint below it, is not valid.
    INVALID_REVOKE_BODY = "ZWEAT607E" "org.zowe.apiml.security.query.invalidRevokeRequestBody"
        "Body in the revoke request is not valid."
        "The request body is not valid"
        "Use a valid body in the request. Format of a message: {userId: string, (optional)timestamp: long} or {serviceId: string, (optional)timestamp: long}.";
}

/// A message for the client: what happened, why, and what to do.
///
/// ```
/// use http::StatusCode;
/// use tower_passticket::messages::{self, ApiMessage};
///
/// let message = ApiMessage::with(&messages::INVALID_CREDENTIALS, &["/gateway/api/v1/auth/login"]);
/// assert_eq!(
///     message.line(),
///     "ZWEAG120E Invalid username or password for URL '/gateway/api/v1/auth/login'"
/// );
/// let response = message.into_response(StatusCode::UNAUTHORIZED);
/// assert_eq!(response.headers()["content-type"], "application/json");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiMessage {
    template: &'static Template,
    text: Cow<'static, str>,
}

impl ApiMessage {
    /// Creates a message without arguments.
    pub const fn new(template: &'static Template) -> Self {
        Self { template, text: Cow::Borrowed(template.text) }
    }

    /// Creates a message in which `arguments` replace the `{}` of the text, in order. If there are too few arguments,
    /// the remaining `{}` stay.
    pub fn with(template: &'static Template, arguments: &[&str]) -> Self {
        let mut pieces = template.text.split("{}");
        let mut text = pieces.next().unwrap_or_default().to_owned();
        let mut arguments = arguments.iter();
        for piece in pieces {
            text.push_str(arguments.next().unwrap_or(&"{}"));
            text.push_str(piece);
        }
        Self { template, text: Cow::Owned(text) }
    }

    /// Removes the periods at the end of the text. Then appends a colon and `detail`.
    #[must_use]
    pub fn with_detail(self, detail: &str) -> Self {
        let text = self.text.trim_end_matches('.');
        Self { text: Cow::Owned(format!("{text}: {detail}")), ..self }
    }

    /// Returns the number with its type letter, such as `ZWEAG120E`.
    pub fn number(&self) -> &'static str {
        self.template.number
    }

    /// Returns the number and the text on one line, for logs and for the header `X-Zowe-Auth-Failure`.
    pub fn line(&self) -> String {
        format!("{} {}", self.template.number, self.text)
    }

    /// Returns the message as the JSON document `{"messages": […]}`. The fields have the same order as in Zowe. Empty
    /// fields are left out. The text is escaped for HTML.
    pub fn to_json(&self) -> Bytes {
        let document = Document {
            messages: [View {
                message_type: "ERROR",
                message_number: self.template.number,
                message_content: escape_html(&self.text),
                message_action: self.template.action,
                message_reason: self.template.reason,
                message_key: self.template.key,
            }],
        };
        // Serialization cannot fail, because all field names and values are strings.
        serde_json::to_vec(&document).unwrap_or_default().into()
    }

    /// Returns the message as an HTTP response with `status`. Its headers tell browsers not to store the response,
    /// and not to guess its content type. The response has the message as an extension, so that an outer layer can show
    /// it in another form.
    pub fn into_response(self, status: StatusCode) -> Response<Bytes> {
        let mut response = Response::new(self.to_json());
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        set_security_headers(response.headers_mut());
        response.extensions_mut().insert(self);
        response
    }

    /// Returns the text, without the number. It may contain text of a client, and is not escaped.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns why the error happened. The text may be empty.
    pub fn reason(&self) -> &'static str {
        self.template.reason
    }

    /// Returns what the client can do. The text may be empty.
    pub fn action(&self) -> &'static str {
        self.template.action
    }
}

impl fmt::Display for ApiMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.template.number, self.text)
    }
}

#[derive(Serialize)]
struct Document<'a> {
    messages: [View<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    message_type: &'a str,
    message_number: &'a str,
    message_content: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    message_action: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message_reason: &'a str,
    message_key: &'a str,
}

/// Escapes HTML, as API ML does, because a web page may insert the text into its HTML without escaping it.
fn escape_html(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// The headers of every response that the gateway itself makes ([D46](crate::decisions#d46)).
pub(crate) static SECURITY_HEADERS: [(HeaderName, &str); 3] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
];

pub(crate) fn set_security_headers(headers: &mut HeaderMap) {
    for (name, value) in &SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// The longest `Retry-After` ([D45](crate::decisions#d45)).
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);

/// Returns the value of `Retry-After`: whole seconds (RFC 9110 §10.2.3), rounded up, and at most 10.
pub(crate) fn retry_after(after: Duration) -> HeaderValue {
    HeaderValue::from(whole_seconds(after.min(MAX_RETRY_AFTER)))
}

/// Returns a wait in whole seconds, rounded up. So a client that waits this long does not retry too early.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_json_has_the_fields_of_zowe_and_escaped_html() {
        let document: serde_json::Value = serde_json::from_slice(
            &ApiMessage::with(&INVALID_CREDENTIALS, &["/a?b=<\"c\">&d"]).to_json(),
        )
        .unwrap();
        assert_eq!(
            document,
            json!({"messages": [{
                "messageType": "ERROR",
                "messageNumber": "ZWEAG120E",
                "messageContent":
                    "Invalid username or password for URL '/a?b=&lt;&quot;c&quot;&gt;&amp;d'",
                "messageAction": "Provide a valid username and password.",
                "messageReason": "The username and/or password are invalid.",
                "messageKey": "org.zowe.apiml.security.login.invalidCredentials",
            }]})
        );
    }

    #[test]
    fn retry_after_is_rounded_up_and_at_most_10_s() {
        for (millis, want) in
            [(1, "1"), (1_000, "1"), (9_001, "10"), (10_001, "10"), (u64::MAX, "10")]
        {
            assert_eq!(retry_after(Duration::from_millis(millis)), want, "{millis}");
        }
    }

    #[test]
    fn responses_have_security_headers() {
        let response = ApiMessage::new(&NOT_FOUND).into_response(StatusCode::NOT_FOUND);
        for (name, want) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(response.headers()[name], want);
        }
    }

    #[test]
    fn empty_fields_are_left_out() {
        let document: serde_json::Value =
            serde_json::from_slice(&ApiMessage::new(&NOT_FOUND).to_json()).unwrap();
        assert_eq!(document["messages"][0].as_object().unwrap().len(), 4);
    }

    #[test]
    fn arguments_replace_the_placeholders_in_order() {
        let message = ApiMessage::with(&INVALID_METHOD, &["PUT {}", "/x"]);
        assert_eq!(
            message.to_string(),
            "ZWEAG101E Authentication method 'PUT {}' is not supported for URL '/x'"
        );
        assert_eq!(
            ApiMessage::new(&INVALID_REVOKE_BODY).with_detail("{}").line(),
            "ZWEAT607E Body in the revoke request is not valid: {}"
        );
    }
}
