-- Returns all leases. KEYS: epoch, leases, asked. ARGV: epoch, replication id.
-- The script writes a key so that a server that may not write refuses it. Otherwise, an old primary that has lost its
-- replicas would show leases of nodes that have moved to the new primary.
redis.call('SET', KEYS[3], '1')
return leases_of(KEYS[2])
