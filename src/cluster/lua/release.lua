-- Ends a hold of concurrency rules. Calling it again changes nothing.
--
-- KEYS   one per concurrency rule, all with one hash tag
-- ARGV   1  name of the hold
--        2  its cost
-- Returns  number of units that were still held (0 = they had expired)

local ended = 0
for _, key in ipairs(KEYS) do
  for n = 1, tonumber(ARGV[2]) do ended = ended + redis.call('ZREM', key, ARGV[1] .. ':' .. n) end
end
return ended
