//! `init`: writes the files of a new gateway beside an existing Zowe, and prints what the operator still has to do. One
//! of the files is a PassTicket key. A PassTicket is a short-lived password of z/OS.

use std::{
    env,
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown},
    path::{Path, PathBuf},
};

use passticket_proxy::config::{Config, ZoweCertificate, ZoweTemplate};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::crypto::aws_lc_rs;
use tower_passticket::{passticket::Applid, revocation::DurableStore};
use zeroize::Zeroizing;

use crate::{
    cli::{InitPlace, InitZaas, InstanceUrl},
    exit::Exit,
    terminal::print_line,
};

/// The user id of the gateway in the security product. Zowe has the same default.
const GATEWAY_USER: &str = "ZWESVUSR";

/// The unit file for systemd. The Debian package installs this file as it is.
const UNIT: &str = include_str!("passticket-proxy.service");

const UNIT_PROGRAM: &str = "/usr/bin/passticket-proxy";

/// The lines in [`UNIT`] about the directories of the Debian package.
const UNIT_DIRECTORIES: &str = "\
StateDirectory=passticket-proxy
StateDirectoryMode=0750
LogsDirectory=passticket-proxy
LogsDirectoryMode=0750
";
const SYSTEM_CONFIG: &str = "/etc/passticket-proxy";
const SYSTEM_STATE: &str = "/var/lib/passticket-proxy";
const SYSTEM_LOGS: &str = "/var/log/passticket-proxy";

/// The static definition of the service `zaas`. It is not in [`DEFINITIONS`], because it is for Zowe's discovery
/// service.
const ZAAS_DEFINITION: &str = "discovery/zaas.yml";

/// The directory for static definitions of services. It is used if Zowe's static definitions are not on this machine.
const DEFINITIONS: &str = "api-defs";

pub(crate) fn init(from: &Path, place: &InitPlace, zaas: InitZaas) -> Result<(), Exit> {
    let variables = |name: &str| env::var(name).ok();
    let template = ZoweTemplate::read(from, &variables)
        .map_err(|problems| Exit::Usage(problems.iter().map(ToString::to_string).collect()))?;
    let zaas = Zaas::new(zaas, &template)?;
    let set_up = SetUp::new(&template, Places::new(place)?, zaas)?;
    set_up.write()?;
    let config = set_up.places.config.join("zowe.yaml");
    for path in set_up.paths() {
        print_line(&format!("wrote {}", path.display()));
    }
    print_to_do(&set_up, &config, Config::load(&config, &variables).map(|loaded| loaded.warnings));
    Ok(())
}

/// The directories of a new gateway, with absolute paths.
struct Places {
    config: PathBuf,
    state: PathBuf,
    logs: PathBuf,
    /// Whether these are the directories of the Debian package.
    of_system: bool,
}

impl Places {
    fn new(place: &InitPlace) -> Result<Self, Exit> {
        match place {
            InitPlace::Directory(directory) => {
                let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
                let full = made.and_then(|()| directory.canonicalize());
                let directory = full.map_err(|error| io_error(directory, &error))?;
                let (state, logs) = (directory.clone(), directory.clone());
                Ok(Self { config: directory, state, logs, of_system: false })
            }
            InitPlace::System => {
                let [config, state, logs] =
                    [SYSTEM_CONFIG, SYSTEM_STATE, SYSTEM_LOGS].map(PathBuf::from);
                for directory in [&config, &state, &logs] {
                    if !directory.is_dir() {
                        return Err(Exit::usage(format!(
                            "the directory {} is missing, which the package makes; install the package, or give a \
                             directory in place of --system",
                            directory.display()
                        )));
                    }
                }
                Ok(Self { config, state, logs, of_system: true })
            }
        }
    }

    /// Returns the modes of directories, of files without secrets, and of files with secrets.
    ///
    /// The directory of the package belongs to root and to the group of the gateway, and passes its group on to new
    /// files (setgid). So the gateway can read its configuration, but cannot change it.
    fn modes(&self) -> Modes {
        match self.of_system {
            true => Modes { directory: 0o750, public: 0o644, secret: 0o640 },
            false => Modes { directory: 0o700, public: 0o644, secret: 0o600 },
        }
    }

    /// Returns the path of the file `name` in `directory`, as the configuration contains it: relative if the file is
    /// beside the zowe.yaml, otherwise absolute.
    fn named(&self, directory: &Path, name: &str) -> String {
        match directory == self.config {
            true => name.to_owned(),
            false => directory.join(name).display().to_string(),
        }
    }
}

#[derive(Clone, Copy)]
struct Modes {
    directory: u32,
    public: u32,
    secret: u32,
}

/// The addresses at which this program takes the place of ZAAS.
struct Zaas {
    instances: Vec<InstanceUrl>,
    port: u16,
}

