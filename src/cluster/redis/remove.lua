-- Removes a lease if it has not changed. KEYS: epoch, leases. ARGV: epoch, replication id, name, lease.
if redis.call('HGET', KEYS[2], ARGV[3]) == ARGV[4] then
  return redis.call('HDEL', KEYS[2], ARGV[3])
end
return 0
