-- Writes a revocation down for all gateways that share this Redis.
--
-- KEYS   1  ends: sorted set, member = digest, score = until when it is in force, seconds since the epoch
--        2  order: sorted set, member = digest, score = number of its entry
--        3  number of the newest entry
-- ARGV   1  digest
--        2  until when it is in force, seconds since the epoch
-- Returns  number of this entry; 0 = an entry that lasts at least as long was there

local now = tonumber(redis.call('TIME')[1])
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)
if #over > 0 then
  redis.call('ZREM', KEYS[1], unpack(over))
  redis.call('ZREM', KEYS[2], unpack(over))
end
local held = redis.call('ZSCORE', KEYS[1], ARGV[1])
if held and tonumber(held) >= tonumber(ARGV[2]) then return 0 end
local number = redis.call('INCR', KEYS[3])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('ZADD', KEYS[2], number, ARGV[1])
return number
