//! Makes the files of the demo: a certificate authority and its certificates, a signing key for tokens, a PassTicket
//! key, a user with a password, permissions and identities. The configuration of the demo names these files.
//!
//! A PassTicket is a short-lived password of z/OS.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
    date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use tower_passticket::api::{Password, hash_password};

use super::directory::{Access, DemoDirectory, DemoError};

/// The user id of the demo's user. Zowe's own integration tests use the same user id and password.
pub(super) const USER: &str = "USER";
pub(super) const PASSWORD: &str = "validPassword";
/// The name of the demo's service in the security product (its APPLID).
pub(super) const APPLID: &str = "ZOWEAPPL";

/// A user with a certificate, but without permissions.
pub(super) const OTHER_USER: &str = "APIMTST";

const GATEWAY: &str = "ZWESVUSR";

pub(super) const EMAIL: &str = "user@example.com";
/// The user directory that contains [`EMAIL`]. The security product calls such a directory a registry.
const REGISTRY: &str = "ldaps://directory.example.com";

const CERTIFICATE_USERS: [&str; 2] = [USER, OTHER_USER];

const SECOND_YAML: &str = "node-2.yaml";

#[derive(Clone, Copy, Debug)]
pub(super) struct DemoPorts {
    pub(super) gateway: u16,
    /// The port of the second node. `None` if the demo has one node.
    pub(super) second: Option<u16>,
    pub(super) service: u16,
}

pub(super) struct DemoFiles {
    directory: DemoDirectory,
}

impl DemoFiles {
    /// Makes the files that are missing, except the configuration. If the demo is killed before it has made all files,
    /// the next start makes the missing files.
    pub(super) fn make(directory: &Path) -> Result<Self, DemoError> {
        let subdirectories = ["certs", "keys", "ptktdata", "api-defs"];
        let mut files = Self { directory: DemoDirectory::open(directory, &subdirectories)? };
        files.make_certificates()?;
        let directory = &mut files.directory;
        directory.make_once("keys/jwt.pem", || {
            let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
            Ok(key?.serialize_pem())
        })?;
        directory.make_once(&format!("ptktdata/{APPLID}.key"), || {
            let mut random = [0; 8];
            let source = aws_lc_rs::default_provider().secure_random;
            source.fill(&mut random).map_err(|_| "the system gave no random numbers")?;
            let key: String = random.iter().map(|b| format!("{b:02X}")).collect();
            Ok(key + "\n")
        })?;
        directory.make_once("users.yml", || {
            let hash = hash_password(&Password::new(PASSWORD))?;
            Ok(format!("users:\n  {USER}: \"{}\"\n", hash.expose()))
        })?;
        directory.make_once("saf.yml", || Ok(saf_yml()))?;
        directory.make_once("identities.yml", || Ok(identities_yml()))?;
        Ok(files)
    }

