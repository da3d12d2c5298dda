//! The files of the demonstration: an authority and its certificates, a signing key, a PTKTDATA
//! key, a user, and the configuration that names them.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use tower_passticket::api::{Password, hash_password};

/// The user that Zowe's own integration tests log in with.
pub(super) const USER: &str = "USER";
pub(super) const PASSWORD: &str = "validPassword";
pub(super) const APPLID: &str = "ZOWEAPPL";

/// A user who has a certificate and may do nothing special.
pub(super) const OTHER: &str = "APIMTST";

/// Whom the demonstration's security product knows the gateway as.
const GATEWAY: &str = "ZWESVUSR";

/// The address that is mapped to [`USER`], and the registry that knows it.
pub(super) const EMAIL: &str = "user@example.com";
const REGISTRY: &str = "ldaps://directory.example.com";

/// Users who have a certificate.
const CERTIFIED: [&str; 2] = [USER, OTHER];

const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;

pub(super) struct World {
    directory: PathBuf,
}

impl World {
    /// Makes what is not there yet. A start that is killed half-way leaves nothing half-written:
    /// the next one makes the rest.
    pub(super) fn make(directory: &Path) -> io::Result<Self> {
        for part in ["", "certs", "keys", "ptktdata", "api-defs"] {
            DirBuilder::new().recursive(true).mode(0o700).create(directory.join(part))?;
        }
        let world = Self { directory: directory.canonicalize()? };
        world.make_certificates()?;
        world.make_once("keys/jwt.pem", || {
            let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
            Ok(key.map_err(io::Error::other)?.serialize_pem())
        })?;
        world.make_once(&format!("ptktdata/{APPLID}.key"), || {
            let mut random = [0; 8];
            aws_lc_rs::default_provider()
                .secure_random
                .fill(&mut random)
                .map_err(|_| io::Error::other("no random numbers"))?;
            let key: String = random.iter().map(|b| format!("{b:02X}")).collect();
            Ok(key + "\n")
        })?;
        world.make_once("users.yml", || {
            let hash = hash_password(&Password::new(PASSWORD)).map_err(io::Error::other)?;
            Ok(format!("users:\n  {USER}: \"{}\"\n", hash.expose()))
        })?;
        world.make_once("saf.yml", || Ok(saf_yml()))?;
        world.make_once("identities.yml", || Ok(identities_yml()))?;
        Ok(world)
    }

    /// Writes the configuration for these ports.
    pub(super) fn configure(&self, gateway: u16, service: u16) -> io::Result<()> {
        self.write("api-defs/demo.yml", PUBLIC, &api_defs(service))?;
        self.write("zowe.yaml", PUBLIC, &zowe_yaml(gateway))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn zowe_yaml(&self) -> PathBuf {
        self.path("zowe.yaml")
    }

    fn make_certificates(&self) -> io::Result<()> {
        let mut names = vec!["ca".to_owned(), "localhost".to_owned()];
        names.extend(CERTIFIED.map(str::to_owned));
        let complete = names.iter().all(|name| {
            ["pem", "key"].iter().all(|end| self.path(&format!("certs/{name}.{end}")).exists())
        });
        // All or none: certificates of two authorities would not fit together.
        if complete {
            return Ok(());
        }
        let key = || KeyPair::generate().map_err(io::Error::other);
        let ca_key = key()?;
        let mut ca = params("Demonstration CA of passticket-proxy");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_certificate = ca.self_signed(&ca_key).map_err(io::Error::other)?;
        self.write("certs/ca.pem", PUBLIC, &ca_certificate.pem())?;
        self.write("certs/ca.key", SECRET, &ca_key.serialize_pem())?;
        let issuer = Issuer::from_params(&ca, &ca_key);

        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        let names = CertificateParams::new(names).map_err(io::Error::other)?.subject_alt_names;
        let mut localhost = leaf("localhost", ExtendedKeyUsagePurpose::ServerAuth);
        localhost.subject_alt_names = names;
        let mut leaves = vec![("localhost", localhost)];
        leaves
            .extend(CERTIFIED.map(|user| (user, leaf(user, ExtendedKeyUsagePurpose::ClientAuth))));
        for (name, params) in leaves {
            let key = key()?;
            let certificate = params.signed_by(&key, &issuer).map_err(io::Error::other)?;
            self.write(&format!("certs/{name}.pem"), PUBLIC, &certificate.pem())?;
            self.write(&format!("certs/{name}.key"), SECRET, &key.serialize_pem())?;
        }
        Ok(())
    }

    fn make_once(&self, name: &str, make: impl FnOnce() -> io::Result<String>) -> io::Result<()> {
        if self.path(name).exists() { Ok(()) } else { self.write(name, SECRET, &make()?) }
    }

    /// All of it or nothing, and never readable by others for a moment.
    fn write(&self, name: &str, mode: u32, text: &str) -> io::Result<()> {
        let path = self.path(name);
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        let _ = fs::remove_file(&temporary);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    }
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2046, 1, 1);
    params
}

