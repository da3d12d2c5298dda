//! The paths of the pages.

use std::fmt;

use tower_passticket::gateway::AuthPrefix;

/// The path of the pages, and the paths below it.
#[derive(Clone, Debug)]
pub(super) struct Paths(AuthPrefix);

/// A page, or a form that a page sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page<'p> {
    Home,
    SignIn,
    SignInWithCertificate,
    SignOut,
    Tokens,
    NewToken,
    RevokeAll,
    Token(TokenId<'p>),
    Edit(TokenId<'p>),
    Rotate(TokenId<'p>),
    Revoke(TokenId<'p>),
    Admin(AdminPage<'p>),
    /// A style sheet, a script or a picture, by its name with the hash of its content.
    Asset(&'p str),
}

/// A page for administrators, or a form that such a page sends. The query of [`Token`](Self::Token) and
/// [`Revoke`](Self::Revoke) names the user of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdminPage<'p> {
    Home,
    Tokens,
    Token(TokenId<'p>),
    Revoke(TokenId<'p>),
    /// Revokes the tokens of a user or for a service.
    Rule,
    Evict,
    Audit,
    Health,
}

/// The id of a Personal Access Token: 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenId<'p>(&'p str);

impl<'p> TokenId<'p> {
    /// Returns `None` if `text` is not an id.
    pub(super) fn new(text: &'p str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 32 && text.bytes().all(is_digit)).then_some(Self(text))
    }
}

impl fmt::Display for TokenId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl<'p> AdminPage<'p> {
    fn find(segments: &[&'p str]) -> Option<Self> {
        Some(match *segments {
            [] | [""] => Self::Home,
            ["tokens"] => Self::Tokens,
            ["tokens", id] => Self::Token(TokenId::new(id)?),
            ["tokens", id, "revoke"] => Self::Revoke(TokenId::new(id)?),
            ["rule"] => Self::Rule,
            ["evict"] => Self::Evict,
            ["audit"] => Self::Audit,
            ["health"] => Self::Health,
            _ => return None,
        })
    }
}

/// Writes the path below the path of the pages for administrators.
impl fmt::Display for AdminPage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Home => Ok(()),
            Self::Tokens => f.write_str("/tokens"),
            Self::Token(id) => write!(f, "/tokens/{id}"),
            Self::Revoke(id) => write!(f, "/tokens/{id}/revoke"),
            Self::Rule => f.write_str("/rule"),
            Self::Evict => f.write_str("/evict"),
            Self::Audit => f.write_str("/audit"),
            Self::Health => f.write_str("/health"),
        }
    }
}

impl Paths {
    pub(super) fn new(base: AuthPrefix) -> Self {
        Self(base)
    }

    pub(super) fn find<'p>(&self, path: &'p str) -> Option<Page<'p>> {
        let segments: Vec<_> = self.below(path)?.split('/').skip(1).collect();
        Some(match segments[..] {
            [] | [""] => Page::Home,
            ["sign-in"] => Page::SignIn,
            ["sign-in", "certificate"] => Page::SignInWithCertificate,
            ["sign-out"] => Page::SignOut,
            ["tokens"] => Page::Tokens,
            ["tokens", "new"] => Page::NewToken,
            ["tokens", "revoke-all"] => Page::RevokeAll,
            ["tokens", id] => Page::Token(TokenId::new(id)?),
            ["tokens", id, "edit"] => Page::Edit(TokenId::new(id)?),
            ["tokens", id, "rotate"] => Page::Rotate(TokenId::new(id)?),
            ["tokens", id, "revoke"] => Page::Revoke(TokenId::new(id)?),
            ["assets", name] => Page::Asset(name),
            ["admin", ref rest @ ..] => Page::Admin(AdminPage::find(rest)?),
            _ => return None,
        })
    }

    pub(super) fn to(&self, page: Page<'_>) -> String {
        let base = &self.0;
        match page {
            Page::Home => base.to_string(),
            Page::SignIn => format!("{base}/sign-in"),
            Page::SignInWithCertificate => format!("{base}/sign-in/certificate"),
            Page::SignOut => format!("{base}/sign-out"),
            Page::Tokens => format!("{base}/tokens"),
            Page::NewToken => format!("{base}/tokens/new"),
            Page::RevokeAll => format!("{base}/tokens/revoke-all"),
            Page::Token(id) => format!("{base}/tokens/{id}"),
            Page::Edit(id) => format!("{base}/tokens/{id}/edit"),
            Page::Rotate(id) => format!("{base}/tokens/{id}/rotate"),
            Page::Revoke(id) => format!("{base}/tokens/{id}/revoke"),
            Page::Asset(name) => format!("{base}/assets/{name}"),
            Page::Admin(page) => format!("{base}/admin{page}"),
        }
    }

    fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(self.0.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_is_found_by_its_path() {
        let paths = Paths::new(AuthPrefix::new("/gateway/ui").unwrap());
        let id = TokenId::new("0123456789abcdef0123456789abcdef").unwrap();
        for page in [
            Page::Home,
            Page::SignIn,
            Page::SignInWithCertificate,
            Page::SignOut,
            Page::Tokens,
            Page::NewToken,
            Page::RevokeAll,
            Page::Token(id),
            Page::Edit(id),
            Page::Rotate(id),
            Page::Revoke(id),
            Page::Asset("page-0.css"),
            Page::Admin(AdminPage::Home),
            Page::Admin(AdminPage::Tokens),
            Page::Admin(AdminPage::Token(id)),
            Page::Admin(AdminPage::Revoke(id)),
            Page::Admin(AdminPage::Rule),
            Page::Admin(AdminPage::Evict),
            Page::Admin(AdminPage::Audit),
            Page::Admin(AdminPage::Health),
        ] {
            assert_eq!(paths.find(&paths.to(page)), Some(page));
        }
        assert_eq!(paths.find("/gateway/ui/"), Some(Page::Home));
        for unknown in [
            "/gateway",
            "/gateway/uix",
            "/gateway/ui/x",
            "/gateway/ui/tokens/",
            "/gateway/ui/tokens/x",
            "/gateway/ui/tokens/0123456789ABCDEF0123456789ABCDEF",
            "/gateway/ui/tokens/0123456789abcdef0123456789abcdef/x",
            "/gateway/ui//tokens",
            "/gateway/ui/tokens/../sign-in",
            "/gateway/ui/admin/x",
            "/gateway/ui/admin/tokens/x",
            "/gateway/ui/admin/tokens/",
        ] {
            assert_eq!(paths.find(unknown), None, "{unknown}");
        }
    }
}
