//! The names of the lists of revocations in Zowe's Caching Service.

/// One of the three lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum List {
    Tokens,
    Users,
    Services,
}

impl List {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tokens => "invalidTokens",
            Self::Users => "invalidUsers",
            Self::Services => "invalidScopes",
        }
    }
}
