-- Token and leaky bucket: tb, lb. Needs rules.lua and rules-stored.lua before it.
--
-- The same level; the leaky one makes the request wait for what stands before it.
drain_us = function(rule, level) return math.max(0, math.ceil(level / rule.span * 1000000)) end

local bucket = {
  read = function(rule)
    local at, level = numbers(rule.key)
    rule.at, rule.used = rule.now, 0
    rule.reserve = tonumber(rule.extra) or 0
    if not at then return end
    if at > rule.now and at <= rule.now + SKEW then rule.at = at end
    rule.used = math.max(0, level - math.max(0, rule.now - at) * rule.span / 1000000)
    -- A lowered burst, or a clock that stepped back: nobody waits longer than for one full bucket.
    rule.used = math.min(rule.used, rule.limit + 1)
    if at > rule.now + SKEW then rule.kind.charge(rule, 0) end
  end,
  room = function(rule) return math.floor(rule.limit + 1 - rule.reserve - rule.used + NEARLY) end,
  charge = function(rule, cost)
    rule.used = rule.used + cost
    local keep = drain_us(rule, rule.used) + (rule.at - rule.now)
    redis.call('SET', rule.key, int(rule.at) .. ' ' .. string.format('%.17g', rule.used), 'PX', keep_ms(keep))
  end,
  reset = function(rule) return drain_us(rule, rule.used) end,
  retry = function(rule, cost) return drain_us(rule, rule.used + cost - 1 - rule.limit + rule.reserve) end,
  most = function(rule) return rule.limit + 1 - rule.reserve end,
}
kinds.tb, kinds.lb = bucket, bucket
