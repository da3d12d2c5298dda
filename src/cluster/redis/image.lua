-- Returns a part of one image: the next cursor, and keys and values in turn.
-- KEYS: epoch, image. ARGV: epoch, replication id, cursor, about how many records.
local count = tonumber(ARGV[4])
while true do
  local part = redis.call('HSCAN', KEYS[2], ARGV[3], 'COUNT', count)
  local size = 0
  for _, text in ipairs(part[2]) do
    size = size + #text
  end
  if size <= 4194304 then
    return part
  end
  -- The values are long, so the next attempt reads fewer of them.
  if count <= 1 then
    return redis.error_reply('TPBAD the key ' .. KEYS[2] .. ' has values that are too large; remove them')
  end
  count = math.max(1, math.floor(count / 4))
end
