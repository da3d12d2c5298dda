-- Counts failed logins of all nodes. The rules are those of src/api/failure_counts.rs. The clock is that of Redis. All
-- times and durations are in milliseconds.
--
-- KEYS: two keys for each of the four counts (user and network, user, network, forgiven failures). The first key is a
-- hash. Each of its values is "count first last": the number of failures, the time of the first one, and the time of
-- the last one. The second key is a sorted set with the times of the last failures.
--
-- ARGV[1]: the operation: begin, failed, succeeded or withdrawn.
-- ARGV[2..4]: the fields in the hashes: of the pair of user and network, of the user, and of the network. The field of
-- the network may be empty.
-- ARGV[5]: known or unknown: whether the network is known for the user.
-- ARGV[6]: the maximum number of entries of a count.
-- ARGV[7..9]: how long failures count: the failures of a user after the last of them, the failures of a network after
-- the first, and the forgiven failures after the first.
-- For begin:
-- ARGV[10..15]: for each of the first three counts, the number of free failures and the longest wait.
-- ARGV[16]: when the attempt counts in advance: always, or only if a limit is exceeded.
-- ARGV[17]: the first wait.
-- For the other operations, which report the result of an attempt:
-- ARGV[10]: the time of the claim, that is, of the attempt that was counted in advance.
-- ARGV[11..12]: the times of the last failures of the pair and of the user before the claim, or the time of the claim
-- if there was none. Empty if not claimed.
-- ARGV[13]: the number of failures that are forgiven in a day.
--
-- Returns {wait} or {0, time, last failure of the pair or '', last failure of the user or ''} for begin. Returns {0}
-- for the other operations.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local PAIR, USER, NETWORK, FORGIVEN = 1, 2, 3, 4
local fields = {ARGV[2], ARGV[3], ARGV[4], ARGV[2]}
local memory = {tonumber(ARGV[7]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])}
local from_first = {false, false, true, true}
local most = tonumber(ARGV[6])

local function hash(count) return KEYS[2 * count - 1] end
local function times(count) return KEYS[2 * count] end

local function read(count, field)
  local text = redis.call('HGET', hash(count), field)
  local number, first, last = string.match(text or '', '^(%d+) (%d+) (%d+)$')
  if not number then return nil end
  -- After a failover, the clock may be behind the times of the other server.
  local entry = {number = tonumber(number), first = math.min(tonumber(first), now), last = math.min(tonumber(last), now)}
  local start = from_first[count] and entry.first or entry.last
  if start + memory[count] <= now then return nil end
  return entry
end

local function get(count)
  return read(count, fields[count]) or {number = 0, first = now, last = now}
end

local function remove(count, field)
  redis.call('HDEL', hash(count), field)
  redis.call('ZREM', times(count), field)
end

local function put(count, entry)
  local field = fields[count]
  if entry.number <= 0 then return remove(count, field) end
  local text = string.format('%.0f %.0f %.0f', entry.number, entry.first, entry.last)
  redis.call('HSET', hash(count), field, text)
  redis.call('ZADD', times(count), string.format('%.0f', entry.last), field)
  -- The eight oldest entries are read. Those that do not count any more are removed. If there are too many entries, one
  -- more of the eight is removed: the entry with the fewest failures. So failures of invented users rarely displace the
  -- entry of a user whose password is guessed.
  local oldest = redis.call('ZRANGE', times(count), 0, 7)
  local fewest, fewest_field
  for _, other in ipairs(oldest) do
    local kept = read(count, other)
    if not kept then
      remove(count, other)
    elseif other ~= field and (not fewest or kept.number < fewest) then
      fewest, fewest_field = kept.number, other
    end
  end
  if fewest_field and redis.call('ZCARD', times(count)) > most then remove(count, fewest_field) end
end

local function add(count, number)
  local entry = get(count)
  put(count, {number = entry.number + number, first = entry.first, last = now})
end

local function subtract(count, number)
  local entry = read(count, fields[count])
  if entry then put(count, {number = entry.number - number, first = entry.first, last = entry.last}) end
end

local operation = ARGV[1]
if operation == 'begin' then
  local counts = ARGV[5] == 'known' and {PAIR} or {PAIR, USER, NETWORK}
  local wait = 0
  local exceeded = {}
  for _, count in ipairs(counts) do
    if fields[count] ~= '' then
      local entry = get(count)
      local free, longest = tonumber(ARGV[8 + 2 * count]), tonumber(ARGV[9 + 2 * count])
      if entry.number > free then
        exceeded[count] = true
        local doublings = math.min(entry.number - free - 1, 20)
        local pause = math.min(tonumber(ARGV[17]) * 2 ^ doublings, longest)
        wait = math.max(wait, entry.last + pause - now)
      end
    end
  end
  if wait > 0 then return {math.ceil(wait)} end
  local claims = {'', ''}
  for _, count in ipairs(counts) do
    if count ~= NETWORK and (exceeded[count] or ARGV[16] == 'always') then
      claims[count] = string.format('%.0f', get(count).last)
      add(count, 1)
    end
  end
  return {0, string.format('%.0f', now), claims[PAIR], claims[USER]}
end

local claims = {ARGV[11], ARGV[12]}
if operation == 'failed' then
  for _, count in ipairs({PAIR, USER}) do
    -- A failure that was counted in advance is counted again if the count is now empty, for example because of a
    -- successful login.
    local is_counted = claims[count] ~= '' and get(count).number > 0
    add(count, is_counted and 0 or 1)
  end
  if fields[NETWORK] ~= '' then add(NETWORK, 1) end
elseif operation == 'withdrawn' then
  for _, count in ipairs({PAIR, USER}) do
    if claims[count] ~= '' then subtract(count, 1) end
  end
elseif operation == 'succeeded' then
  for _, count in ipairs({PAIR, USER}) do
    local entry = read(count, fields[count])
    if claims[count] ~= '' and entry then
      -- The wait that the claim has caused ends, unless another failure was later.
      if entry.last == tonumber(ARGV[10]) then entry.last = tonumber(claims[count]) end
      entry.number = entry.number - 1
      put(count, entry)
    end
  end
  local left = math.max(tonumber(ARGV[13]) - get(FORGIVEN).number, 0)
  local forgiven = math.min(get(PAIR).number, left)
  if forgiven > 0 then
    add(FORGIVEN, forgiven)
    subtract(PAIR, forgiven)
    subtract(USER, forgiven)
  end
end
return {0}
