-- Merges records into the image. Appends to the log the records that have changed the image, and those that are always
-- appended. Returns the id of the last entry.
-- KEYS: epoch, log, the images of the kinds t, u, s, p, x, a (RecordKind::letter). ARGV: epoch, replication id, the
-- name of the node, and for each record: kind, how to merge it (larger, first or newest), key, value, whether it is
-- always appended (1 or 0).
local images = {t = KEYS[3], u = KEYS[4], s = KEYS[5], p = KEYS[6], x = KEYS[7], a = KEYS[8]}
local last = last_id(KEYS[2])
for i = 4, #ARGV, 5 do
  local kind, merge, id, value, always = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local old = redis.call('HGET', images[kind], id)
  local changes = not old
  if changes and kind == 'x' and redis.call('HLEN', images.x) >= 16 then
    -- A node can know at most this number of salts.
    return redis.error_reply('TPSALT the site has 16 salts')
  end
  if old and merge == 'larger' then
    if #old > 20 or not string.find(old, '^%d+$') then
      return redis.error_reply('TPBAD the key image:' .. kind .. ' has a value that is not a number; remove that field')
    end
    -- Both are decimal numbers without leading zeros. They are compared as texts, because a Lua number is not exact
    -- enough.
    changes = #value > #old or (#value == #old and value > old)
  end
  if old and merge == 'newest' then
    -- Both begin with a number of 20 digits.
    changes = string.sub(value, 1, 20) > string.sub(old, 1, 20)
  end
  -- The log is written first. If only the image were written, the next attempt would find nothing to append.
  if changes or always == '1' then
    last = redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*',
      'k', kind, 'id', id, 'v', value, 'now', always, 'from', ARGV[3])
  end
  if changes then
    redis.call('HSET', images[kind], id, value)
  end
end
return last
