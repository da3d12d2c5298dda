//! Enums of a record: the event, its outcome, the kind of credential.

string_enum! {
    /// What was decided.
    pub enum Event {
        /// Authentication of a client and, on routes, its access to the service; also `query` and
        /// `validate` of the auth API.
        Authentication = "authentication",
        /// A PassTicket for the user who asks.
        Ticket = "ticket",
        /// What a service receives by another scheme than PassTicket.
        Scheme = "scheme",
        /// A PassTicket for another user.
        DelegatedTicket = "delegated-ticket",
        /// A login with a password or a certificate.
        Login = "login",
        /// Invalidation of a login token.
        Logout = "logout",
        /// A new login token in exchange for an old one.
        Refresh = "refresh",
        /// A new Personal Access Token.
        TokenMinted = "token-minted",
        /// Revocation of one Personal Access Token.
        TokenRevoked = "token-revoked",
        /// A rule that revokes all Personal Access Tokens of a user, or for a service.
        RuleMade = "rule-made",
        /// Removal of expired revocations.
        Evicted = "evicted",
    }
}

string_enum! {
    /// The result of an event.
    pub enum Outcome {
        /// Access was granted, or the action was done.
        Success = "success",
        /// The client was not authenticated, or has no permission.
        Refused = "refused",
        /// There was no decision, or the action failed.
        Error = "error",
    }
}

string_enum! {
    /// The kind of credential that the client sent.
    pub enum CredentialKind {
        /// No credential.
        None = "none",
        /// A user id and a password.
        Password = "password",
        /// A token that was not verified, so its kind is unknown.
        Token = "token",
        /// A login token.
        LoginToken = "login-token",
        /// A Personal Access Token.
        PersonalAccessToken = "personal-access-token",
        /// A token of another issuer.
        ExternalToken = "external-token",
        /// A client certificate.
        Certificate = "certificate",
    }
}

string_enum! {
    /// What a revocation rule applies to.
    pub enum RuleKind {
        /// The tokens of one user: the `target`.
        User = "user",
        /// The tokens for one service: the `service`.
        Service = "service",
    }
}
