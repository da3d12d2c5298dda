//! Adds the section of this gateway to a zowe.yaml that does not have it yet, for `passticket-proxy init`.

use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use tower_passticket::identity::{Fingerprint, PeerCertificate};

use super::{
    encoding, logins,
    problem::{Problem, Problems, Report},
    reader::{Document, Section},
    secret_file::read_public_file,
    settings::ZosmfSettings,
    templates,
};

/// A zowe.yaml without the section `components.passticket-proxy`.
///
/// `Debug` shows no content, because a zowe.yaml may contain the passwords of key stores.
pub struct ZoweTemplate {
    text: String,
    place: Place,
    zosmf: Option<ZosmfSettings>,
    api_defs: Option<PathBuf>,
    certificate: Option<ZoweCertificate>,
    host_name: Option<String>,
}

/// The certificate that the components of Zowe present to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZoweCertificate {
    /// The fingerprint of the certificate.
    pub sha256: Fingerprint,
    /// The subject of the certificate, without control characters.
    pub subject: String,
}

enum Place {
    /// After this line, counted from 1, with this indentation.
    After { line: usize, indentation: String },
    /// At the end of the file, together with the key `components`.
    End,
}

impl ZoweTemplate {
    /// Reads the zowe.yaml at `path`. `env` looks up an environment variable. `env` is called only for `HOSTNAME`.
    ///
    /// # Errors
    /// [`Problems`] if the file cannot be read, is not YAML, or already has the section. The section needs a line of
    /// its own. So it is also an error if the value of `components` is in braces on one line.
    pub fn read(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        let report = Report::default();
        let template = read(path, env, &report);
        report.finish(template).map(|(template, _)| template)
    }

    /// Returns the address and the APPLID of z/OSMF (IBM's management server on z/OS), if the file has `zOSMF.host`.
    pub fn zosmf(&self) -> Option<&ZosmfSettings> {
        self.zosmf.as_ref()
    }

    /// Returns the directory of Zowe's static definitions below `zowe.workspaceDirectory`, if this directory exists on
    /// this machine.
    pub fn api_defs(&self) -> Option<&Path> {
        self.api_defs.as_deref()
    }

    /// Returns the certificate of Zowe's components, if `zowe.certificate.pem.certificate` names a file on this
    /// machine.
    pub fn certificate(&self) -> Option<&ZoweCertificate> {
        self.certificate.as_ref()
    }

    /// Returns the name of this machine. `None` if it is not known.
    pub fn host_name(&self) -> Option<&str> {
        self.host_name.as_deref()
    }

    /// Returns the text of the file with the section. `section` is the content of the section, as YAML that is not
    /// indented.
    pub fn with_section(&self, section: &str) -> String {
        let (before, after, indentation) = match &self.place {
            Place::End => (self.text.as_str(), "", "  "),
            Place::After { line, indentation } => {
                let end = self.text.split_inclusive('\n').take(*line).map(str::len).sum();
                let (before, after) = self.text.split_at(end);
                (before, after, indentation.as_str())
            }
        };
        let mut text = before.to_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        if matches!(self.place, Place::End) {
            text.push_str("components:\n");
        }
        text.push_str(&format!("{indentation}passticket-proxy:\n"));
        for line in section.lines() {
            if !line.is_empty() {
                text.push_str(&format!("{indentation}  {line}"));
            }
            text.push('\n');
        }
        text.push_str(after);
        text
    }
}

impl std::fmt::Debug for ZoweTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZoweTemplate").finish_non_exhaustive()
    }
}

fn read(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    report: &Report,
) -> Option<ZoweTemplate> {
    let bytes = match read_public_file(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            report.error(Problem::of_file(path, &error.to_string()));
            return None;
        }
    };
    let document = Document::parse(path.to_owned(), &bytes, report).with_templates(env);
    // If this fails, `Document::parse` has reported the encoding.
    let text = encoding::decode(&bytes).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
    let mut root = document.section(report);
    if !document.is_yaml() {
        return None;
    }
    let place = place(&mut root, &text)?;
    // Problems with other settings are not reported here, but when the finished file is loaded.
    let scratch = Report::default();
    let mut root = document.section(&scratch);
    let mut client = root.section("zowe").section("network").section("client").section("tls");
    let zosmf = logins::zosmf_peer(&mut client, &mut root.section("zOSMF")).settings();
    let workspace =
        root.section("zowe").optional("workspaceDirectory").and_then(|field| field.path());
    let api_defs = workspace.map(|workspace| workspace.join("api-mediation/api-defs"));
    let api_defs = api_defs.filter(|directory| directory.is_dir());
    let mut pem = root.section("zowe").section("certificate").section("pem");
    let certificate = pem.optional("certificate").and_then(|field| field.path());
    let certificate = certificate.and_then(|path| first_certificate(&path));
    let host_name = templates::host_name(env);
    Some(ZoweTemplate { text, place, zosmf, api_defs, certificate, host_name })
}