    /// Writes the configuration for these ports. With `redis`, writes the configuration of two nodes.
    pub(super) fn configure(
        &mut self,
        ports: &DemoPorts,
        redis: Option<&str>,
    ) -> Result<(), DemoError> {
        self.directory.write("api-defs/demo.yml", Access::Public, &api_defs(ports.service))?;
        let node = |number| redis.map(|redis| (number, redis));
        self.directory.write("zowe.yaml", Access::Public, &zowe_yaml(ports.gateway, node(1)))?;
        match ports.second {
            None => Ok(()),
            Some(port) => {
                self.directory.write(SECOND_YAML, Access::Public, &zowe_yaml(port, node(2)))
            }
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path(name)
    }

    pub(super) fn zowe_yaml(&self) -> PathBuf {
        self.path("zowe.yaml")
    }

    pub(super) fn second_zowe_yaml(&self) -> PathBuf {
        self.path(SECOND_YAML)
    }

    fn make_certificates(&mut self) -> Result<(), DemoError> {
        let owners = ["ca", "localhost"].into_iter().chain(CERTIFICATE_USERS);
        let files = owners.flat_map(|name| ["pem", "key"].map(|end| format!("certs/{name}.{end}")));
        let files: Vec<_> = files.collect();
        // If one of these files is missing, all these files are made again, so that the same certificate authority (CA)
        // signs all certificates.
        if self.directory.has_all(&files)? {
            return Ok(());
        }
        for (name, access, content) in certificates().map_err(DemoError::content("certs"))? {
            self.directory.write(&name, access, &content)?;
        }
        Ok(())
    }
}

/// Makes the CA and the certificates that it signs. Returns the name, the access and the content of each file.
fn certificates() -> Result<Vec<(String, Access, String)>, rcgen::Error> {
    let ca_key = KeyPair::generate()?;
    let mut ca = params("Demonstration CA of passticket-proxy");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_certificate = ca.self_signed(&ca_key)?;
    let mut files = Vec::new();
    let mut add = |name: &str, certificate: &Certificate, key: &KeyPair| {
        files.push((format!("certs/{name}.pem"), Access::Public, certificate.pem()));
        files.push((format!("certs/{name}.key"), Access::Owner, key.serialize_pem()));
    };
    add("ca", &ca_certificate, &ca_key);
    let issuer = Issuer::from_params(&ca, &ca_key);

    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let mut localhost = leaf("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    localhost.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
    let mut leaves = vec![("localhost", localhost)];
    leaves.extend(
        CERTIFICATE_USERS.map(|user| (user, leaf(user, ExtendedKeyUsagePurpose::ClientAuth))),
    );
    for (name, params) in leaves {
        let key = KeyPair::generate()?;
        add(name, &params.signed_by(&key, &issuer)?, &key);
    }
    Ok(files)
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
# Permissions, in the form of Zowe's saf.yml: class, resource, level, users. A resource may be a generic profile of
# RACF. The gateway reads this file again within seconds after a change.
safAccess:
  ZOWE:
    # Revoke tokens of other users (READ), and remove expired revocations (UPDATE).
    APIML.SERVICES:
      READ:
        - {USER}
      UPDATE:
        - {USER}
    # Obtain PassTickets for other users (READ).
    APIML.DELEGATE.PASSTICKET:
      READ:
        - {USER}
  PTKTDATA:
    # The gateway may make PassTickets of this APPLID for each user (UPDATE) ...
    IRRPTAUTH.{APPLID}.*:
      UPDATE:
        - {GATEWAY}
    # ... except IBMUSER: the most specific profile decides.
    IRRPTAUTH.{APPLID}.IBMUSER: {{}}
"
    )
}

fn identities_yml() -> String {
    format!(
        "\
# The user id of each e-mail address.
identities:
  distributed:
    - user: {USER}
      name: {EMAIL}
      registry: {REGISTRY}
"
    )
}

/// Returns the configuration. `node` is the number of the node and the URL of the Redis that the nodes share.
fn zowe_yaml(gateway: u16, node: Option<(u8, &str)>) -> String {
    let suffix = match node {
        None | Some((1, _)) => String::new(),
        Some((number, _)) => format!("-{number}"),
    };
    let cluster = node.map(|(number, redis)| {
        format!(
            "\
    # The nodes share their revocations.
    cluster:
      name: demo
      node: node-{number}
      redis:
        url: {redis}
"
        )
    });
    let cluster = cluster.unwrap_or_default();
    format!(
        "\
# Made by passticket-proxy serve --demo, which writes this file again at each start.
#
# To make your own configuration, stop the demo, copy this directory, and run
#   passticket-proxy serve --config COPY/zowe.yaml
# Paths are relative to this file, so the copy works. Change two things in the copy:
# - The services in api-defs/demo.yml run only inside the demo. Without the demo, the gateway answers
#   requests to them with 503. Replace them by your own services.
# - The files in certs, keys and ptktdata are for tests. Replace them before other people use the
#   gateway.
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

  # Settings that Zowe does not have.
  passticket-proxy:
    host: 127.0.0.1
    # The certificate authority of the services. In the demo, it is also the authority of the clients.
    serviceAuthorities: certs/ca.pem
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
          users: [{USER}, {OTHER_USER}]
    tokenExchange:
      enabled: true
      callers:
        - user: {USER}
          applids: [{APPLID}]
          users: [{USER}, {OTHER_USER}]
    audit:
      file: audit{suffix}.jsonl
    revocations: revocations{suffix}.redb
{cluster}    # Off, because browsers would otherwise require HTTPS for all other servers on localhost.
    strictTransportSecurity:
      enabled: false
    # The page on which users manage their Personal Access Tokens.
    ui:
      enabled: true
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
# Static service definitions in Zowe's format. These services run inside the demo, on a new port at
# each start.
services:
  - serviceId: dcpassticket
    title: Receives a PassTicket
    description: Echoes the request at /request, evaluates the PassTicket at /passticketTest
    instanceBaseUrls:
      - https://localhost:{service}/discoverableclient
    routes:
      - gatewayUrl: api/v1
        serviceRelativeUrl: /api/v1
    authentication:
      scheme: httpBasicPassTicket
      applid: {APPLID}
  - serviceId: dcbypass
    title: Receives what the client sends
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
