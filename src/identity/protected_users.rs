//! Ensures that identities from registries outside z/OS are never mapped to certain users.

use std::{collections::HashSet, fmt, sync::Arc};

use super::{
    distributed::DistributedIdentity,
    mapper::{DistributedMapper, MapError, MapFuture},
};
use crate::{log_limit::log_limited, passticket::UserId};

/// A [`DistributedMapper`] that maps no identity to certain users, such as the gateway's own user id.
///
/// An administrator of an identity provider can issue a token for any name of the registry. If such a name is mapped to
/// the user id of the gateway by mistake, this administrator can act as the gateway. To prevent this, if the inner
/// mapper maps an identity to a protected user, this mapper returns [`MapError::NotMapped`].
///
/// ```
/// use tower_passticket::{
///     identity::{DistributedIdentity, DistributedMap, DistributedMapper, MapError, ProtectedUsers},
///     passticket::UserId,
/// };
///
/// # tokio_test::block_on(async {
/// let jane = DistributedIdentity::new("jane@example.com", "ldaps://us.example.com")?;
/// let root = DistributedIdentity::new("root@example.com", "ldaps://us.example.com")?;
/// let gateway = UserId::new("ZWESVUSR")?;
/// let map = DistributedMap::new([(jane.clone(), UserId::new("JANE")?), (root.clone(), gateway)])?;
/// let mapper = ProtectedUsers::new(map, [gateway]);
///
/// assert_eq!(mapper.map_identity(&jane).await, Ok(UserId::new("JANE")?));
/// assert_eq!(mapper.map_identity(&root).await, Err(MapError::NotMapped));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct ProtectedUsers<M> {
    mapper: M,
    users: Arc<HashSet<UserId>>,
}

impl<M> ProtectedUsers<M> {
    /// Maps identities as `mapper` does, but to none of `users`.
    pub fn new(mapper: M, users: impl IntoIterator<Item = UserId>) -> Self {
        Self { mapper, users: Arc::new(users.into_iter().collect()) }
    }
}

impl<M: DistributedMapper> DistributedMapper for ProtectedUsers<M> {
    fn map_identity(&self, identity: &DistributedIdentity) -> MapFuture {
        let (mapping, users) = (self.mapper.map_identity(identity), self.users.clone());
        Box::pin(async move {
            let user = mapping.await?;
            if users.contains(&user) {
                log_limited!(
                    warn, ("protected user", user), { %user },
                    "an identity from a registry outside z/OS is mapped to a protected user; the identity is refused"
                );
                return Err(MapError::NotMapped);
            }
            Ok(user)
        })
    }
}

impl<M> fmt::Debug for ProtectedUsers<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtectedUsers").field("users", &self.users).finish_non_exhaustive()
    }
}