/// Returns the first certificate in a PEM file. `None` if the file cannot be read or has no certificate.
fn first_certificate(path: &Path) -> Option<ZoweCertificate> {
    let pem = read_public_file(path).ok()?;
    let der = CertificateDer::pem_slice_iter(&pem).next()?.ok()?;
    let certificate = PeerCertificate::from_der(&*der).ok()?;
    let subject = certificate.subject().chars().filter(|c| !c.is_control()).collect();
    Some(ZoweCertificate { sha256: Fingerprint::from(*certificate.sha256()), subject })
}

/// Finds the place for the section. On a problem, reports it and returns `None`.
fn place(root: &mut Section<'_>, text: &str) -> Option<Place> {
    if let Some(old) = root.present("passticketProxy") {
        old.at.error("is the section of this gateway already; check this file with: passticket-proxy check --config FILE");
        return None;
    }
    let Some(components) = root.present("components") else { return Some(Place::End) };
    let line = |number: usize| text.lines().nth(number.checked_sub(1)?);
    let key = line(components.at.line)?;
    if components.is_blank() && key.trim_end().ends_with("components:") {
        let indentation = "  ".to_owned();
        return Some(Place::After { line: components.at.line, indentation });
    }
    let children = components.section();
    let children = children.fields();
    if let Some((_, own)) = children.iter().find(|(name, _)| *name == "passticket-proxy") {
        own.at.error("is the section of this gateway already; check this file with: passticket-proxy check --config FILE");
        return None;
    }
    let first = children.iter().find_map(|(name, child)| {
        let text = line(child.at.line)?;
        let key = text.trim_start();
        let rest = key.strip_prefix(name)?;
        (child.at.line > components.at.line && rest.starts_with(':')).then_some(text)
    });
    let Some(first) = first else {
        components.at.error(
            "has no component that begins on a line of its own, so init cannot add one; write each component on its own \
             line, and run init again",
        );
        return None;
    };
    let indentation = first[..first.len() - first.trim_start().len()].to_owned();
    Some(Place::After { line: components.at.line, indentation })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn with_section(text: &str) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("zowe.yaml");
        fs::write(&path, text).unwrap();
        let template =
            ZoweTemplate::read(&path, &|_| None).map_err(|problems| problems.to_string());
        template.map(|template| template.with_section("a: 1\nb:\n  c: 2\n"))
    }

    #[test]
    fn the_section_is_the_first_component() {
        let section = "  passticket-proxy:\n    a: 1\n    b:\n      c: 2\n";
        let deeper = "    passticket-proxy:\n      a: 1\n      b:\n        c: 2\n";
        for (text, want) in [
            ("".to_owned(), format!("components:\n{section}")),
            ("x: 1".to_owned(), format!("x: 1\ncomponents:\n{section}")),
            ("components:\nx: 1\n".to_owned(), format!("components:\n{section}x: 1\n")),
            (
                "# c\ncomponents: # d\n  # e\n  gateway:\n    port: 1\nx: 1\n".to_owned(),
                format!("# c\ncomponents: # d\n{section}  # e\n  gateway:\n    port: 1\nx: 1\n"),
            ),
            (
                "components:\n    gateway: {port: 1}\n".to_owned(),
                format!("components:\n{deeper}    gateway: {{port: 1}}\n"),
            ),
        ] {
            assert_eq!(with_section(&text).as_deref(), Ok(&*want), "{text}");
        }
        for (text, want) in [
            (
                "components: {gateway: {port: 1}}\n",
                "has no component that begins on a line of its own",
            ),
            ("components:\n  passticket-proxy: {}\n", "is the section of this gateway already"),
            ("passticketProxy:\n  host: h\n", "is the section of this gateway already"),
            ("a: [\n", "zowe.yaml:"),
        ] {
            let problem = with_section(text).unwrap_err();
            assert!(problem.contains(want), "{text}: {problem}");
        }
    }

    #[test]
    fn zosmf_is_read_from_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("zowe.yaml");
        for (text, want) in [
            ("zOSMF: {host: zos, port: 10443, applId: IZU1}", Some(("https://zos:10443/", "IZU1"))),
            ("h: zos\nzOSMF: {host: '${{ h }}'}", Some(("https://zos:443/", "IZUDFLT"))),
            ("zOSMF: {host: ''}", None),
            ("x: 1", None),
        ] {
            fs::write(&path, text).unwrap();
            let template = ZoweTemplate::read(&path, &|_| None).unwrap();
            let zosmf = template.zosmf().map(|z| (z.address.to_string(), z.applid.to_string()));
            let zosmf = zosmf.as_ref().map(|(address, applid)| (&**address, &**applid));
            assert_eq!(zosmf, want, "{text}");
        }
    }
}
