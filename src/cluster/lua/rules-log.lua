-- Sliding log: sl. Needs rules.lua before it.
--
-- Of more than `limit` entries only the newest count: the older ones change no decision.
-- unpack() takes no more at once.
local CHUNK = 1000

kinds.sl = {
  read = function(rule)
    local ahead = redis.call('ZRANGEBYSCORE', rule.key, '(' .. int(rule.now + SKEW), '+inf')
    for _, member in ipairs(ahead) do redis.call('ZADD', rule.key, int(rule.now), member) end
    rule.used = redis.call('ZCOUNT', rule.key, '(' .. int(rule.now - rule.span), '+inf')
  end,
  room = function(rule) return rule.limit - rule.used end,
  charge = function(rule, cost)
    -- The name continues the newest one's, so that two units of one microsecond differ.
    local newest = redis.call('ZREVRANGE', rule.key, 0, 0, 'WITHSCORES')
    local at = rule.now
    local serial = 0
    if newest[1] then
      at = math.max(at, tonumber(newest[2]))
      serial = tonumber(string.match(newest[1], '(%d+)$')) or 0
    end
    rule.at = at
    redis.call('ZREMRANGEBYSCORE', rule.key, '-inf', int(rule.now - rule.span))
    local members = {}
    cost = math.min(cost, rule.limit)
    for n = 1, cost do
      members[#members + 1] = int(at)
      -- 16 digits: members of one time sort by name, and the highest serial must come last.
      members[#members + 1] = string.format('%016.0f', serial + n)
      if #members >= CHUNK or n == cost then
        redis.call('ZADD', rule.key, unpack(members))
        members = {}
      end
    end
    redis.call('ZREMRANGEBYRANK', rule.key, 0, -rule.limit - 1)
    rule.used = redis.call('ZCARD', rule.key)
    redis.call('PEXPIRE', rule.key, keep_ms(at + rule.span - rule.now))
  end,
  reset = function(rule)
    local newest = redis.call('ZREVRANGE', rule.key, 0, 0, 'WITHSCORES')
    return newest[2] and math.max(0, tonumber(newest[2]) + rule.span - rule.now) or 0
  end,
  retry = function(rule, cost)
    -- When this one leaves, the request fits. Those that have left already may still be stored, before the others.
    local left = redis.call('ZCARD', rule.key) - rule.used
    local rank = left + rule.used + cost - rule.limit - 1
    local entry = redis.call('ZRANGE', rule.key, rank, rank, 'WITHSCORES')
    return entry[2] and tonumber(entry[2]) + rule.span - rule.now or 0
  end,
  most = function(rule) return rule.limit end,
}
