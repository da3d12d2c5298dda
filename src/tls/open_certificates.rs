//! The client certificates of open connections. A handshake verifies a certificate once, but the connection may stay
//! open for days. When the settings of the server get a new verifier, all these certificates are verified again. If a
//! certificate is no longer accepted, its connections are closed ([D30](crate::decisions#d30)).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::pki_types::{CertificateDer, UnixTime};

use super::{client_connection::ClientConnection, server_tls::ClientVerifier};

/// A certificate and its intermediate certificates, as the client has sent them.
type Chain = Arc<[CertificateDer<'static>]>;

/// The open connections with a client certificate. The table has at most one entry for each open connection.
pub(super) struct OpenCertificates {
    table: Mutex<Table>,
}

struct Table {
    verifier: ClientVerifier,
    open: HashMap<u64, (Chain, Arc<ClientConnection>)>,
    last_id: u64,
}

impl OpenCertificates {
    pub(super) fn new(verifier: ClientVerifier) -> Self {
        let table = Table { verifier, open: HashMap::new(), last_id: 0 };
        Self { table: Mutex::new(table) }
    }

    /// Records that the handshake of `connection` has accepted `chain`, with `verifier`. If the verifier has changed
    /// since then, the chain is verified again.
    pub(super) fn register(
        self: &Arc<Self>,
        chain: &[CertificateDer<'_>],
        verifier: &ClientVerifier,
        connection: &Arc<ClientConnection>,
    ) -> Registered {
        let chain: Chain = chain.iter().map(|der| der.clone().into_owned()).collect();
        let mut table = self.table();
        table.last_id += 1;
        let id = table.last_id;
        table.open.insert(id, (chain.clone(), connection.clone()));
        let changed = (!table.verifier.is_same(verifier)).then(|| table.verifier.clone());
        drop(table);
        if let Some(verifier) = changed
            && !verifier.accepts(&chain, UnixTime::now())
        {
            connection.revoke();
        }
        Registered { open: self.clone(), id }
    }

    /// Changes the verifier, and revokes the connections whose certificates the new verifier does not accept. Returns
    /// how many connections this call has revoked. The call takes about a tenth of a millisecond for each certificate
    /// that is in use.
    pub(super) fn replace(&self, verifier: &ClientVerifier) -> usize {
        let mut table = self.table();
        if table.verifier.is_same(verifier) {
            return 0;
        }
        table.verifier = verifier.clone();
        let open: Vec<_> = table.open.values().cloned().collect();
        // Without the lock, connections can open and close while the certificates are verified.
        drop(table);
        let now = UnixTime::now();
        // Several connections of a client may have the same chain, which is then verified only once.
        let mut verified: HashMap<&[CertificateDer<'_>], bool> = HashMap::new();
        let mut revoked = 0;
        for (chain, connection) in &open {
            let is_accepted =
                *verified.entry(chain).or_insert_with(|| verifier.accepts(chain, now));
            if !is_accepted && !connection.is_revoked() {
                connection.revoke();
                revoked += 1;
            }
        }
        revoked
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientVerifier {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) | (Self::Unknown, Self::Unknown) => true,
            (Self::Verifier(one), Self::Verifier(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    pub(super) fn accepts(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        match (self, chain) {
            // The verifier of a configuration that was passed to `ServerTls::from_config` cannot be called here. So the
            // certificate stays accepted.
            (Self::Unknown, _) => true,
            (Self::None, _) | (_, []) => false,
            (Self::Verifier(verifier), [leaf, intermediates @ ..]) => {
                verifier.verify_client_cert(leaf, intermediates, now).is_ok()
            }
        }
    }
}

/// Removes the entry of a connection when this value is dropped.
pub(super) struct Registered {
    open: Arc<OpenCertificates>,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let removed = self.open.table().open.remove(&self.id);
        drop(removed);
    }
}

#[cfg(test)]
mod tests {
    use test_support::pki::{Authority, SERVER, USER};

    use super::*;
    use crate::tls::ServerTls;

    fn verifier(authorities: Option<&str>, lists: Option<&str>) -> ClientVerifier {
        let (chain, key) = (SERVER.certificate, SERVER.key);
        let mut builder = ServerTls::builder(chain.as_bytes(), key.as_bytes());
        if let Some(authorities) = authorities {
            builder = builder.with_client_authorities(authorities.as_bytes());
        }
        if let Some(lists) = lists {
            builder = builder.with_revocation_lists(lists.as_bytes());
        }
        builder.build().unwrap().clients().clone()
    }

    #[test]
    fn connections_are_revoked_if_their_certificate_is_no_longer_accepted() {
        let authority = Authority::trusted();
        let key = USER.key_pair();
        let [good, bad] = [7_u64, 8].map(|serial| {
            let pem = authority.certify(&key, |params| params.serial_number = Some(serial.into()));
            [CertificateDer::from(pem::parse(pem).unwrap().into_contents())]
        });
        let list = authority.revoke(&[8], |_| {});
        let (trusted, stranger) = (authority.pem(), Authority::stranger().pem());
        let current = verifier(Some(trusted), None);
        for (case, new, want) in [
            ("nothing changed", verifier(Some(trusted), None), [false, false]),
            ("revoked", verifier(Some(trusted), Some(&list)), [false, true]),
            ("another authority", verifier(Some(stranger), None), [true, true]),
            ("no client certificates", verifier(None, None), [true, true]),
            ("unknown", ClientVerifier::Unknown, [false, false]),
        ] {
            let open = Arc::new(OpenCertificates::new(current.clone()));
            let connect = |chain: &[CertificateDer<'_>]| {
                let connection = Arc::new(ClientConnection::unlimited());
                (open.register(chain, &current, &connection), connection)
            };
            let connections = [connect(&good), connect(&bad), connect(&bad)];
            drop(connect(&bad));
            let revoked = open.replace(&new);
            let [good_want, bad_want] = want;
            let is_revoked = connections.each_ref().map(|(_, it)| it.is_revoked());
            assert_eq!(is_revoked, [good_want, bad_want, bad_want], "{case}");
            assert_eq!(revoked, is_revoked.iter().filter(|it| **it).count(), "{case}");
            assert_eq!(open.replace(&new), 0, "{case}");
            let late = [connect(&good), connect(&bad)].map(|(_, it)| it.is_revoked());
            assert_eq!(late, want, "{case}");
            drop(connections);
            assert_eq!(open.table().open.len(), 0, "{case}");
        }
    }
}
