//! Protects forms against pages of other origins: each form has a random value that a cookie also has. No page can read
//! the cookie (`HttpOnly`). A page of another host cannot set it, because its name begins with `__Host-`.

use std::fmt;

use http::HeaderValue;
use rustls::crypto::aws_lc_rs;
use subtle::ConstantTimeEq;

use super::cookies;

/// The name of the cookie. Names with this beginning are reserved: services neither receive nor set such cookies
/// (`tower_passticket::layer::CookieNames`).
const COOKIE: &str = "__Host-passticket-form";

/// The name of the field in each form.
pub(super) const FIELD: &str = "form-key";

/// The random value: 128 bits as 32 hexadecimal digits.
#[derive(Clone)]
pub(super) struct FormKey(String);

/// The error if the operating system gives no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random numbers")]
pub(super) struct NoRandomNumbers;

impl FormKey {
    /// Makes a new value.
    ///
    /// # Errors
    /// [`NoRandomNumbers`] if the operating system gives no random numbers.
    pub(super) fn random() -> Result<Self, NoRandomNumbers> {
        let mut random = [0; 16];
        let source = aws_lc_rs::default_provider().secure_random;
        source.fill(&mut random).map_err(|_| NoRandomNumbers)?;
        Ok(Self(random.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Returns the value in the cookies of a request. `None` if there is none, or if it is malformed.
    pub(super) fn of_cookies(headers: &http::HeaderMap) -> Option<Self> {
        let value = cookies::find(headers, COOKIE)?;
        let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        let is_valid = value.len() == 32 && value.iter().all(is_digit);
        is_valid.then(|| Self(value.iter().copied().map(char::from).collect()))
    }

    /// Returns whether a form has this value. Compares in constant time.
    pub(super) fn matches(&self, field: &str) -> bool {
        self.0.as_bytes().ct_eq(field.as_bytes()).into()
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the value of `Set-Cookie`. The cookie ends with the session of the browser.
    pub(super) fn set_cookie(&self) -> HeaderValue {
        let cookie = format!("{COOKIE}={}; Path=/; SameSite=Strict; HttpOnly; Secure", self.0);
        let mut cookie =
            HeaderValue::try_from(cookie).expect("hexadecimal digits are a header value");
        cookie.set_sensitive(true);
        cookie
    }
}

impl fmt::Debug for FormKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FormKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_value_matches() {
        let (one, other) = (FormKey::random().unwrap(), FormKey::random().unwrap());
        assert!(one.matches(one.as_str()));
        for wrong in [other.as_str(), "", &one.as_str()[..31], &format!("{}0", one.as_str())] {
            assert!(!one.matches(wrong), "{wrong}");
        }
        assert_eq!(format!("{one:?}"), "FormKey(..)");
    }

    #[test]
    fn the_cookie_is_read_only_if_it_is_well_formed() {
        let key = FormKey::random().unwrap();
        let cookie = key.set_cookie();
        let cookie = cookie.to_str().unwrap();
        assert!(cookie.ends_with("; Path=/; SameSite=Strict; HttpOnly; Secure"), "{cookie}");
        let read = |cookie: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert("cookie", HeaderValue::from_str(cookie).unwrap());
            FormKey::of_cookies(&headers).map(|key| key.0)
        };
        let sent = cookie.split(';').next().unwrap();
        assert_eq!(read(&format!("a=b; {sent}")).as_deref(), Some(key.as_str()));
        assert_eq!(read(&format!("{COOKIE}=x")), None);
        assert_eq!(read(&format!("{COOKIE}={}", "G".repeat(32))), None);
        assert_eq!(read(""), None);
    }
}
