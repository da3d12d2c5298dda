//! An application has its own audit sink. At run time, it chooses the code that maps client certificates to users.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt, service_fn};
use tower_passticket::{
    audit::{Audit, AuditRecord, AuditSink, CredentialKind, Event, Outcome, ReasonCode},
    clock::{ManualClock, Timestamp},
    identity::{CommonNameMapper, IdentityMapper, MapError, MapFuture, PeerCertificate},
    layer::{AuthenticateLayer, Authentication, Authenticator},
    passticket::UserId,
    test_util,
};

/// Stores audit records in memory. A real sink would send the records, for example to a SIEM (security monitoring).
#[derive(Default)]
struct Siem {
    records: Mutex<Vec<AuditRecord>>,
    is_down: AtomicBool,
}

impl Siem {
    /// Takes the record that was stored since the last call. Panics unless there is exactly one record.
    #[track_caller]
    fn take_one(&self) -> AuditRecord {
        let mut records = self.records.lock().unwrap();
        assert_eq!(records.len(), 1, "{records:?}");
        records.remove(0)
    }
}

impl AuditSink for Siem {
    fn record(&self, record: AuditRecord) {
        self.records.lock().unwrap().push(record);
    }

    fn is_available(&self) -> bool {
        !self.is_down.load(SeqCst)
    }
}

/// Maps a certificate to a user by the organizational unit in its subject. It simulates a look-up in another system.
struct ByUnit;

impl IdentityMapper for ByUnit {
    fn map_certificate(&self, certificate: &PeerCertificate) -> MapFuture {
        let attributes = certificate.subject_name().rdns().iter().flat_map(|rdn| rdn.attributes());
        let mut units = attributes.filter(|attribute| attribute.kind().name() == Some("OU"));
        let unit = units.next().and_then(|unit| unit.text()).map(str::to_owned);
        Box::pin(async move {
            tokio::task::yield_now().await;
            match unit.as_deref() {
                Some("Payroll") => Ok(UserId::new("PAYROLL")?),
                _ => Err(MapError::NotMapped),
            }
        })
    }
}

/// Returns the mapper with this name. A program would read the name from its configuration.
fn mapper(name: &str) -> Arc<dyn IdentityMapper> {
    match name {
        "unit" => Arc::new(ByUnit),
        _ => Arc::new(CommonNameMapper),
    }
}

fn certificate(common_name: &str, unit: &str) -> PeerCertificate {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    params.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, unit);
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    PeerCertificate::from_der(&**certificate.der()).unwrap()
}

/// Sends a request. Returns the status and the body of the response. If the request was accepted, the body is the user
/// id that the handler sees.
async fn ask(
    mapper: Arc<dyn IdentityMapper>,
    audit: &Audit,
    certificate: Option<PeerCertificate>,
) -> (u16, String) {
    let handler = service_fn(|request: Request<Full<Bytes>>| async move {
        let user = match request.extensions().get() {
            Some(Authentication::Authenticated(who)) => who.user().to_string(),
            _ => String::new(),
        };
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(user)))
    });
    let authenticator = Authenticator::new(test_util::verifier()).with_client_certificates(mapper);
    let layer = AuthenticateLayer::new(authenticator).with_audit(audit.clone());
    let mut request = Request::new(Full::default());
    if let Some(certificate) = certificate {
        request.extensions_mut().insert(certificate);
    }
    let response = layer.layer(handler).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn a_mapper_and_a_sink_are_chosen_at_run_time() {
    let siem = Arc::new(Siem::default());
    let sink: Arc<dyn AuditSink> = siem.clone();
    let audit = Audit::to(sink);

    let jane = certificate("jane", "Payroll");
    for (name, want) in [("common name", "JANE"), ("unit", "PAYROLL")] {
        let (status, user) = ask(mapper(name), &audit, Some(jane.clone())).await;
        assert_eq!((status, user.as_str()), (200, want));
    }
    // `AuthenticateLayer` records only failures. The layer that records successes is not part of this test.
    assert!(siem.records.lock().unwrap().is_empty());

    for (certificate, reason, credential) in [
        (None, ReasonCode::NoCredential, CredentialKind::None),
        (Some(certificate("jane", "Sales")), ReasonCode::NoUser, CredentialKind::Certificate),
    ] {
        let (status, _) = ask(mapper("unit"), &audit, certificate).await;
        assert_eq!(status, 401);
        let record = siem.take_one();
        assert_eq!((record.event, record.outcome), (Event::Authentication, Outcome::Refused));
        assert_eq!((record.reason, record.credential), (Some(reason), Some(credential)));
    }
}

#[test]
fn an_application_records_its_own_events() {
    let siem = Arc::new(Siem::default());
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
    let audit = Audit::to(siem.clone() as Arc<dyn AuditSink>).with_clock(clock);
    let user = UserId::new("JANE").unwrap();
    audit.record(|| AuditRecord::succeeded(Event::Login, audit.now()).with_user(user));
    assert_eq!(
        siem.take_one().to_json(),
        r#"{"time":"2027-01-15T08:00:00.000Z","event":"login","outcome":"success","user":"JANE"}"#
    );
}

#[test]
fn audit_reports_whether_the_sink_is_available() {
    let siem = Arc::new(Siem::default());
    let audit = Audit::to(siem.clone() as Arc<dyn AuditSink>);
    assert!(audit.is_available());
    siem.is_down.store(true, SeqCst);
    assert!(!audit.is_available());
}
