//! The memory of a node in a file. This is a placeholder until `DurableStore` has its own implementation.

use std::future::ready;

use super::memory::{Followed, NodeMemory, NodeWrite};
use crate::revocation::{DurableStore, Record, StoreError, StoreFuture};

fn unsupported<T: Send + 'static>() -> StoreFuture<T> {
    Box::pin(ready(Err(StoreError::Ended { store: "the revocation file".into() })))
}

impl NodeMemory for DurableStore {
    fn write(&self, _: NodeWrite) -> StoreFuture<Vec<Record>> {
        unsupported()
    }

    fn apply(&self, _: Vec<Record>, _: Option<Followed>) -> StoreFuture<Vec<Record>> {
        unsupported()
    }

    fn export(&self, _: Option<Record>, _: usize) -> StoreFuture<Vec<Record>> {
        unsupported()
    }

    fn followed(&self) -> Option<Followed> {
        None
    }
}