fn leaf(common_name: &str, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = params(common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params
}

fn saf_yml() -> String {
    format!(
        "\
# Who may do what, as Zowe's saf.yml: class, resource, level, users. A resource may be a generic
# profile of RACF. A change counts within seconds.
safAccess:
  ZOWE:
    # Revoke tokens of others (READ), and evict (UPDATE).
    APIML.SERVICES:
      READ:
        - {USER}
      UPDATE:
        - {USER}
    # Obtain PassTickets for others.
    APIML.DELEGATE.PASSTICKET:
      READ:
        - {USER}
  PTKTDATA:
    # The gateway may make PassTickets of this APPLID, for everybody ...
    IRRPTAUTH.{APPLID}.*:
      UPDATE:
        - {GATEWAY}
    # ... but for this user: the most specific profile decides.
    IRRPTAUTH.{APPLID}.IBMUSER: {{}}
"
    )
}

fn identities_yml() -> String {
    format!(
        "\
# Whose an e-mail address is.
identities:
  distributed:
    - user: {USER}
      name: {EMAIL}
      registry: {REGISTRY}
"
    )
}

fn zowe_yaml(gateway: u16) -> String {
    format!(
        "\
# Made by passticket-proxy serve --demo, anew at each start. To begin your own, copy the directory.
zowe:
  certificate:
    pem:
      certificate: certs/localhost.pem
      key: certs/localhost.key
      certificateAuthorities: certs/ca.pem
  verifyCertificates: STRICT

components:
  gateway:
    port: {gateway}
    apiml:
      security:
        personalAccessToken:
          enabled: true
        allowTokenRefresh: true
        x509:
          enabled: true
        delegatePassticket: true
        oidc:
          registry: {REGISTRY}

# What Zowe has no key for.
passticketProxy:
  host: 127.0.0.1
  signingKey: keys/jwt.pem
  users: users.yml
  gatewayUser: {GATEWAY}
  saf: saf.yml
  identities: identities.yml
  delegation:
    protectedUsers: [IBMUSER]
    callers:
      - user: {USER}
        applids: [{APPLID}]
        users: [{USER}, {OTHER}]
  audit:
    file: audit.jsonl
  revocations: revocations.redb
  apiDefs: api-defs
  ptktdata:
    - applid: {APPLID}
      algorithm: legacy
      key:
        file: ptktdata/{APPLID}.key
      replayProtection: false
"
    )
}

fn api_defs(service: u16) -> String {
    format!(
        "\
# Static definitions as Zowe has them.
services:
  - serviceId: dcpassticket
    title: Wants a PassTicket
    description: Echoes what it is sent at /request, evaluates its PassTicket at /passticketTest
    instanceBaseUrls:
      - https://localhost:{service}/discoverableclient
    routes:
      - gatewayUrl: api/v1
        serviceRelativeUrl: /api/v1
    authentication:
      scheme: httpBasicPassTicket
      applid: {APPLID}
  - serviceId: dcbypass
    title: Wants what the client sends
    description: The same service without single sign-on
    instanceBaseUrls:
      - https://localhost:{service}/discoverableclient
    routes:
      - gatewayUrl: api/v1
        serviceRelativeUrl: /api/v1
    authentication:
      scheme: bypass
"
    )
}
