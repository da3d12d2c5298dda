//! A simulated process.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{task::AbortHandle, time::Instant};

use super::{memory::Memory, network::Network};
use crate::cluster::{
    ClusterError, ClusterNode, ClusterOptions, HandedOverLease,
    boot_clock::{BootClock, BootTime},
    coordinator::Incarnation,
    rules::Rules,
    shared::{Parts, Spawn},
};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Clone, Debug, Default)]
pub(super) struct Process(Arc<Mutex<Tasks>>);

#[derive(Debug, Default)]
struct Tasks {
    is_stopped: bool,
    is_dead: bool,
    waiting: Vec<Waker>,
    handles: Vec<AbortHandle>,
}

/// A task that runs only while its process is not stopped.
struct Gated {
    process: Process,
    task: Task,
}

impl Future for Gated {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        {
            let mut tasks = self.process.0.lock().unwrap();
            if tasks.is_stopped {
                tasks.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
        }
        self.task.as_mut().poll(context)
    }
}

impl Process {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if self.0.lock().unwrap().is_dead {
            return;
        }
        let gated = Gated { process: self.clone(), task: Box::pin(task) };
        let handle = tokio::spawn(gated).abort_handle();
        let mut tasks = self.0.lock().unwrap();
        tasks.handles.retain(|handle| !handle.is_finished());
        tasks.handles.push(handle);
    }

    /// Does what the signal `SIGSTOP` does.
    pub(super) fn stop(&self) {
        self.0.lock().unwrap().is_stopped = true;
    }

    /// Does what the signal `SIGCONT` does.
    pub(super) fn resume(&self) {
        let mut tasks = self.0.lock().unwrap();
        tasks.is_stopped = false;
        tasks.waiting.drain(..).for_each(Waker::wake);
    }

    /// Does what the signal `SIGKILL` does. Messages that the process has sent still arrive.
    pub(super) fn kill(&self) {
        let mut tasks = self.0.lock().unwrap();
        tasks.is_dead = true;
        let handles = std::mem::take(&mut tasks.handles);
        drop(tasks);
        handles.iter().for_each(AbortHandle::abort);
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.0.lock().unwrap().is_dead
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.lock().unwrap().is_stopped
    }

    fn spawner(&self) -> Spawn {
        let process = self.clone();
        Arc::new(move |task| process.spawn(task))
    }
}

/// The clock by which a simulated node measures leases. It follows the paused clock of tokio.
#[derive(Debug)]
struct VirtualClock(Instant);

impl BootClock for VirtualClock {
    fn now(&self) -> BootTime {
        BootTime::default().plus(Duration::from_secs(1000) + self.0.elapsed())
    }
}

pub(super) async fn start(
    process: &Process,
    options: ClusterOptions,
    memory: &Memory,
    network: &Network,
    rules: Rules,
    inherited: Option<HandedOverLease>,
) -> Result<ClusterNode, ClusterError> {
    let HandedOverLease { incarnation, number } =
        inherited.unwrap_or_else(|| HandedOverLease { incarnation: Incarnation::new(), number: 0 });
    let parts = Parts {
        memory: Arc::new(memory.clone()),
        coordinator: Arc::new(network.clone()),
        clock: Arc::new(VirtualClock(Instant::now())),
        spawn: process.spawner(),
        options: options.with_lease(rules.lease),
        rules,
        incarnation,
        number,
    };
    ClusterNode::start_with(parts).await
}
