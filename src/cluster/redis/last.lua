-- The id of the last entry that was appended to a log, although it may have been removed.
local function last_id(log)
  if redis.call('EXISTS', log) == 0 then
    return '0-0'
  end
  local info = redis.call('XINFO', 'STREAM', log)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      return info[i + 1]
    end
  end
end
