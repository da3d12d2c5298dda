-- Returns all leases. KEYS: epoch, leases, asked. ARGV: epoch, replication id.
-- The script writes a key so that a server that may not write refuses it. Otherwise, an old primary could return its
-- leases, although it lacks the new leases of the nodes that use the new primary.
redis.call('SET', KEYS[3], '1')
return leases_of(KEYS[2])
