//! Tests of nodes in a simulation. The nodes run their real code, but the place, network, disk, clock and processes are
//! simulated. All nodes run in one thread and in virtual time, so a seed always gives the same run.

mod contract;
mod memory;
mod names;
mod network;
mod place;
mod process;
mod rules_of_now;
mod simulation;
mod tokens;
