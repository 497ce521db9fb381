-- Writes down, for all gateways that share this Redis, that something is revoked, or that it no longer is.
--
-- KEYS   1  ends: sorted set, member = digest, score = until when it is in force, seconds since the epoch
--        2  order: sorted set, member = digest, score = number of its entry
--        3  number of the newest entry
--        4  when this list began; another value than before: Redis has lost its data
--        5  channel (not a key of the data): who listens reads on at once
-- ARGV   1  digest; with a minus before it: no longer revoked
--        2  until when it is in force, seconds since the epoch
--        3  the entry that this one takes the place of
-- Returns  1; 0 = an entry that lasts at least as long was there

local time = redis.call('TIME')
local now = tonumber(time[1])
local micros = now * 1000000 + tonumber(time[2])
redis.call('SET', KEYS[4], string.format('%.0f', micros), 'NX')
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)
if #over > 0 then
  redis.call('ZREM', KEYS[1], unpack(over))
  redis.call('ZREM', KEYS[2], unpack(over))
end
local held = redis.call('ZSCORE', KEYS[1], ARGV[1])
if held and tonumber(held) >= tonumber(ARGV[2]) then return 0 end
-- Times, so that they go on where they were when the list is lost.
redis.call('ZREM', KEYS[1], ARGV[3])
redis.call('ZREM', KEYS[2], ARGV[3])
local number = string.format('%.0f', math.max(micros, tonumber(redis.call('GET', KEYS[3]) or '0') + 1))
redis.call('SET', KEYS[3], number)
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('ZADD', KEYS[2], number, ARGV[1])
-- A user who may not publish still revokes: the others ask often.
redis.pcall('PUBLISH', KEYS[5], number)
return 1
