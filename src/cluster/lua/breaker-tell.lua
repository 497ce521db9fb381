-- Tells all gateways that a circuit breaker opened or closed.
--
-- KEYS   1  what is known: hash, name of the breaker = "until count hand node" (until in milliseconds of this server's clock, 0 = closed or,
--           with hand 1 and a count above 0, held open by an operator),
--           and #version (grows with each change), #era (changes when the data was lost) and #held (how many are held open)
--        2  order of the changes: sorted set, member = name, score = version
-- ARGV   1  name
--        2  milliseconds for which it is open; 0 = closed
--        3  times it was opened in a row
--        4  1 = an operator says it
--        5  the gateway that says it
--        6  names that are kept at most: the oldest go, those held open last
--        7  milliseconds after which everything is forgotten unless something changes; never while one is held open
-- Returns  version

local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
redis.call('HSETNX', KEYS[1], '#era', t[1] .. '.' .. t[2])
local function is_held(name)
  local count, hand = string.match(redis.call('HGET', KEYS[1], name) or '', '^%d+ (%d+) (%d) ')
  return hand == '1' and count ~= '0'
end
local was_held = is_held(ARGV[1])
-- What an operator holds open, only an operator closes.
if was_held and ARGV[4] ~= '1' then return redis.call('HGET', KEYS[1], '#version') end
local version = redis.call('HINCRBY', KEYS[1], '#version', 1)
local open = tonumber(ARGV[2])
local ends = open > 0 and string.format('%.0f', now + open) or '0'
redis.call('HSET', KEYS[1], ARGV[1], ends .. ' ' .. ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. ARGV[5])
redis.call('ZADD', KEYS[2], version, ARGV[1])
local becomes_held = ARGV[4] == '1' and ARGV[3] ~= '0'
local held = redis.call('HINCRBY', KEYS[1], '#held', (becomes_held and 1 or 0) - (was_held and 1 or 0))
local excess = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[6])
if excess > 0 then
  -- Among so many there are enough that nobody holds, unless all are held.
  local oldest = redis.call('ZRANGE', KEYS[2], 0, excess + held - 1)
  local going = {}
  for _, name in ipairs(oldest) do
    if #going < excess and not is_held(name) then going[#going + 1] = name end
  end
  for _, name in ipairs(oldest) do
    if #going < excess and is_held(name) then
      going[#going + 1] = name
      held = redis.call('HINCRBY', KEYS[1], '#held', -1)
    end
  end
  for _, name in ipairs(going) do
    redis.call('ZREM', KEYS[2], name)
    redis.call('HDEL', KEYS[1], name)
  end
end
for index = 1, 2 do
  if held > 0 then redis.call('PERSIST', KEYS[index]) else redis.call('PEXPIRE', KEYS[index], ARGV[7]) end
end
return version
