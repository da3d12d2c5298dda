//! The state that the handles to the file and its thread share.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize},
};

use super::options::AccessLogOptions;

#[derive(Debug)]
pub(super) struct State {
    pub(super) path: PathBuf,
    pub(super) options: AccessLogOptions,
    /// The number of requests that are in the queue, or that a thread is about to add. A thread increments this number
    /// before it reads `is_closed`. So if `is_closed` is `true` and this number is 0, no more requests are added.
    pub(super) waiting: AtomicUsize,
    pub(super) is_closed: AtomicBool,
    pub(super) must_reopen: AtomicBool,
    /// Whether the last write failed, or the file at the path could not be opened.
    pub(super) is_stuck: AtomicBool,
    pub(super) written: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) write_errors: AtomicU64,
}

impl State {
    pub(super) fn new(path: PathBuf, options: AccessLogOptions) -> Self {
        Self {
            path,
            options,
            waiting: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            must_reopen: AtomicBool::new(false),
            is_stuck: AtomicBool::new(false),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            write_errors: AtomicU64::new(0),
        }
    }
}
