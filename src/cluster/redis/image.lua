-- Returns a part of one image: the next cursor, and keys and values in turn.
-- KEYS: epoch, image. ARGV: epoch, replication id, cursor, about how many records.
local part = redis.call('HSCAN', KEYS[2], ARGV[3], 'COUNT', ARGV[4])
local size = 0
for _, text in ipairs(part[2]) do
  size = size + #text
end
if size > 8388608 then
  return redis.error_reply('TPBAD the key ' .. KEYS[2] .. ' has values that are too large; remove them')
end
return part
