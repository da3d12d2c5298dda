//! The closed sets of words in a record: what was decided, what came of it, by which credential.

string_enum! {
    /// What was decided.
    pub enum Event {
        /// Who is asking, and whether they may go there: on routes, and at `query`.
        Authentication = "authentication",
        /// A PassTicket for who is asking.
        Ticket = "ticket",
        /// A PassTicket for somebody else.
        DelegatedTicket = "delegated-ticket",
        /// A login with a password or a certificate.
        Login = "login",
        /// The end of a login token.
        Logout = "logout",
        /// A new login token for an old one.
        Refresh = "refresh",
        /// A new Personal Access Token.
        TokenMinted = "token-minted",
        /// The end of one Personal Access Token.
        TokenRevoked = "token-revoked",
        /// The end of all Personal Access Tokens of a user, or for a service.
        RuleMade = "rule-made",
        /// Revocations that can hit nothing any more are forgotten.
        Evicted = "evicted",
    }
}

string_enum! {
    /// What came of it.
    pub enum Outcome {
        /// It was granted, and done.
        Success = "success",
        /// They may not, or could not prove who they are.
        Refused = "refused",
        /// Nobody could say, or it could not be done.
        Error = "error",
    }
}

string_enum! {
    /// What somebody showed to prove who they are.
    pub enum CredentialKind {
        /// Nothing that counts.
        None = "none",
        /// A user and a password.
        Password = "password",
        /// A token that did not verify, so that nobody knows of which kind it is.
        Token = "token",
        /// A login token.
        LoginToken = "login-token",
        /// A Personal Access Token.
        PersonalAccessToken = "personal-access-token",
        /// A client certificate.
        Certificate = "certificate",
    }
}

string_enum! {
    /// Whose tokens a rule is about.
    pub enum RuleKind {
        /// Those of one user: the `target`.
        User = "user",
        /// Those for one service: the `service`.
        Service = "service",
    }
}
