-- Reserves a time slot of one user and APPLID. The clock is that of Redis, so that nodes with different clocks agree.
--
-- KEYS[1]: the last reserved slot of the pair, in seconds.
-- KEYS[2]: the epoch of the site. It changes when Redis has lost its data.
-- ARGV[1]: how many seconds a slot may be behind the clock of Redis.
-- ARGV[2]: the first slot that can be reserved.
-- ARGV[3]: the latest second of the clock of Redis that the node has seen.
-- ARGV[4]: the epoch for which the node knows the first slot.
--
-- Returns {1, slot, now}, {0, seconds until the next slot, now}, {-1, seconds that the clock was set back, now}, or
-- {2, epoch, now} if the site has another epoch. `now` is the time of Redis in milliseconds.
local time = redis.call('TIME')
local second = tonumber(time[1])
local now = second * 1000 + math.floor(tonumber(time[2]) / 1000)
local epoch = redis.call('GET', KEYS[2])
if not epoch then
  return redis.error_reply('TPTERM the site has no data')
end
if epoch ~= ARGV[4] then
  return {2, epoch, now}
end
local spare, first, latest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if second < latest then
  return {-1, latest - second, now}
end
local last = tonumber(redis.call('GET', KEYS[1]) or '-1')
local slot = math.max(last + 1, second - spare, first)
if slot > second then
  return {0, slot - second, now}
end
redis.call('SET', KEYS[1], slot, 'EX', 2 * spare + 60)
return {1, slot, now}
