-- Removes records that are not needed any more from a part of one image. Returns the next cursor.
-- KEYS: epoch, image. ARGV: epoch, replication id, kind, cursor, about how many records, the time of the node, and how
-- long after its time a record is needed (both in milliseconds).
local now = math.min(tonumber(redis.call('TIME')[1]) * 1000, tonumber(ARGV[6]))
local part = redis.call('HSCAN', KEYS[2], ARGV[4], 'COUNT', ARGV[5])
for i = 1, #part[2], 2 do
  local value = part[2][i + 1]
  local time = nil
  if ARGV[3] == 'p' then
    -- The value begins with the time as 8 bytes. A number of Lua is exact enough.
    if #value >= 8 then
      time = 0
      for j = 1, 8 do
        time = time * 256 + string.byte(value, j)
      end
    end
  elseif ARGV[3] == 'a' then
    time = tonumber(string.match(value, '^%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d(%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d)') or '')
  else
    time = tonumber(string.match(value, '^%d+$') or '')
  end
  if time and time + tonumber(ARGV[7]) < now then
    redis.call('HDEL', KEYS[2], part[2][i])
  end
end
return part[1]
