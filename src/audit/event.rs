//! Enums for four fields of a record: the event, the outcome, the kind of credential and the kind of rule.

string_enum! {
    /// The kind of decision.
    pub enum Event {
        /// The authentication of a client. For a request on a route, it includes the check whether the token may be
        /// used for the service. In the auth API, endpoints that only read data, such as `query` and
        /// `access-token/validate`, cause this event.
        Authentication = "authentication",
        /// A PassTicket (a one-time password of z/OS) for the authenticated user.
        Ticket = "ticket",
        /// A scheme other than PassTicket prepares the credential for the service.
        Scheme = "scheme",
        /// A rule of the service selects a technical user for the person of a token. A technical user is a user id that
        /// many persons share.
        TechnicalUser = "technical-user",
        /// A PassTicket for another user.
        DelegatedTicket = "delegated-ticket",
        /// A PassTicket in exchange for the token of a user (RFC 8693).
        TokenExchange = "token-exchange",
        /// A login with a password or a certificate.
        Login = "login",
        /// Revocation of a login token by logout.
        Logout = "logout",
        /// The gateway closed a WebSocket, because the credential of the handshake is no longer valid, or cannot be
        /// checked any more.
        WebSocketClosed = "web-socket-closed",
        /// A new login token in exchange for an old login token.
        Refresh = "refresh",
        /// A new Personal Access Token.
        TokenMinted = "token-minted",
        /// A new Personal Access Token in exchange for an old Personal Access Token.
        TokenRotated = "token-rotated",
        /// A new name or description of a Personal Access Token.
        TokenChanged = "token-changed",
        /// Revocation of one Personal Access Token.
        TokenRevoked = "token-revoked",
        /// A new rule that revokes Personal Access Tokens of a user or for a service.
        RuleMade = "rule-made",
        /// Removal of expired revocations.
        Evicted = "evicted",
        /// The gateway refuses an instance that a service has registered in a registry.
        Registration = "registration",
        /// The gateway stops PassTickets for a user or an APPLID, because a service has refused some PassTickets, or
        /// because the clocks of the gateway and the service differ.
        TicketsStopped = "tickets-stopped",
        /// The gateway makes PassTickets again, after it had stopped them.
        TicketsResumed = "tickets-resumed",
    }
}

string_enum! {
    /// The result of an event.
    pub enum Outcome {
        /// Access was granted, or the action was done.
        Success = "success",
        /// The gateway has refused the request, for example because the client was not authenticated or has no
        /// permission.
        Refused = "refused",
        /// No decision was possible, or the action failed.
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
        /// A token of another issuer, such as an identity provider.
        ExternalToken = "external-token",
        /// A client certificate.
        Certificate = "certificate",
    }
}

string_enum! {
    /// The subject of a revocation rule: a user or a service.
    pub enum RuleKind {
        /// The rule revokes the tokens of one user. The field `target` of the record is this user.
        User = "user",
        /// The rule revokes the tokens for one service. The field `service` of the record is this service.
        Service = "service",
    }
}
