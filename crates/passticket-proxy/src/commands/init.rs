//! `init`: writes the files of a new gateway beside an existing Zowe, and prints what the operator still has to do. One
//! of the files is a PassTicket key. A PassTicket is a one-time password of z/OS.

use std::{
    env,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use passticket_proxy::config::{Config, ZoweTemplate};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::crypto::aws_lc_rs;
use tower_passticket::{passticket::Applid, revocation::DurableStore};
use zeroize::Zeroizing;

use crate::{exit::Exit, terminal::print_line};

/// The user id of the gateway in the security product. Zowe has the same default.
const GATEWAY_USER: &str = "ZWESVUSR";

/// The directory for static definitions of services. It is used if Zowe's static definitions are not on this machine.
const DEFINITIONS: &str = "api-defs";

pub(crate) fn init(from: &Path, directory: &Path) -> Result<(), Exit> {
    let variables = |name: &str| env::var(name).ok();
    let template = ZoweTemplate::read(from, &variables)
        .map_err(|problems| Exit::Usage(problems.iter().map(ToString::to_string).collect()))?;
    let set_up = SetUp::new(&template, directory)?;
    set_up.write()?;
    let config = set_up.directory.join("zowe.yaml");
    let store = set_up.directory.join("revocations.redb");
    drop(DurableStore::create(store).map_err(Exit::runtime)?);
    for name in set_up.names() {
        print_line(&format!("wrote {}", set_up.directory.join(name).display()));
    }
    print_to_do(&set_up, &config, Config::load(&config, &variables).map(|loaded| loaded.warnings));
    Ok(())
}

/// The files of a new gateway.
struct SetUp {
    directory: PathBuf,
    files: Vec<File>,
    applid: Option<Applid>,
}

struct File {
    name: String,
    content: Zeroizing<String>,
    mode: u32,
}

impl SetUp {
    /// Makes the contents of all files.
    fn new(template: &ZoweTemplate, directory: &Path) -> Result<Self, Exit> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        let full = made.and_then(|()| directory.canonicalize());
        let directory = full.map_err(|error| io_error(directory, &error))?;
        let applid = template.zosmf().map(|zosmf| zosmf.applid);
        let mut files = Vec::new();
        let mut add = |name: &str, mode, content: String| {
            files.push(File { name: name.to_owned(), content: Zeroizing::new(content), mode });
        };
        add("zowe.yaml", 0o600, template.with_section(&section(template, applid)));
        add("saf.yml", 0o600, permissions(applid));
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        add("keys/jwt.pem", 0o600, key.map_err(Exit::runtime)?.serialize_pem());
        if let Some(applid) = applid {
            add(&format!("ptktdata/{applid}.key"), 0o600, passticket_key()?);
        }
        if template.api_defs().is_none() {
            add(&format!("{DEFINITIONS}/zosmf.yml"), 0o644, definitions(template));
        }
        add("passticket-proxy.service", 0o644, unit(&directory)?);
        Ok(Self { directory, files, applid })
    }

    /// Returns the names of all files, and of the revocation file.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str()).chain(["revocations.redb"])
    }

    /// Writes the files. If one of them exists already, returns an error and writes none.
    fn write(&self) -> Result<(), Exit> {
        let present: Vec<_> = self
            .names()
            .map(|name| self.directory.join(name))
            .filter(|path| fs::symlink_metadata(path).is_ok())
            .map(|path| {
                format!(
                    "{} exists, and init overwrites no file; move it away, or give another directory",
                    path.display()
                )
            })
            .collect();
        if !present.is_empty() {
            return Err(Exit::Usage(present));
        }
        for File { name, content, mode } in &self.files {
            let path = self.directory.join(name);
            write_new(&path, content.as_bytes(), *mode).map_err(|error| io_error(&path, &error))?;
        }
        Ok(())
    }
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn io_error(path: &Path, error: &io::Error) -> Exit {
    let text = format!("cannot write {}: {error}", path.display());
    match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => Exit::usage(text),
        _ => Exit::Runtime(text),
    }
}

/// Returns the content of the section `components.passticket-proxy`.
fn section(template: &ZoweTemplate, applid: Option<Applid>) -> String {
    let definitions = match template.api_defs() {
        // The path is in single quotes, so that only an apostrophe needs an escape.
        Some(directory) => format!("'{}'", directory.display().to_string().replace('\'', "''")),
        None => DEFINITIONS.to_owned(),
    };
    let mut section = format!(
        "\
# Made by passticket-proxy init. Paths are relative to the directory of this file.
host: 0.0.0.0
signingKey: keys/jwt.pem         # RSA key that signs the tokens of this gateway
gatewayUser: {GATEWAY_USER}            # the user id of this gateway in the security product
saf: saf.yml                     # permissions
revocations: revocations.redb    # revoked tokens
audit:
  file: audit.jsonl
apiDefs: [{definitions}]
"
    );
    if let Some(applid) = applid {
        section.push_str(&format!(
            "\
ptktdata:                        # the PassTicket key of each APPLID
  - applid: {applid}
    algorithm: legacy
    key: {{ file: ptktdata/{applid}.key }}
"
        ));
    }
    section
}

