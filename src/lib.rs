//! Tower layers.

pub mod clock;
pub mod passticket;
