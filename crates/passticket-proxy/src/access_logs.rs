//! The access log of the running configuration. A reload can open, replace and close it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use passticket_proxy::config::{AccessLogSettings, Config};
use tower_passticket::{
    access_log::{AccessLog, AccessLogError},
    health::Health,
    metrics::{Collect, Exposition},
};

/// The access log in use, if there is one.
#[derive(Clone, Default)]
pub(crate) struct AccessLogs(Arc<Mutex<Current>>);

type Current = Option<(AccessLogSettings, AccessLog)>;

/// The access log of a new configuration, for [`AccessLogs::replace`]. `None` if the configuration has no access log.
pub(crate) struct Prepared(Current);

impl AccessLogs {
    /// Opens the access log of a configuration. This function blocks while it works on the file.
    pub(crate) fn open(config: &Config) -> Result<Self, AccessLogError> {
        let logs = Self::default();
        let prepared = logs.prepare(config)?;
        logs.replace(prepared);
        Ok(logs)
    }

    /// Opens the access log of a new configuration. If its settings are those of the current access log, returns the
    /// current one. This function blocks while it works on the file.
    ///
    /// # Errors
    /// If the file cannot be opened. In this case, the current access log stays in use.
    pub(crate) fn prepare(&self, config: &Config) -> Result<Prepared, AccessLogError> {
        let Some(settings) = &config.access_log else { return Ok(Prepared(None)) };
        if let Some((current, log)) = &*self.lock()
            && current == settings
        {
            return Ok(Prepared(Some((current.clone(), log.clone()))));
        }
        let log = AccessLog::open(&settings.file, settings.options())?;
        Ok(Prepared(Some((settings.clone(), log))))
    }

    /// Replaces the access log. The old access log writes its last lines when the last request that uses it has ended.
    pub(crate) fn replace(&self, Prepared(new): Prepared) {
        let _old = std::mem::replace(&mut *self.lock(), new);
    }

    pub(crate) fn current(&self) -> Option<AccessLog> {
        self.lock().as_ref().map(|(_, log)| log.clone())
    }

    /// Opens the file again if another program has renamed or removed it.
    pub(crate) fn reopen(&self) {
        if let Some(log) = self.current() {
            log.reopen();
        }
    }

    /// Writes the last lines, and waits until they are written.
    pub(crate) fn close(&self) {
        if let Some(log) = self.current() {
            log.close();
        }
    }

    /// Returns the health of the access log. `None` if there is no access log.
    pub(crate) fn health(&self) -> Option<Health> {
        self.current().map(|log| log.health())
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collect for AccessLogs {
    fn collect(&self, exposition: &mut Exposition) {
        if let Some(log) = self.current() {
            log.collect(exposition);
        }
    }
}
