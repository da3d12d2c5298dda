-- Returns all leases. KEYS: epoch, leases, asked. ARGV: epoch, replication id.
-- The write makes Redis refuse the script if it may not write. An old primary that has lost its replicas would otherwise
-- show leases of nodes that have moved to the new primary.
redis.call('SET', KEYS[3], '1')
return leases_of(KEYS[2])
