-- Returns the id of the last entry of the log, whether entries after ARGV[3] may have been removed, and the next
-- entries.
-- KEYS: epoch, log. ARGV: epoch, replication id, the id after which the entries begin, the maximum number of entries.
local last = last_id(KEYS[2])
local after = ARGV[3]
if after == last then
  return {last, 0, {}}
end
-- Returns whether no entry was ever removed. Before version 7, Redis does not report `entries-added`, and the result is
-- false.
local function is_complete()
  local info, fields = redis.call('XINFO', 'STREAM', KEYS[2]), {}
  for i = 1, #info, 2 do
    fields[info[i]] = info[i + 1]
  end
  return fields['entries-added'] ~= nil and fields['entries-added'] == fields['length']
end
-- The oldest entries are removed first. So if the entry at `after`, or an older one, still exists, no later entry was
-- removed.
if #redis.call('XRANGE', KEYS[2], '-', after, 'COUNT', 1) == 0 and not (after == '0-0' and is_complete()) then
  return {last, 1, {}}
end
local entries, size = {}, 0
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '(' .. after, '+', 'COUNT', ARGV[4])) do
  for _, part in ipairs(entry[2]) do
    size = size + #part
  end
  if size > 4194304 then
    if #entries == 0 then
      return redis.error_reply('TPBAD the entry ' .. entry[1] .. ' of the key log is too large; remove the key log')
    end
    break
  end
  entries[#entries + 1] = entry
end
return {last, 0, entries}
