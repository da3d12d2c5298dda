//! Signs users in and out.

use http::{HeaderValue, Response, StatusCode};
use tower_passticket::{messages, proxy::ResponseBody};

use super::{Answer, Inner, Visit, add_retry_after};
use crate::ui::{
    auth_client::Refusal,
    csrf::FormKey,
    form::Form,
    notice::Notice,
    paths::Page,
    response::{page, redirect, removal_of, set_cookies},
    texts,
    trouble::Problem,
    views::{self, SignInPage, SignInTrouble},
};

impl Inner {
    pub(super) async fn sign_in(&self, visit: &Visit, form: &Form) -> Answer {
        let (user, password) = (form.get("user").trim(), form.get("password"));
        let (new, again) = (form.get("new-password"), form.get("new-password-again"));
        let changes = !new.is_empty() || !again.is_empty();
        let refused = |status, text, changes| {
            Ok(self.sign_in_page(visit, status, user, changes, Some((text, ""))))
        };
        if user.is_empty() || password.is_empty() {
            return refused(StatusCode::BAD_REQUEST, texts::sign_in::INCOMPLETE, changes);
        }
        if new != again {
            let text = texts::sign_in::NEW_PASSWORDS_DIFFER;
            return refused(StatusCode::BAD_REQUEST, text, true);
        }
        let signed_in =
            self.client.sign_in(&visit.browser, user, password, changes.then_some(new)).await;
        match signed_in {
            Ok(cookies) => self.signed_in(cookies),
            Err(refusal) => self.sign_in_refused(visit, user, changes, refusal),
        }
    }

    pub(super) async fn sign_in_with_certificate(&self, visit: &Visit) -> Answer {
        match self.client.sign_in_with_certificate(&visit.browser).await {
            Ok(cookies) => self.signed_in(cookies),
            Err(refusal)
                if matches!(refusal.status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED) =>
            {
                let trouble = Some((texts::sign_in::CERTIFICATE_REFUSED, refusal.number()));
                Ok(self.sign_in_page(visit, StatusCode::UNAUTHORIZED, "", false, trouble))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Starts a session with the cookies of the auth API and a new key for forms. A login cookie that the browser had
    /// before is replaced.
    fn signed_in(&self, cookies: Vec<HeaderValue>) -> Answer {
        let key = FormKey::random().map_err(|_| Problem::Failed)?;
        let mut response = redirect(&self.paths.to(Page::Tokens));
        set_cookies(&mut response, cookies.into_iter().chain([key.set_cookie()]));
        Ok(response)
    }

    fn sign_in_refused(
        &self,
        visit: &Visit,
        user: &str,
        changes: bool,
        refusal: Refusal,
    ) -> Answer {
        use texts::sign_in as words;
        let can_change = self.options.can_change_passwords;
        let number = refusal.number();
        let throttled;
        let is = |template: &messages::Template| number == template.number();
        let (text, changes) = if is(&messages::PLATFORM_PASSWORD_EXPIRED) && can_change {
            (words::EXPIRED, true)
        } else if is(&messages::PLATFORM_PASSWORD_EXPIRED) {
            (words::EXPIRED_ELSEWHERE, false)
        } else if is(&messages::NEW_PASSWORD_INVALID) {
            (words::NEW_PASSWORD_REFUSED, true)
        } else if is(&messages::PLATFORM_USER_REVOKED) {
            (words::USER_REVOKED, changes)
        } else {
            match (refusal.status, &refusal.message) {
                (StatusCode::BAD_REQUEST, _) if changes => (words::CHANGE_UNSUPPORTED, false),
                (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED, _) => (words::WRONG, changes),
                (StatusCode::TOO_MANY_REQUESTS, Some(message)) => {
                    // The detail says how long the user must wait.
                    let detail = message.text().split_once(": ").map_or("", |(_, detail)| detail);
                    throttled = words::throttled(detail);
                    (throttled.as_str(), changes)
                }
                _ => return Err(refusal.into()),
            }
        };
        let trouble = Some((text, number));
        let mut response = self.sign_in_page(visit, refusal.status, user, changes, trouble);
        add_retry_after(&mut response, &refusal);
        Ok(response)
    }

    /// Returns the page with the sign-in form. `trouble` is a pair: the text of a problem, and the number of the auth
    /// API's message, such as `ZWEAG120E`. The number is empty if there is no message.
    pub(super) fn sign_in_page(
        &self,
        visit: &Visit,
        status: StatusCode,
        user_id: &str,
        changes: bool,
        trouble: Option<(&str, &str)>,
    ) -> Response<ResponseBody> {
        let certificate = visit.browser.certificate();
        let form = SignInPage {
            user_id,
            can_change: self.options.can_change_passwords,
            changes,
            certificate: certificate
                .filter(|_| self.options.client_certificates)
                .map(|certificate| certificate.common_name()),
            trouble: trouble.map(|(text, number)| SignInTrouble {
                text,
                number,
                request_id: &visit.request_id,
            }),
        };
        page(status, views::sign_in(self.frame(visit), form))
    }

    pub(super) async fn sign_out(&self, visit: &Visit) -> Answer {
        let signed_out = if visit.browser.has_login_cookie() {
            self.client.sign_out(&visit.browser).await
        } else {
            Ok(())
        };
        let mut response = match signed_out {
            // A page of another site must not sign the user out.
            Err(refusal) if refusal.status == StatusCode::FORBIDDEN => return Err(refusal.into()),
            Err(refusal) if refusal.status.is_server_error() => {
                self.problem(visit, Problem::SignOutFailed, Some(&refusal))
            }
            // The logout succeeded, or the token was not valid (status 400 or 401). In both cases, the user is signed
            // out.
            _ => redirect(&Notice::SignedOut.at(&self.paths.to(Page::SignIn))),
        };
        let key = FormKey::random().map_err(|_| Problem::Failed)?;
        let removal = removal_of(self.client.cookie());
        set_cookies(&mut response, removal.into_iter().chain([key.set_cookie()]));
        Ok(response)
    }
}
