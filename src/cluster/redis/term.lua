-- Checks the term. This is the beginning of the scripts that read or write the image, the log and the leases, except
-- `join` and `inspect`.
-- KEYS[1]: the epoch. ARGV[1], ARGV[2]: the epoch and the replication id of the term of the caller.
local replication = redis.call('INFO', 'replication')
if redis.call('GET', KEYS[1]) ~= ARGV[1]
  or not string.find(replication, '\nrole:master\r', 1, true)
  or not string.find(replication, '\nmaster_replid:' .. ARGV[2] .. '\r', 1, true) then
  return redis.error_reply('TPTERM the term has ended')
end
