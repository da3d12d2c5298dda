//! Parts of the gateway, and tasks that end with their part. A reload keeps a part if its settings have not changed.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;

/// A part of the gateway, with the settings that it was made from.
#[derive(Clone)]
pub(crate) struct Part<K, T> {
    settings: K,
    pub(crate) value: T,
    /// Whether the part was taken from the previous configuration.
    pub(crate) is_kept: bool,
}

impl<K: PartialEq, T: Clone> Part<K, T> {
    /// Keeps the previous part if it was made from the same settings. Otherwise calls `make`.
    pub(crate) fn keep_or_make<E>(
        previous: Option<&Self>,
        settings: K,
        make: impl FnOnce(Option<&T>) -> Result<T, E>,
    ) -> Result<Self, E> {
        match previous {
            Some(previous) if previous.settings == settings => {
                Ok(Self { settings, value: previous.value.clone(), is_kept: true })
            }
            _ => {
                let value = make(previous.map(|previous| &previous.value))?;
                Ok(Self { settings, value, is_kept: false })
            }
        }
    }
}

/// Settings that count as equal only if they are the same object.
pub(crate) struct Same<T>(pub(crate) Arc<T>);

impl<T> Clone for Same<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> PartialEq for Same<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The background task of a part. It is aborted when the last clone of this value is dropped.
#[derive(Clone, Default)]
pub(crate) struct Task(Arc<TaskState>);

#[derive(Default)]
struct TaskState(Mutex<Option<AbortHandle>>);

impl Task {
    /// Starts the task, unless it was started before.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(&self, task: impl FnOnce() -> F) {
        let mut running = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.get_or_insert_with(|| tokio::spawn(task()).abort_handle());
    }
}

impl Drop for TaskState {
    fn drop(&mut self) {
        let running = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running {
            running.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use super::*;

    #[test]
    fn a_part_is_kept_while_its_settings_are_the_same() {
        let part = |previous, settings: u8| {
            let make = |_: Option<&Arc<u8>>| Ok::<_, Infallible>(Arc::new(settings));
            let Ok(part) = Part::keep_or_make(previous, settings, make);
            part
        };
        let first = part(None, 1);
        let kept = part(Some(&first), 1);
        let other = part(Some(&kept), 2);
        assert!(!first.is_kept && kept.is_kept && !other.is_kept);
        assert!(Arc::ptr_eq(&first.value, &kept.value));
        assert_eq!(*other.value, 2);
    }

    #[tokio::test]
    async fn a_task_is_started_once_and_ends_with_its_part() {
        let alive = Arc::new(());
        let task = Task::default();
        for task in [task.clone(), task.clone()] {
            let alive = alive.clone();
            task.start(move || async move {
                pending::<()>().await;
                drop(alive);
            });
        }
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(task);
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
