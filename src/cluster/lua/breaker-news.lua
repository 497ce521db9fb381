-- What changed since a gateway last asked.
--
-- KEYS   1, 2  as in breaker-tell
-- ARGV   1  era that the gateway knows, or empty
--        2  version that it knows
--        3  changes in one answer at most; the rest comes with the next
-- Returns  1  era   2  version up to which this answer goes
--          3… five per change: name, milliseconds for which it is still open (0 = closed, time for probes, or held by hand), times opened,
--             1 = by hand, gateway

local era = redis.call('HGET', KEYS[1], '#era')
if not era then return { '', 0 } end
local since = era == ARGV[1] and ARGV[2] or '0'
local current = redis.call('HGET', KEYS[1], '#version')
if since == current then return { era, tonumber(current) } end
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local names = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. since, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local reply = { era, tonumber(current) }
for i = 1, #names, 2 do
  local known = redis.call('HGET', KEYS[1], names[i])
  local ends, count, hand, node = string.match(known or '', '^(%d+) (%d+) (%d) (.*)$')
  reply[2] = tonumber(names[i + 1])
  if ends then
    reply[#reply + 1] = names[i]
    reply[#reply + 1] = math.max(0, tonumber(ends) - now)
    reply[#reply + 1] = tonumber(count)
    reply[#reply + 1] = tonumber(hand)
    reply[#reply + 1] = node
  end
end
return reply