fn permissions(applid: Option<Applid>) -> String {
    let mut text = "\
# Permissions, in the form of Zowe's saf.yml: class, resource, level, users. The gateway reads a change within seconds.
safAccess:
  ZOWE:
    # READ: list services (zowe config auto-init), revoke tokens of others; UPDATE: also remove expired revocations
    APIML.SERVICES: {}
"
    .to_owned();
    if let Some(applid) = applid {
        text.push_str(&format!(
            "  PTKTDATA:
    IRRPTAUTH.{applid}.*:          # UPDATE: make PassTickets of this APPLID for each user
      UPDATE:
        - {GATEWAY_USER}
"
        ));
    }
    text
}

/// Makes a random PassTicket key, in hex. It works as soon as the security product has the same key.
fn passticket_key() -> Result<String, Exit> {
    let mut random = Zeroizing::new([0; 8]);
    let source = aws_lc_rs::default_provider().secure_random;
    source.fill(&mut *random).map_err(|_| Exit::runtime("the system gave no random numbers"))?;
    Ok(random.iter().map(|byte| format!("{byte:02X}")).chain(["\n".to_owned()]).collect())
}

fn definitions(template: &ZoweTemplate) -> String {
    let comment = "# Static definitions in Zowe's format. Add those of your services, or more files beside this one.\n";
    match template.zosmf() {
        None => format!("{comment}services: []\n"),
        Some(zosmf) => format!(
            "\
{comment}services:
  - serviceId: ibmzosmf
    title: IBM z/OSMF
    instanceBaseUrls:
      - {}
    routes:
      - gatewayUrl: api/v1
        serviceRelativeUrl: /
    authentication:
      scheme: zosmf
",
            zosmf.address
        ),
    }
}

fn unit(directory: &Path) -> Result<String, Exit> {
    let program = env::current_exe().map_err(Exit::runtime)?;
    let (program, directory) = (unit_path(&program), unit_path(directory));
    Ok(format!(
        "\
[Unit]
Description=Gateway for z/OS single sign-on
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
User=passticket-proxy
ExecStartPre={program} check --config {directory}/zowe.yaml
ExecStart={program} serve --config {directory}/zowe.yaml
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
# A restart does not correct a wrong configuration.
RestartPreventExitStatus=2
TimeoutStopSec=60
WatchdogSec=60
LimitNOFILE=65536
UMask=0077
NoNewPrivileges=true
PrivateTmp=true
ProtectHome=read-only
ProtectSystem=strict
ReadWritePaths={directory}

[Install]
WantedBy=multi-user.target
"
    ))
}

/// Escapes a path for a systemd unit, where `%` begins a specifier and a blank ends the word.
fn unit_path(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace(' ', "\\x20").replace('%', "%%")
}

fn print_to_do(
    set_up: &SetUp,
    config: &Path,
    loaded: Result<Vec<passticket_proxy::config::Problem>, passticket_proxy::config::Problems>,
) {
    let directory = set_up.directory.display();
    let config = config.display();
    let mut steps = Vec::new();
    let problems: Vec<String> = match &loaded {
        Ok(warnings) => warnings.iter().map(|warning| format!("warning: {warning}")).collect(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    };
    if loaded.is_err() {
        steps.push("Correct these problems of the configuration. Files that are on z/OS must be copied to this machine:".to_owned());
    } else if !problems.is_empty() {
        steps.push("Read these warnings about the configuration:".to_owned());
    }
    if let Some(last) = steps.last_mut() {
        problems.iter().for_each(|problem| last.push_str(&format!("\n     {problem}")));
    }
    match set_up.applid {
        Some(applid) => steps.push(format!(
            "{directory}/ptktdata/{applid}.key has a new random key. If the security product has a key for {applid} \
             already, write that key into the file, in hex. Otherwise define the new key in the security product. To \
             print the commands, run: passticket-proxy esm --esm racf --from-config {config} (or acf2, or tss)."
        )),
        None => steps.push(
            "Add the APPLID of each service to components.passticket-proxy.ptktdata, with its PassTicket key. Add its \
             permission to saf.yml, too."
                .to_owned(),
        ),
    }
    steps.push(format!(
        "Add the static definitions of your services to components.passticket-proxy.apiDefs. In {directory}/saf.yml, \
         name the users who may revoke tokens or list services (the command config auto-init of Zowe CLI lists services)."
    ));
    steps.push(format!(
        "Check the result, and ask each server: passticket-proxy check --config {config} --live"
    ));
    steps.push(format!(
        "Start the gateway: useradd --system passticket-proxy; chown -R passticket-proxy: {directory}; cp \
         {directory}/passticket-proxy.service /etc/systemd/system/; systemctl daemon-reload; systemctl enable --now \
         passticket-proxy"
    ));
    print_line("\nLeft to do:");
    for (index, step) in steps.iter().enumerate() {
        print_line(&format!("  {}. {step}", index + 1));
    }
}
