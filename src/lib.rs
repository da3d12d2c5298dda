//! Tower layers.

pub mod clock;
pub mod identity;
pub mod message;
pub mod passticket;
pub mod revocation;
pub mod token;
