-- Reads the revocations that were written down after a certain one.
--
-- KEYS   1  ends: sorted set, member = digest, score = until when it is in force, seconds since the epoch
--        2  order: sorted set, member = digest, score = number of its entry
--        3  number of the newest entry
--        4  when this list began; another value than before: Redis has lost its data
-- ARGV   1  number of the last entry that is known
--        2  at most so many entries
-- Returns  list: when the list began, then of each entry its number, digest, end; numbers as text

local time = redis.call('TIME')
redis.call('SET', KEYS[4], string.format('%.0f', tonumber(time[1]) * 1000000 + tonumber(time[2])), 'NX')
local reply = { redis.call('GET', KEYS[4]) }
if tonumber(redis.call('GET', KEYS[3]) or '0') <= tonumber(ARGV[1]) then return reply end
local found = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for index = 1, #found, 2 do
  reply[#reply + 1] = string.format('%.0f', tonumber(found[index + 1]))
  reply[#reply + 1] = found[index]
  reply[#reply + 1] = tonumber(redis.call('ZSCORE', KEYS[1], found[index]) or '0')
end
return reply
