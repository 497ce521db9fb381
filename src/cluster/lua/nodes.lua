-- Says that a node lives, and counts the living.
--
-- KEYS   1  the registry: sorted set, member = node, score = until when it counts as living, microseconds of this server's clock
-- ARGV   1  name of the node
--        2  milliseconds for which it counts as living; 0 = it leaves
-- Returns  number of living nodes

local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local ttl = tonumber(ARGV[2])
if ttl > 0 then
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + ttl * 1000), ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ttl)
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
return redis.call('ZCARD', KEYS[1])