impl Zaas {
    fn new(wanted: InitZaas, template: &ZoweTemplate) -> Result<Option<Self>, Exit> {
        let mut instances = match wanted {
            InitZaas::Without => return Ok(None),
            InitZaas::With(instances) => instances,
        };
        if instances.is_empty() {
            let host = template.host_name().filter(|host| !host.is_empty());
            let host = host.ok_or_else(|| {
                Exit::usage(
                    "the name of this machine is not known; give its address with --zaas-url",
                )
            })?;
            let port = InstanceUrl::DEFAULT_PORT;
            instances.push(InstanceUrl { host: host.to_owned(), port });
        }
        let port = instances.first().map_or(InstanceUrl::DEFAULT_PORT, |instance| instance.port);
        Ok(Some(Self { instances, port }))
    }

    /// Returns the lines of the section `zaas`. If `template` has no certificate of Zowe's components, the lines name
    /// no gateway. The program then does not start until the operator adds a gateway.
    fn section(&self, template: &ZoweTemplate) -> String {
        let gateways = match template.certificate() {
            Some(ZoweCertificate { sha256, subject, .. }) => {
                format!("\n    - sha256: {sha256}   # {subject}")
            }
            None => {
                "                 # add the certificate of API ML's gateway: [sha256: FINGERPRINT]"
                    .to_owned()
            }
        };
        format!(
            "\
zaas:                            # gateways of API ML use this program as their ZAAS
  enabled: true
  port: {}
  gateways:{gateways}
",
            self.port
        )
    }

    fn definition(&self) -> String {
        let instances = self.instances.iter().map(|instance| format!("      - {instance}\n"));
        format!(
            "\
# For Zowe's discovery service: gateways of API ML use this program as their ZAAS. Each URL is an instance.
services:
  - serviceId: zaas
    title: ZAAS
    description: passticket-proxy in the place of ZAAS
    instanceBaseUrls:
{}    homePageRelativeUrl: \"\"
    statusPageRelativeUrl: /application/info
    healthCheckRelativeUrl: /application/health
    routes:
      - gatewayUrl: api/v1
        serviceRelativeUrl: /zaas/api/v1
",
            instances.collect::<String>()
        )
    }
}

struct SetUp {
    places: Places,
    files: Vec<File>,
    applid: Option<Applid>,
    zaas: Option<Zaas>,
}

struct File {
    name: String,
    content: Zeroizing<String>,
    mode: u32,
}

impl SetUp {
    fn new(template: &ZoweTemplate, places: Places, zaas: Option<Zaas>) -> Result<Self, Exit> {
        let applid = template.zosmf().map(|zosmf| zosmf.applid);
        let Modes { public, secret, .. } = places.modes();
        let mut files = Vec::new();
        let mut add = |name: &str, mode, content: String| {
            files.push(File { name: name.to_owned(), content: Zeroizing::new(content), mode });
        };
        let mut section = section(template, applid, &places);
        if let Some(zaas) = &zaas {
            section.push_str(&zaas.section(template));
            add(ZAAS_DEFINITION, public, zaas.definition());
        }
        add("zowe.yaml", secret, template.with_section(&section));
        add("saf.yml", secret, permissions(applid));
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        add("keys/jwt.pem", secret, key.map_err(Exit::runtime)?.serialize_pem());
        if let Some(applid) = applid {
            add(&format!("ptktdata/{applid}.key"), secret, passticket_key()?);
        }
        if template.api_defs().is_none() {
            add(&format!("{DEFINITIONS}/zosmf.yml"), public, definitions(template));
        }
        if !places.of_system {
            let program = env::current_exe().map_err(Exit::runtime)?;
            add("passticket-proxy.service", public, unit(&program, &places.config));
        }
        Ok(Self { places, files, applid, zaas })
    }

    fn store(&self) -> PathBuf {
        self.places.state.join("revocations.redb")
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let files = self.files.iter().map(|file| self.places.config.join(&file.name));
        files.chain([self.store()])
    }

    /// Writes the files. If one of the files already exists, returns an error and writes no file.
    fn write(&self) -> Result<(), Exit> {
        let present: Vec<_> = self
            .paths()
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
        let Modes { directory, .. } = self.places.modes();
        for File { name, content, mode } in &self.files {
            let path = self.places.config.join(name);
            write_new(&path, content.as_bytes(), *mode, directory)
                .map_err(|error| io_error(&path, &error))?;
        }
        let store = self.store();
        drop(DurableStore::create(&store).map_err(Exit::runtime)?);
        if self.places.of_system {
            // Usually root runs this command, so the file belongs to root. But the user of the gateway must be able to
            // write it, so this code gives the file the owner of its directory.
            let state = &self.places.state;
            let owner = fs::metadata(state).map_err(|error| io_error(state, &error))?;
            // The gateway's user can replace the file by a link, so this call must not follow links.
            lchown(&store, Some(owner.uid()), Some(owner.gid()))
                .map_err(|error| io_error(&store, &error))?;
        }
        Ok(())
    }
}

