//! The stories: async functions over a [`World`](super::World). Their names and summaries are in the catalogue.

pub(super) mod bond;
pub(super) mod closing;
pub(super) mod durable;
pub(super) mod example7;
pub(super) mod locks;
mod malleate;
pub(super) mod restart;
pub(super) mod script_refund;
pub(super) mod stepped;
pub(super) mod vanish;
