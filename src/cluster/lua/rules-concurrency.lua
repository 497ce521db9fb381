-- Concurrency: cc. Needs rules.lua before it.

kinds.cc = {
  read = function(rule)
    rule.used = redis.call('ZCOUNT', rule.key, '(' .. int(rule.now), '+inf')
  end,
  room = function(rule) return rule.limit - rule.used end,
  charge = function(rule, cost, hold)
    redis.call('ZREMRANGEBYSCORE', rule.key, '-inf', int(rule.now))
    for n = 1, cost do redis.call('ZADD', rule.key, int(rule.now + rule.span), hold .. ':' .. n) end
    rule.used = rule.used + cost
    local last = redis.call('ZREVRANGE', rule.key, 0, 0, 'WITHSCORES')
    redis.call('PEXPIRE', rule.key, keep_ms(tonumber(last[2]) - rule.now))
  end,
  reset = function() return 0 end,
  retry = function() return -1 end,
  most = function(rule) return rule.limit end,
}
