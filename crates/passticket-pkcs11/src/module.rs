//! PKCS#11 modules: the shared libraries of token vendors.
//!
//! A module can be initialized (`C_Initialize`) only once in a process, and all tokens of the process share it. So this file
//! has a list of the modules of the process. Many modules notice a new or replaced token only after `C_Finalize` and a new
//! `C_Initialize`. A module is finalized when no session needs it any more.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
};

use super::error::{Pkcs11Error, ReturnCode};

/// The modules of this process, by path. A module stays in the list, because unloading it may crash the process: some
/// modules leave handlers for the end of the process.
static MODULES: Mutex<BTreeMap<PathBuf, Arc<Module>>> = Mutex::new(BTreeMap::new());

/// A shared library.
pub(super) struct Module {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The functions of the library. `None` if the library was not loaded yet.
    library: Option<Pkcs11>,
    /// The initialized module, while a session needs it.
    initialized: Weak<Initialized>,
}

/// Keeps a module initialized. Dropping the last clone finalizes the module.
pub(super) struct Initialized {
    module: Arc<Module>,
    library: Pkcs11,
    /// Whether this process has initialized the module here, and not elsewhere.
    is_ours: bool,
}

impl Module {
    /// Returns the module with this path. The library is loaded by [`initialized`](Self::initialized).
    pub(super) fn of(path: &Path) -> Arc<Self> {
        let mut modules = lock(&MODULES);
        let new = || Arc::new(Self { path: path.to_owned(), state: Mutex::default() });
        modules.entry(path.to_owned()).or_insert_with(new).clone()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Loads and initializes the module, unless this was done before.
    pub(super) fn initialized(self: &Arc<Self>) -> Result<Arc<Initialized>, Pkcs11Error> {
        let mut state = lock(&self.state);
        if let Some(initialized) = state.initialized.upgrade() {
            return Ok(initialized);
        }
        let library = match &state.library {
            Some(library) => library.clone(),
            None => Pkcs11::new(&self.path).map_err(|error| self.failed(&error))?,
        };
        state.library = Some(library.clone());
        let is_ours =
            match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
                Ok(()) => true,
                Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => false,
                Err(error) => return Err(self.failed(&error)),
            };
        let initialized = Arc::new(Initialized { module: self.clone(), library, is_ours });
        state.initialized = Arc::downgrade(&initialized);
        Ok(initialized)
    }

    fn failed(&self, error: &Error) -> Pkcs11Error {
        let reason = match error {
            Error::LibraryLoading(error) => error.to_string(),
            other => ReturnCode::of(other).to_string(),
        };
        Pkcs11Error::Module { path: self.path.clone(), reason: reason.into() }
    }
}

impl Initialized {
    pub(super) fn library(&self) -> &Pkcs11 {
        &self.library
    }
}

impl Drop for Initialized {
    fn drop(&mut self) {
        if self.is_ours {
            // The lock keeps another thread from initializing the module before it is finalized.
            let _state = lock(&self.module.state);
            // A module that cannot be finalized reports this when it is initialized again.
            let _ = self.library.clone().finalize();
        }
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("path", &self.path).finish_non_exhaustive()
    }
}

impl fmt::Debug for Initialized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initialized").field("module", &self.module).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
