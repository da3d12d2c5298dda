//! SoftHSM: PKCS#11 tokens in the file system.
//!
//! Debian's package `softhsm2` contains SoftHSM. Each [`SoftHsm`] has its own tokens, in a temporary directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

/// The PIN of the user of each token.
pub const PIN: &str = "correct horse 42";

/// The paths at which Debian and Fedora install the PKCS#11 module of SoftHSM.
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
];

fn installed_module() -> Option<PathBuf> {
    MODULES.into_iter().map(PathBuf::from).find(|path| path.exists())
}

/// The environment variable that contains the path of SoftHSM's configuration.
pub const CONFIGURATION: &str = "SOFTHSM2_CONF";

/// The tokens of one SoftHSM. They are deleted when this value is dropped.
#[derive(Debug)]
pub struct SoftHsm {
    directory: PathBuf,
    module: PathBuf,
    /// `None` if the parent process deletes the directory.
    _temporary: Option<TempDir>,
}

impl SoftHsm {
    /// Makes a SoftHSM without a token. If SoftHSM is not installed, returns `None`, and prints that the test did
    /// nothing.
    ///
    /// # Panics
    /// This function panics in CI if SoftHSM is not installed.
    pub fn new() -> Option<Self> {
        let module = installed_module();
        assert!(module.is_some() || std::env::var_os("CI").is_none(), "CI needs softhsm2");
        let Some(module) = module else {
            #[expect(
                clippy::print_stderr,
                reason = "the developer must see that the test did nothing"
            )]
            {
                eprintln!("the test did nothing: softhsm2 is not installed");
            }
            return None;
        };
        let temporary = TempDir::new().unwrap();
        let directory = temporary.path().to_owned();
        let hsm = Self { directory, module, _temporary: Some(temporary) };
        fs::create_dir(hsm.tokens()).unwrap();
        let text =
            format!("directories.tokendir = {}\nlog.level = ERROR\n", hsm.tokens().display());
        fs::write(hsm.configuration(), text).unwrap();
        Some(hsm)
    }

    /// Returns the SoftHSM that the parent process has made, from the environment variable [`CONFIGURATION`].
    pub fn of_parent() -> Self {
        let configuration = PathBuf::from(std::env::var_os(CONFIGURATION).unwrap());
        let directory = configuration.parent().unwrap().to_owned();
        Self { directory, module: installed_module().unwrap(), _temporary: None }
    }

    /// Makes a token with this label and [`PIN`].
    #[must_use]
    pub fn with_token(self, label: &str) -> Self {
        let args =
            ["--init-token", "--free", "--label", label, "--so-pin", "87654321", "--pin", PIN];
        let output = self.run("softhsm2-util", &args);
        assert!(output.status.success(), "{output:?}");
        self
    }

    /// Runs a program that uses these tokens.
    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        Command::new(program).args(args).env(CONFIGURATION, self.configuration()).output().unwrap()
    }

    /// Returns the path of the PKCS#11 module.
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// Returns the path of the configuration.
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("softhsm2.conf")
    }

    fn tokens(&self) -> PathBuf {
        self.directory.join("tokens")
    }

    fn removed(&self) -> PathBuf {
        self.directory.join("removed")
    }

    /// Removes all tokens. [`bring_tokens_back`](Self::bring_tokens_back) restores them.
    pub fn remove_tokens(&self) {
        fs::rename(self.tokens(), self.removed()).unwrap();
        fs::create_dir(self.tokens()).unwrap();
    }

    /// Brings the removed tokens back.
    pub fn bring_tokens_back(&self) {
        fs::remove_dir(self.tokens()).unwrap();
        fs::rename(self.removed(), self.tokens()).unwrap();
    }

    /// Returns all bytes of the files of the tokens.
    pub fn stored_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for token in fs::read_dir(self.tokens()).unwrap() {
            for file in fs::read_dir(token.unwrap().path()).unwrap() {
                bytes.extend(fs::read(file.unwrap().path()).unwrap());
            }
        }
        bytes
    }
}
