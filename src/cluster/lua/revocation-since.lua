-- Reads the revocations that were written down after a certain one.
--
-- KEYS   1  ends: sorted set, member = digest, score = until when it is in force, seconds since the epoch
--        2  order: sorted set, member = digest, score = number of its entry
--        3  number of the newest entry
-- ARGV   1  number of the last entry that is known
--        2  at most so many entries
-- Returns  list: number of the newest entry, then of each entry its number, digest, end

local newest = tonumber(redis.call('GET', KEYS[3]) or '0')
local reply = { newest }
if newest <= tonumber(ARGV[1]) then return reply end
local found = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for index = 1, #found, 2 do
  reply[#reply + 1] = tonumber(found[index + 1])
  reply[#reply + 1] = found[index]
  reply[#reply + 1] = tonumber(redis.call('ZSCORE', KEYS[1], found[index]) or '0')
end
return reply
