-- Stores a lease. Returns 1, the id of the last entry of the log, and all leases; or 0 and the lease of another process
-- with this name.
-- KEYS: epoch, log, leases. ARGV: epoch, replication id, name, incarnation, the rest of the lease, the incarnation that
-- may be replaced (or nothing).
local old = redis.call('HGET', KEYS[3], ARGV[3])
if old then
  local other = string.match(old, '^%x+')
  if other ~= ARGV[4] and other ~= ARGV[6] then
    return {0, old}
  end
  local number = tonumber(string.match(old, '^%x+ (%d+) '))
  if other == ARGV[4] and number and number > tonumber(string.match(ARGV[5], '^%d+')) then
    return redis.error_reply('TPTERM a later renewal has already arrived')
  end
end
local last = last_id(KEYS[2])
redis.call('HSET', KEYS[3], ARGV[3], ARGV[4] .. ' ' .. ARGV[5])
local leases = leases_of(KEYS[3])
if leases.err then
  return leases
end
return {1, last, leases}
