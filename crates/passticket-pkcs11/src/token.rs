//! A PKCS#11 token: its sessions, and what happens if it is removed.

use std::{
    collections::BTreeMap,
    fmt, mem,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use super::{
    calls::Calling,
    error::{Pkcs11Error, TRY_AGAIN_AFTER},
    module::Module,
    names::{KeyLabel, Pin, TokenLabel},
    session::{Access, TokenSession},
    threads::{THREADS, Threads, WAIT},
};

/// A token with its PIN. Clones refer to the same token.
///
/// Creating a value opens no session. The first computation loads the module, and uses the token. If the token is
/// removed, computations fail until it is connected again. Then a new session is opened with a new login.
#[derive(Clone)]
pub struct Token(Arc<Inner>);

struct Inner {
    module: Arc<Module>,
    label: TokenLabel,
    pin: Pin,
    threads: Arc<Threads>,
    state: Mutex<State>,
    /// Notified when a session is put back.
    put_back: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<TokenSession>,
    /// The number of sessions that the threads are using or opening now.
    in_use: usize,
    /// The number of the connection to the token. It increases when a session fails or cannot be opened, because the
    /// token may have been removed. Sessions with a lower number are closed and not used again.
    connection: u64,
    /// The last error of each key, and of the whole token (with the map key `None`). The instant is the time from which
    /// another attempt is allowed. A success removes the error of the token and the error of the key that was used.
    failed: BTreeMap<Option<KeyLabel>, (Pkcs11Error, Instant)>,
}

impl State {
    /// Returns the error that forbids another attempt with this key now. This is a recent error of this key or of the
    /// whole token, or an error about the PIN.
    fn refusal(&self, key: &KeyLabel, now: Instant) -> Option<&Pkcs11Error> {
        self.failed
            .iter()
            .filter(|(concerned, _)| concerned.as_ref().is_none_or(|it| it == key))
            .find(|(_, (error, again))| now < *again || !error.is_temporary())
            .map(|(_, (error, _))| error)
    }
}

impl Token {
    /// Describes the token with this label in a PKCS#11 module. `module` is the path of the shared library.
    pub fn new(module: &Path, label: TokenLabel, pin: Pin) -> Self {
        Self(Arc::new(Inner {
            module: Module::of(module),
            threads: Arc::new(Threads::new(label.clone())),
            label,
            pin,
            state: Mutex::default(),
            put_back: Condvar::new(),
        }))
    }

    /// Returns the label.
    pub fn label(&self) -> &TokenLabel {
        &self.0.label
    }

    /// Returns the path of the module.
    pub fn module(&self) -> &Path {
        self.0.module.path()
    }

    /// Returns why the token or one of its keys does not work, or `None` if there is no error. If there are several
    /// errors, returns one of them. An error of the token ends when a computation succeeds. An error of a key ends when
    /// a computation with this key succeeds. Time-outs and a full queue do not count as errors.
    pub fn problem(&self) -> Option<Pkcs11Error> {
        self.state().failed.values().next().map(|(error, _)| error.clone())
    }

    pub(super) fn threads(&self) -> &Arc<Threads> {
        &self.0.threads
    }

    /// Uses a session for a key. If a session that was opened earlier fails, tries once more with another session.
    pub(super) fn with_session<T>(
        &self,
        key: &KeyLabel,
        mut use_it: impl FnMut(&mut TokenSession) -> Result<T, Pkcs11Error>,
    ) -> Result<T, Pkcs11Error> {
        let _calling = self.begin()?;
        let mut is_first = true;
        loop {
            let (mut session, connection, is_new) = self.take(key)?;
            let error = match use_it(&mut session) {
                Ok(value) => {
                    self.put_back(session, connection, key);
                    return Ok(value);
                }
                Err(error) => error,
            };
            drop(session);
            self.free();
            self.lose(connection);
            // An idle session may be from the time before the token was removed and connected again. So after the first
            // error of an idle session, the loop tries once more.
            if is_new || !is_first {
                self.remember(key, &error);
                return Err(error);
            }
            is_first = false;
        }
    }

    /// Uses a new session that can change the token.
    pub(super) fn with_new_session<T>(
        &self,
        use_it: impl FnOnce(&mut TokenSession) -> Result<T, Pkcs11Error>,
    ) -> Result<T, Pkcs11Error> {
        let Inner { module, label, pin, .. } = &*self.0;
        let _calling = self.begin()?;
        use_it(&mut TokenSession::open(module, label, pin, Access::Write)?)
    }

    /// Permits the caller to call the module. Fails if the process exits.
    fn begin(&self) -> Result<Calling, Pkcs11Error> {
        Calling::begin().ok_or_else(|| Pkcs11Error::Ended { token: self.label().clone() })
    }

    /// Takes an idle session, or opens one. Also returns the number of its connection, and whether the session is new.
    fn take(&self, key: &KeyLabel) -> Result<(TokenSession, u64, bool), Pkcs11Error> {
        let Inner { module, label, pin, .. } = &*self.0;
        let until = Instant::now() + WAIT;
        let mut state = self.state();
        let connection = loop {
            let now = Instant::now();
            if let Some(error) = state.refusal(key, now) {
                return Err(error.clone());
            }
            if let Some(session) = state.idle.pop() {
                state.in_use += 1;
                return Ok((session, state.connection, false));
            }
            if state.in_use < THREADS {
                state.in_use += 1;
                break state.connection;
            }
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                return Err(Pkcs11Error::TimedOut { token: label.clone(), after: WAIT });
            }
            let waited = self.0.put_back.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        // The lock is not held while the module is called.
        drop(state);
        match TokenSession::open(module, label, pin, Access::Read) {
            Ok(session) => Ok((session, connection, true)),
            Err(error) => {
                self.free();
                self.lose(connection);
                self.remember(key, &error);
                Err(error)
            }
        }
    }

    /// Puts back a session that has worked. Closes the session if its connection has ended.
    fn put_back(&self, session: TokenSession, connection: u64, key: &KeyLabel) {
        let mut state = self.state();
        state.in_use -= 1;
        // A refused PIN stays refused: each further try brings the token nearer to its lock.
        state.failed.retain(|concerned, (error, _)| {
            !error.is_temporary() || concerned.as_ref().is_some_and(|it| it != key)
        });
        let old = if connection == state.connection {
            state.idle.push(session);
            None
        } else {
            Some(session)
        };
        drop(state);
        self.0.put_back.notify_one();
        // Closing a session calls the module, so the lock is released first.
        drop(old);
    }

    /// Lets another thread open a session, because one was closed or could not be opened.
    fn free(&self) {
        self.state().in_use -= 1;
        self.0.put_back.notify_one();
    }

    /// Closes the idle sessions of a connection after an error. Does nothing if the connection has already ended.
    fn lose(&self, connection: u64) {
        let mut state = self.state();
        let lost = match state.connection == connection {
            true => {
                state.connection += 1;
                mem::take(&mut state.idle)
            }
            false => Vec::new(),
        };
        drop(state);
        drop(lost);
    }

    /// Stores an error. An error about the key blocks this key for `TRY_AGAIN_AFTER`. Any other error blocks the whole
    /// token for this time. An error about the PIN blocks the whole token for as long as this [`Token`] exists.
    fn remember(&self, key: &KeyLabel, error: &Pkcs11Error) {
        let concerned = error.is_about_a_key().then(|| key.clone());
        let again = Instant::now() + TRY_AGAIN_AFTER;
        self.state().failed.insert(concerned, (error.clone(), again));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let idle = mem::take(&mut state.idle);
        if idle.is_empty() {
            return;
        }
        match Calling::begin() {
            // This value may be dropped on a thread of an async runtime, and closing a session may take long. So a new
            // thread closes the sessions. If no thread can be started, they are closed here.
            Some(calling) => {
                let close = move || {
                    drop(idle);
                    drop(calling);
                };
                let _ = thread::Builder::new().name("pkcs11-close".to_owned()).spawn(close);
            }
            // The sessions end with the process.
            None => mem::forget(idle),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("module", &self.module())
            .field("label", &self.label())
            .finish_non_exhaustive()
    }
}
