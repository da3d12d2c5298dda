-- Returns whether the site had no data (1 or 0), the epoch, the replication id, and the id of the last entry of the
-- log. If there is no epoch, stores the new one. The epoch is a random id of the data of the site.
-- KEYS: epoch, version, log, lease time. ARGV: a new epoch, the version of this program, the lease time of this node.
local replication = redis.call('INFO', 'replication')
if not string.find(replication, '\nrole:master\r', 1, true) then
  return redis.error_reply('READONLY this is a replica')
end
local epoch = redis.call('GET', KEYS[1])
local version = redis.call('GET', KEYS[2])
if version and version ~= ARGV[2] then
  return redis.error_reply('TPVER ' .. string.sub(version, 1, 20))
end
local lease = redis.call('GET', KEYS[4])
if not lease then
  redis.call('SET', KEYS[4], ARGV[3])
elseif lease ~= ARGV[3] then
  return redis.error_reply('TPLEASE ' .. string.sub(lease, 1, 20))
end
local is_new = 0
if not epoch then
  epoch = ARGV[1]
  is_new = 1
  redis.call('SET', KEYS[2], ARGV[2])
  redis.call('SET', KEYS[1], epoch)
elseif not version then
  return redis.error_reply('TPBAD the key version is missing; remove the key epoch')
end
return {is_new, epoch, string.match(replication, '\nmaster_replid:(%x+)\r') or '', last_id(KEYS[3])}
