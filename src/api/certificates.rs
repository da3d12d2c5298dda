//! Authenticates callers by client certificates.

use http::request::Parts;

use super::{error::ApiError, record::add_to_record};
use crate::{
    audit::{CredentialKind, ReasonCode},
    clock::Clock,
    identity::{IdentityMapper, MapError, PeerCertificate},
    log_limit::log_limited,
    passticket::UserId,
};

/// If client certificates are on, reads the client certificate of a request and maps it to a user.
#[derive(Clone, Copy)]
pub(super) struct ClientCertificates<'a> {
    pub(super) mapper: Option<&'a dyn IdentityMapper>,
    pub(super) clock: &'a dyn Clock,
}

impl ClientCertificates<'_> {
    /// Returns the client certificate of the request. Returns `None` if there is no certificate, or if client
    /// certificates are off.
    pub(super) fn of(self, request: &Parts) -> Option<&PeerCertificate> {
        request.extensions.get().filter(|_| self.mapper.is_some())
    }

    /// Checks that the request has a certificate that has not expired. The listener has already verified the
    /// certificate. The certificate need not belong to a user (docs/reference/auth-endpoints.md#refresh,
    /// docs/reference/auth-endpoints.md#ticket).
    ///
    /// # Errors
    /// [`ApiError::CertificateRequired`] if there is no certificate, if the certificate has expired, or if client
    /// certificates are off.
    pub(super) fn require(self, request: &Parts) -> Result<(), ApiError> {
        let certificate = self.of(request).ok_or(ApiError::CertificateRequired)?;
        add_to_record(request, |record| record.certificate = Some(certificate.clone()));
        if certificate.not_after() < self.clock.now() {
            add_to_record(request, |record| record.reason = Some(ReasonCode::CertificateExpired));
            return Err(ApiError::CertificateRequired);
        }
        Ok(())
    }

    /// Returns the user to whom the certificate is mapped.
    ///
    /// # Errors
    /// - [`ApiError::AuthenticationRequired`] if there is no certificate, or if client certificates are off.
    /// - [`ApiError::NoUser`] if the certificate has expired or is mapped to no user.
    /// - [`ApiError::Unavailable`] if the mapping fails.
    pub(super) async fn user(self, request: &Parts) -> Result<UserId, ApiError> {
        let certificate = request.extensions.get::<PeerCertificate>();
        let (Some(mapper), Some(certificate)) = (self.mapper, certificate) else {
            add_to_record(request, |record| record.reason = Some(ReasonCode::NoCredential));
            return Err(ApiError::AuthenticationRequired);
        };
        let (url, subject) = (request.uri.path(), certificate.subject());
        let mapped = if certificate.not_after() < self.clock.now() {
            Err(MapError::Expired)
        } else {
            match mapper.try_map_now(certificate) {
                Some(mapped) => mapped,
                None => mapper.map_certificate(certificate).await,
            }
        };
        add_to_record(request, |record| {
            record.credential = Some(CredentialKind::Certificate);
            record.certificate = Some(certificate.clone());
            match &mapped {
                Ok(user) => record.user = Some(*user),
                Err(error) => record.reason = Some(error.into()),
            }
        });
        match mapped {
            Ok(user) => {
                tracing::info!(url, %user, proof = "certificate", subject, "authenticated");
                Ok(user)
            }
            Err(reason @ (MapError::Unavailable | MapError::Failed(_))) => {
                log_limited!(warn, "certificate mapping", { url, subject, %reason }, "authentication failed");
                Err(ApiError::Unavailable)
            }
            Err(reason) => {
                tracing::info!(url, subject, %reason, "authentication failed");
                Err(ApiError::NoUser)
            }
        }
    }
}
