-- Returns the number of records, and all leases. KEYS: leases, the images. The script needs no term, so that an
-- inspection does not begin one.
local records = 0
for i = 2, #KEYS do
  records = records + redis.call('HLEN', KEYS[i])
end
local leases = leases_of(KEYS[1])
if leases.err then
  return leases
end
return {records, leases}
