-- Tells all gateways that a circuit breaker opened or closed.
--
-- KEYS   1  what is known: hash, name of the breaker = "until count hand node" (until in milliseconds of this server's clock, 0 = closed or,
--           with hand 1 and a count above 0, held open by an operator),
--           and #version (grows with each change) and #era (changes when the data was lost)
--        2  order of the changes: sorted set, member = name, score = version
-- ARGV   1  name
--        2  milliseconds for which it is open; 0 = closed
--        3  times it was opened in a row
--        4  1 = an operator says it
--        5  the gateway that says it
--        6  names that are kept at most: the oldest go
--        7  milliseconds after which everything is forgotten unless something changes
-- Returns  version

local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
redis.call('HSETNX', KEYS[1], '#era', t[1] .. '.' .. t[2])
if ARGV[4] ~= '1' then
  -- What an operator holds open, only an operator closes.
  local count, hand = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^%d+ (%d+) (%d) ')
  if hand == '1' and count ~= '0' then return redis.call('HGET', KEYS[1], '#version') end
end
local version = redis.call('HINCRBY', KEYS[1], '#version', 1)
local open = tonumber(ARGV[2])
local ends = open > 0 and string.format('%.0f', now + open) or '0'
redis.call('HSET', KEYS[1], ARGV[1], ends .. ' ' .. ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. ARGV[5])
redis.call('ZADD', KEYS[2], version, ARGV[1])
local excess = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[6])
if excess > 0 then
  local old = redis.call('ZPOPMIN', KEYS[2], excess)
  for i = 1, #old, 2 do redis.call('HDEL', KEYS[1], old[i]) end
end
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('PEXPIRE', KEYS[2], ARGV[7])
return version
