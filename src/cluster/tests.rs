//! Tests of nodes in a simulation. The nodes run their real code. The *place* (the store that the nodes share, such as
//! Redis), the network, the disk, the clock and the processes are simulated. All nodes run in one thread and in virtual
//! time. So the same seed always gives the same run.

mod contract;
mod memory;
mod names;
mod network;
mod place;
mod process;
mod rules_of_now;
mod simulation;
mod tokens;
