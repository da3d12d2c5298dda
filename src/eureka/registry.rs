//! The list of registered instances.

use std::collections::BTreeMap;

use super::instance::{Instance, InstanceStatus};

/// The registered instances of all services, sorted by service and id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    /// The key is the service and the id.
    instances: BTreeMap<(String, String), Instance>,
}

impl Registry {
    /// Returns all instances.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// Returns the number of instances.
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Returns whether there are no instances.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// Returns the hash code (`apps__hashcode`): each status with the number of its instances, sorted by status, such
    /// as `DOWN_1_UP_2_`.
    pub fn hash_code(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for instance in self.instances() {
            *counts.entry(instance.status.as_str()).or_default() += 1;
        }
        counts.into_iter().map(|(status, count)| format!("{status}_{count}_")).collect()
    }

    /// Returns the number of instances with this status.
    pub fn count(&self, status: InstanceStatus) -> usize {
        self.instances().filter(|instance| instance.status == status).count()
    }

    pub(super) fn insert(&mut self, instance: Instance) {
        self.instances.insert((instance.app.clone(), instance.id.clone()), instance);
    }

    pub(super) fn remove(&mut self, instance: Instance) {
        self.instances.remove(&(instance.app, instance.id));
    }
}

impl FromIterator<Instance> for Registry {
    fn from_iter<I: IntoIterator<Item = Instance>>(instances: I) -> Self {
        let mut registry = Self::default();
        instances.into_iter().for_each(|instance| registry.insert(instance));
        registry
    }
}
