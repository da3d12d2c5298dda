//! Ends this process together with its parent. The second node of the demo uses this.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::exit::Exit;

/// Lets the kernel send SIGTERM to this process when its parent, the process `parent`, ends. The kernel also sends the
/// signal when the thread that has started this process ends.
pub(crate) fn end_with(parent: i32) -> Result<(), Exit> {
    let failed = |error| {
        Exit::runtime(format!(
            "cannot make this process end together with its parent {parent}: {error}"
        ))
    };
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(failed)?;
    // The parent may have ended before this call.
    if getppid() == Pid::from_raw(parent) {
        return Ok(());
    }
    Err(Exit::runtime(format!("the process {parent}, which has started this node, has ended")))
}
