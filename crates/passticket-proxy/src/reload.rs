//! Reads the configuration again in three cases: one of its files has changed, the process has received SIGHUP, or a
//! client of the admin port requests it (docs/decisions.md#d30).
//!
//! The new configuration is read and checked, and all its parts are built, before anything is replaced. If there is a
//! problem, nothing changes.

use std::{path::PathBuf, sync::Arc, time::Duration};

use passticket_proxy::config::{Config, Loaded, Problem, SourceFiles};
use tokio::{
    sync::{Notify, mpsc},
    task,
};

use crate::{
    access_logs::{AccessLogs, Prepared},
    changes::{self, Started},
    logging,
    part::Task,
    reloads::{Outcome, ReloadRequest, Reloads},
    stack::{self, Kept, Parts},
    systemd::Notifier,
    watch::{Polled, Watch},
    workers::SharedListeners,
};

/// Interval between two polls. After a change of a file, the first poll notices the change, and the second poll reads
/// the files.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// If a file changes while a requested reload reads it, the reload reads all files again. This is the maximum number of
/// attempts.
const TRIES: usize = 5;

/// A configuration that was read, with the parts that were built from it.
pub(crate) struct Checked {
    pub(crate) config: Config,
    pub(crate) warnings: Vec<Problem>,
    pub(crate) parts: Parts,
}

/// Reads and checks the configuration, and builds its parts. Also returns the files that were read. This function
/// blocks the thread.
pub(crate) fn read(
    file: &std::path::Path,
    previous: Option<&Parts>,
) -> (Result<Checked, Vec<String>>, SourceFiles) {
    let (loaded, files) = Config::load_with_sources(file, &|name| std::env::var(name).ok());
    let checked = match loaded {
        Ok(Loaded { config, warnings, .. }) => match stack::parts(&config, previous) {
            Ok(parts) => Ok(Checked { config, warnings, parts }),
            Err(error) => Err(vec![format!("{}: {error}", file.display())]),
        },
        Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
    };
    (checked, files)
}

/// Builds the services of a configuration, and replaces the running services.
pub(crate) type Install = Box<dyn Fn(&Config, &Parts, &Kept) + Send>;

pub(crate) struct Running {
    pub(crate) file: PathBuf,
    pub(crate) files: SourceFiles,
    pub(crate) config: Config,
    /// The settings that only a restart changes.
    pub(crate) started: Started,
    pub(crate) warnings: Vec<Problem>,
    pub(crate) parts: Parts,
    pub(crate) kept: Kept,
    pub(crate) access_logs: AccessLogs,
    pub(crate) install: Install,
    pub(crate) listeners: SharedListeners,
    /// The task that removes expired revocations and records the uses of Personal Access Tokens.
    pub(crate) evicting: Task,
    pub(crate) evict: Box<dyn Fn(&Config) -> Task + Send>,
}

/// Reloads the configuration until the task of this function is aborted, or until a reload panics.
/// `hangup` is notified on SIGHUP.
pub(crate) async fn keep_current(
    mut running: Running,
    reloads: Arc<Reloads>,
    hangup: Arc<Notify>,
    mut requests: mpsc::Receiver<ReloadRequest>,
    systemd: Notifier,
) {
    let mut polls = tokio::time::interval(POLL_EVERY);
    // A reload may take longer than the interval.
    polls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut watch = Watch::new(&running.files);
    loop {
        let (is_requested, request) = tokio::select! {
            _ = polls.tick() => (false, None),
            () = hangup.notified() => (true, None),
            Some(request) = requests.recv() => (true, Some(request)),
        };
        if is_requested {
            systemd.reloading();
        }
        // The reload runs on a thread for blocking work for two reasons. The file system may be slow, for example a
        // network file system. The certificates of all connections may have to be verified.
        let reloaded = task::spawn_blocking(move || {
            let outcome = match is_requested {
                true => running.reload_now(&mut watch),
                false => running.poll(&mut watch),
            };
            (running, watch, outcome)
        });
        let outcome = match reloaded.await {
            Ok((now, after, outcome)) => {
                (running, watch) = (now, after);
                outcome
            }
            Err(error) => {
                systemd.ready("reloads have ended because of an error in the program");
                // The failed task owned the data that a reload needs, so no other reload is possible. The gateway
                // continues to serve requests with the last configuration.
                tracing::error!(%error, "reloads have ended; restart the program, and report what its log says");
                reloads.add(&Outcome::Failed(vec![
                    "reloads have ended because of an error; restart the program".to_owned(),
                ]));
                return;
            }
        };
        if let Some(outcome) = outcome {
            running.parts.start_tasks();
            log(&outcome, is_requested, reloads.health().is_up());
            reloads.add(&outcome);
            systemd.ready(match reloads.health().is_up() {
                true => "the configuration is up to date",
                false => "configuration not reloaded; see the log",
            });
            if let Some(request) = request {
                // An error means that the client did not wait for the answer.
                let _ = request.send(outcome);
            }
        }
    }
}

