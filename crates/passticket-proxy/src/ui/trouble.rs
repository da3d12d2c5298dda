//! Why a page cannot do what the user wants, and what the user can do.

use http::StatusCode;
use tower_passticket::messages::CROSS_ORIGIN;

use super::{
    auth_client::Refusal,
    texts::{problems as texts, rotate, token},
};

/// The reason why a request gets another page than it asked for.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    NotSignedIn,
    Problem(Problem),
    Refused(Refusal),
    /// The auth API has refused a call for a page of administrators.
    AdministratorRefused(Refusal),
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// A problem that has a page of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    NotFound,
    /// The form has no key, or the key of another session.
    WrongFormKey,
    CrossOrigin,
    /// The page is requested as a part of another page, or by a script.
    NotADocument,
    Method,
    TooLarge,
    Incomplete,
    TokenNotFound,
    CannotRotate,
    NotPermitted,
    /// A user who is not an administrator asked for a page for administrators.
    NotAdministrator,
    TooManyAttempts,
    Unavailable,
    Failed,
    SignOutFailed,
}

impl Problem {
    /// Returns the problem for an answer of the auth API.
    pub(super) fn of(refusal: &Refusal) -> Self {
        match refusal.status {
            StatusCode::NOT_FOUND => Self::TokenNotFound,
            // Users need no permission for their own tokens. So a 403 without a message means that the request came
            // from another origin.
            StatusCode::FORBIDDEN if is_cross_origin(refusal) => Self::CrossOrigin,
            StatusCode::FORBIDDEN => Self::NotPermitted,
            StatusCode::CONFLICT => Self::CannotRotate,
            StatusCode::TOO_MANY_REQUESTS => Self::TooManyAttempts,
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            _ => Self::Failed,
        }
    }

    /// Returns the problem for an answer of the auth API to a call for a page of administrators. Here, a 403 without a
    /// message counts as a missing permission.
    pub(super) fn of_administrator(refusal: &Refusal) -> Self {
        let is_permission = refusal.status == StatusCode::FORBIDDEN
            && refusal.message.as_ref().is_none_or(|it| it.text() != CROSS_ORIGIN.text());
        if is_permission { Self::NotAdministrator } else { Self::of(refusal) }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::NotFound | Self::TokenNotFound => StatusCode::NOT_FOUND,
            Self::WrongFormKey
            | Self::CrossOrigin
            | Self::NotADocument
            | Self::NotPermitted
            | Self::NotAdministrator => StatusCode::FORBIDDEN,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Incomplete => StatusCode::BAD_REQUEST,
            Self::CannotRotate => StatusCode::CONFLICT,
            Self::TooManyAttempts => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable | Self::SignOutFailed => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the heading, and what the user can do.
    pub(super) fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::NotFound => (texts::NOT_FOUND, texts::NOT_FOUND_HINT),
            Self::WrongFormKey => (texts::FORM, texts::FORM_HINT),
            Self::CrossOrigin => (texts::CROSS_ORIGIN, texts::CROSS_ORIGIN_HINT),
            Self::NotADocument => (texts::NO_DOCUMENT, texts::NO_DOCUMENT_HINT),
            Self::Method => (texts::METHOD, texts::METHOD_HINT),
            Self::TooLarge => (texts::TOO_LARGE, texts::TOO_LARGE_HINT),
            Self::Incomplete => (texts::BROKEN, texts::BROKEN_HINT),
            Self::TokenNotFound => (texts::TOKEN_NOT_FOUND, token::NOT_FOUND),
            Self::CannotRotate => (rotate::HEADING, rotate::NOT_POSSIBLE),
            Self::NotPermitted => (texts::NOT_PERMITTED, texts::NOT_PERMITTED_HINT),
            Self::NotAdministrator => (texts::NOT_ADMINISTRATOR, texts::NOT_ADMINISTRATOR_HINT),
            Self::TooManyAttempts => (texts::TOO_MANY, texts::TOO_MANY_HINT),
            Self::Unavailable => (texts::UNAVAILABLE, texts::UNAVAILABLE_HINT),
            Self::Failed => (texts::FAILED, texts::FAILED_HINT),
            Self::SignOutFailed => (texts::SIGN_OUT_FAILED, texts::SIGN_OUT_FAILED_HINT),
        }
    }
}

/// Returns whether the request came from a page of another origin. The number of the message is not enough, because
/// other refusals have it, too. In the profile `zowe-v3`, there is no message, so the result is `true`.
fn is_cross_origin(refusal: &Refusal) -> bool {
    refusal.message.as_ref().is_none_or(|message| message.text() == CROSS_ORIGIN.text())
}
