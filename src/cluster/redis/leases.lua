-- Returns all leases. KEYS: epoch, leases. ARGV: epoch, replication id.
return leases_of(KEYS[2])