/// Logs the result of a reload. `was_up` says whether the previous reload had no problem.
fn log(outcome: &Outcome, is_requested: bool, was_up: bool) {
    match outcome {
        Outcome::Reloaded { files, changes, warnings } => {
            for warning in warnings {
                tracing::warn!(%warning, "configuration");
            }
            let (files, changes) = (files.join(", "), changes.join(", "));
            tracing::info!(%files, %changes, "configuration reloaded");
        }
        Outcome::Unchanged if is_requested => {
            tracing::info!("configuration not reloaded: the files have not changed");
        }
        Outcome::Unchanged if was_up => {}
        Outcome::Unchanged => {
            tracing::info!("the files of the configuration have no problem any more");
        }
        Outcome::Failed(problems) => {
            for problem in problems {
                tracing::error!(%problem, "configuration not reloaded");
            }
        }
        Outcome::Changing => {
            tracing::warn!("configuration not reloaded: a file changed while it was read");
        }
    }
}

impl Running {
    fn reload_now(&mut self, watch: &mut Watch) -> Option<Outcome> {
        // logrotate sends SIGHUP after it has renamed the access log.
        self.access_logs.reopen();
        for _ in 0..TRIES {
            match watch.poll_now(|| self.read()) {
                Polled::Changing => {}
                Polled::Nothing => return Some(Outcome::Unchanged),
                Polled::Read((checked, log), files) => {
                    return Some(self.replace(checked, log, files));
                }
                Polled::Problems(problems) => return Some(Outcome::Failed(problems)),
            }
        }
        Some(Outcome::Changing)
    }

    fn poll(&mut self, watch: &mut Watch) -> Option<Outcome> {
        match watch.poll(|| self.read()) {
            Polled::Changing | Polled::Nothing => None,
            Polled::Read((checked, log), files) => Some(self.replace(checked, log, files)),
            Polled::Problems(problems) => Some(Outcome::Failed(problems)),
        }
    }

    /// Reads the configuration, and opens its access log. An access log that cannot be opened counts as a problem of
    /// the configuration, so the next poll tries again.
    fn read(&self) -> (Result<(Checked, Prepared), Vec<String>>, SourceFiles) {
        let (checked, files) = read(&self.file, Some(&self.parts));
        let checked = checked.and_then(|checked| match self.access_logs.prepare(&checked.config) {
            Ok(access_log) => Ok((checked, access_log)),
            Err(error) => {
                let file = self.file.display();
                Err(vec![format!("{file}: components.passticket-proxy.accessLog: {error}")])
            }
        });
        (checked, files)
    }

    /// Replaces the configuration. If the content of all files is the same as before, the old configuration stays.
    fn replace(&mut self, checked: Checked, access_log: Prepared, files: SourceFiles) -> Outcome {
        let changed = files.changed_since(&self.files);
        let changed: Vec<_> = changed.map(|path| path.display().to_string()).collect();
        if changed.is_empty() {
            self.files = files;
            return Outcome::Unchanged;
        }
        let Checked { config, warnings, parts } = checked;
        self.files = files;
        self.access_logs.replace(access_log);
        let mut changes = changes::describe(&self.config, &config);
        let mut texts: Vec<_> = warnings
            .iter()
            .filter(|warning| !self.warnings.contains(warning))
            .map(ToString::to_string)
            .collect();
        texts.extend(self.started.need_restart(&self.file, &config));
        self.kept.continue_with(&config, &parts);
        // The new settings of the listener may accept the certificate of a new forwarder. The forwarders take effect
        // before these settings. Otherwise, the old services would use the certificate of the forwarder as a
        // credential.
        if let Some(forwarders) = parts.forwarders() {
            forwarders.take_effect();
        }
        // Replace the settings of the listener before the services, so that a connection with a revoked certificate
        // never reaches the new services.
        let closed = self.listeners.replace(&config, &parts, self.access_logs.current());
        (self.install)(&config, &parts, &self.kept);
        if closed > 0 {
            changes.push(format!(
                "{closed} connections closed: their client certificate is no longer accepted"
            ));
        }
        logging::set_format(config.log_format);
        if config.log_level != self.config.log_level {
            logging::set_level(config.log_level.as_ref());
        }
        let has_new_permissions = config
            .saf_file
            .as_ref()
            .is_some_and(|file| changed.contains(&file.display().to_string()));
        if has_new_permissions || config.saf_file != self.config.saf_file {
            tracing::info!("permissions reloaded");
            changes.push("permissions".to_owned());
        }
        if config.evict_every != self.config.evict_every {
            self.evicting = (self.evict)(&config);
        }
        (self.config, self.parts, self.warnings) = (config, parts, warnings);
        Outcome::Reloaded { files: changed, changes, warnings: texts }
    }
}
