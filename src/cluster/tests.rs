//! Tests of nodes in a simulation: the real code of nodes, with a simulated place, network, disk, clock and processes. All
//! run in one thread, and in a virtual time. So a seed always gives the same run.

mod contract;
mod memory;
mod names;
mod network;
mod place;
mod process;
mod rules_of_now;
mod simulation;
mod tokens;
