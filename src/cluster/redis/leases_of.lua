-- All leases, names and values in turn.
local function leases_of(key)
  if redis.call('HLEN', key) > 1000 then
    return redis.error_reply('TPBAD the key leases has more than 1000 fields; remove those of other programs')
  end
  local leases = redis.call('HGETALL', key)
  local size = 0
  for _, part in ipairs(leases) do
    size = size + #part
  end
  if size > 1048576 then
    return redis.error_reply('TPBAD the key leases is too large; remove it')
  end
  return leases
end