/// Writes a new file with the mode `mode`, even if the umask of the caller is stricter. Otherwise the umask could deny
/// access to the gateway's group.
fn write_new(path: &Path, content: &[u8], mode: u32, directory_mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        DirBuilder::new().mode(directory_mode).create(parent)?;
        add_permissions(parent, directory_mode)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Adds permission bits to a directory. The directory keeps its setgid bit, which passes its group on to new files.
fn add_permissions(directory: &Path, mode: u32) -> io::Result<()> {
    let permissions = fs::metadata(directory)?.permissions();
    fs::set_permissions(directory, Permissions::from_mode(permissions.mode() | mode))
}

fn io_error(path: &Path, error: &io::Error) -> Exit {
    let text = format!("cannot write {}: {error}", path.display());
    match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => Exit::usage(text),
        _ => Exit::Runtime(text),
    }
}

fn section(template: &ZoweTemplate, applid: Option<Applid>, places: &Places) -> String {
    let definitions = match template.api_defs() {
        // The path is in single quotes, so that only an apostrophe needs an escape.
        Some(directory) => format!("'{}'", directory.display().to_string().replace('\'', "''")),
        None => DEFINITIONS.to_owned(),
    };
    let revocations = places.named(&places.state, "revocations.redb");
    let audit = places.named(&places.logs, "audit.jsonl");
    let mut section = format!(
        "\
# Made by passticket-proxy init. Paths are relative to the directory of this file.
host: 0.0.0.0
signingKey: keys/jwt.pem         # RSA key that signs the tokens of this gateway
gatewayUser: {GATEWAY_USER}            # the user id of this gateway in the security product
saf: saf.yml                     # permissions
revocations: {revocations}    # revoked tokens
audit:
  file: {audit}
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

/// Makes a random PassTicket key, in hex. The key works as soon as the security product has the same key.
fn passticket_key() -> Result<String, Exit> {
    let mut random = Zeroizing::new([0; 8]);
    let source = aws_lc_rs::default_provider().secure_random;
    source.fill(&mut *random).map_err(|_| Exit::runtime("the system gave no random numbers"))?;
    Ok(random.iter().map(|byte| format!("{byte:02X}")).chain(["\n".to_owned()]).collect())
}

fn definitions(template: &ZoweTemplate) -> String {
    let comment = "# Static definitions in Zowe's format. Add the definitions of your services here, or in more files beside this one.\n";
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

/// Returns the text of the unit for this program and this directory.
fn unit(program: &Path, directory: &Path) -> String {
    let (program, directory) = (unit_path(program), unit_path(directory));
    UNIT.replace(&format!("{SYSTEM_CONFIG}/"), &format!("{directory}/"))
        .replace(UNIT_PROGRAM, &program)
        .replace(UNIT_DIRECTORIES, &format!("ReadWritePaths={directory}\n"))
        // The directory may be below `/home`, which `ProtectHome=true` hides from the gateway.
        .replace("ProtectHome=true", "ProtectHome=read-only")
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
    let directory = set_up.places.config.display();
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
    if set_up.zaas.is_some() {
        steps.push(format!(
            "In {config}, check that components.passticket-proxy.zaas.gateways names the certificate that API ML's gateway \
             presents. Add each APPLID that the services of API ML have to ptktdata and to saf.yml. When this program runs, \
             copy {directory}/{ZAAS_DEFINITION} to the static definitions of Zowe's discovery service, and stop Zowe's own \
             ZAAS. If the program replaces ZAAS on a machine where API ML's gateway runs, too, change \
             components.gateway.port in {config}."
        ));
    }
    if set_up.places.of_system {
        steps.push(format!(
            "Check the result as the user of the gateway, and ask each server: runuser -u passticket-proxy -- \
             passticket-proxy check --config {config} --live"
        ));
        steps.push("Start the gateway: systemctl enable --now passticket-proxy".to_owned());
    } else {
        steps.push(format!(
            "Check the result, and ask each server: passticket-proxy check --config {config} --live"
        ));
        steps.push(format!(
        "Start the gateway: useradd --system passticket-proxy; chown -R passticket-proxy: {directory}; cp \
         {directory}/passticket-proxy.service /etc/systemd/system/; systemctl daemon-reload; systemctl enable --now \
         passticket-proxy"
    ));
    }
    print_line("\nLeft to do:");
    for (index, step) in steps.iter().enumerate() {
        print_line(&format!("  {}. {step}", index + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_the_package_becomes_a_unit_for_a_program_and_a_directory() {
        let unit = unit(Path::new("/opt/a b/passticket-proxy"), Path::new("/home/JANE/100%"));
        for line in [
            "ExecStart=/opt/a\\x20b/passticket-proxy serve --takeover --config /home/JANE/100%%/zowe.yaml",
            "ExecStartPre=/opt/a\\x20b/passticket-proxy check --config /home/JANE/100%%/zowe.yaml",
            "ReadWritePaths=/home/JANE/100%%",
            "ProtectHome=read-only",
        ] {
            assert!(unit.lines().any(|each| each == line), "{line}\n{unit}");
        }
        for text in ["/usr/", "/etc/", "StateDirectory", "LogsDirectory"] {
            assert!(!unit.contains(text), "{text}\n{unit}");
        }
    }
}
