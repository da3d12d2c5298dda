-- Counts refused PassTickets of all nodes. The clock is that of Redis.
--
-- KEYS[1]: a hash with a field "APPLID USER" for each pair with refusals. The value is "refused last paths": the number
-- of refusals since the last success, the time of the last refusal in milliseconds, and a number for the paths of the
-- last refused ticket.
-- KEYS[2]: a sorted set with the times of the last refusals.
-- KEYS[3]: a sorted set for one APPLID, with the users who wait for the answer to a ticket. The score is the time at
-- which the wait of the user ends.
--
-- ARGV[1]: the operation: reserve, accepted, refused, withdrawn, list or resume.
-- ARGV[2..3]: the APPLID and the user. For resume, they may be empty. For list, they are not used.
-- ARGV[4]: the paths.
-- ARGV[5]: the maximum number of pairs that are kept.
-- For reserve:
-- ARGV[6]: the number of refusals that the node knows.
-- ARGV[7]: the maximum number of users who may wait. 0 means no limit.
-- ARGV[8]: how long a user waits, in milliseconds.
--
-- Returns, for reserve, {'yes'}, {'busy'} or {'differs', refused, last, paths}; for list, a flat list of fields and
-- values; for the other operations, {'yes'}.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local operation, applid, user, paths = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local field = applid .. ' ' .. user

if operation == 'list' then
  return redis.call('HGETALL', KEYS[1])
end

if operation == 'resume' then
  local all = redis.call('HGETALL', KEYS[1])
  for at = 1, #all, 2 do
    local other = all[at]
    local other_applid, other_user = string.match(other, '^(%S+) (%S+)$')
    if (applid == '' or applid == other_applid) and (user == '' or user == other_user) then
      redis.call('HDEL', KEYS[1], other)
      redis.call('ZREM', KEYS[2], other)
    end
  end
  return {'yes'}
end

local function read()
  local text = redis.call('HGET', KEYS[1], field)
  local refused, last, of = string.match(text or '', '^(%d+) (%d+) (%d+)$')
  return tonumber(refused or '0'), last or '0', of or '0'
end

if operation == 'reserve' then
  local refused, last, of = read()
  if refused ~= tonumber(ARGV[6]) then
    return {'differs', refused, last, of}
  end
  local most, waiting, others = tonumber(ARGV[7]), false, 0
  local members = redis.call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES')
  for at = 1, #members, 2 do
    if tonumber(members[at + 1]) <= now then
      redis.call('ZREM', KEYS[3], members[at])
    elseif members[at] == user then
      waiting = true
    else
      others = others + 1
    end
  end
  if waiting or (most > 0 and others >= most) then
    return {'busy'}
  end
  redis.call('ZADD', KEYS[3], string.format('%.0f', now + tonumber(ARGV[8])), user)
  return {'yes'}
end

redis.call('ZREM', KEYS[3], user)
if operation == 'accepted' then
  redis.call('HDEL', KEYS[1], field)
  redis.call('ZREM', KEYS[2], field)
elseif operation == 'refused' then
  local refused = math.min(read() + 1, 99)
  redis.call('HSET', KEYS[1], field, string.format('%.0f %.0f %s', refused, now, paths))
  redis.call('ZADD', KEYS[2], string.format('%.0f', now), field)
  if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[5]) then
    for _, oldest in ipairs(redis.call('ZRANGE', KEYS[2], 0, 0)) do
      redis.call('HDEL', KEYS[1], oldest)
      redis.call('ZREM', KEYS[2], oldest)
    end
  end
end
return {'yes'}
