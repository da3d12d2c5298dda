//! PKCS#11 modules: the shared libraries of token vendors.
//!
//! A module can be initialized (`C_Initialize`) only once in a process, so all tokens that use the same module share
//! it. This file has a list of the modules of the process. Many modules notice a new or replaced token only after
//! `C_Finalize` and a new `C_Initialize`. So a module is finalized as soon as no session uses it, unless other code of
//! the process has initialized it. The next session then finds a replaced token.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
};

use super::error::{Pkcs11Error, ReturnCode};

/// The modules of this process, by path. A module stays in the list, because unloading it may crash the process: some
/// modules leave handlers for the end of the process.
static MODULES: Mutex<BTreeMap<PathBuf, Arc<Module>>> = Mutex::new(BTreeMap::new());

pub(super) struct Module {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The functions of the library. `None` if the library was not loaded yet.
    library: Option<Pkcs11>,
    /// The number of values of [`Initialized`]. The same lock protects this number and the calls of `C_Initialize` and
    /// `C_Finalize`. So no value can be created while the module is finalized.
    users: usize,
    /// Whether this crate has initialized the module, and so must finalize it. `false` if other code of the process has
    /// initialized the module. Stays `true` if `C_Finalize` fails.
    is_ours: bool,
}

/// Keeps a module initialized. When the last value is dropped, the module is finalized, if this crate has initialized
/// it.
pub(super) struct Initialized {
    module: Arc<Module>,
    library: Pkcs11,
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

    /// Returns the initialized module. Loads and initializes the library if necessary.
    pub(super) fn initialized(self: &Arc<Self>) -> Result<Initialized, Pkcs11Error> {
        let mut state = lock(&self.state);
        let library = match &state.library {
            Some(library) => library.clone(),
            None => Pkcs11::new(&self.path).map_err(|error| self.failed(&error))?,
        };
        state.library = Some(library.clone());
        if state.users == 0 {
            match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
                Ok(()) => state.is_ours = true,
                // Other code has initialized the module (`is_ours` is `false`), or our last `C_Finalize` has failed
                // (`is_ours` is `true`).
                Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        state.users += 1;
        Ok(Initialized { module: self.clone(), library })
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
        let mut state = lock(&self.module.state);
        state.users -= 1;
        if state.users == 0 && state.is_ours {
            // If this fails, the module stays initialized. This code tries again when the next sessions have ended.
            let finalized = self.library.clone().finalize();
            let is_over = matches!(
                finalized,
                Ok(()) | Err(Error::Pkcs11(RvError::CryptokiNotInitialized, _))
            );
            state.is_ours = !is_over;
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
