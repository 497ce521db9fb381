-- Sliding window counter: sw. Needs rules.lua and rules-stored.lua before it.

local function estimate(rule)
  local previous = rule.previous
  if rule.extra == 'within' then previous = math.min(previous, rule.limit) end
  rule.used = previous * rest(rule) / rule.span + rule.current
end

-- Elapsed time of a window at which `counted` of it weigh less than (or, with `within`, at most) `left`.
local function elapsed_until(rule, counted, left)
  if counted <= 0 then return 0 end
  if rule.extra == 'within' then return math.ceil(rule.span * math.max(0, 1 - left / counted)) end
  if left > counted then return 0 end
  return math.floor(rule.span * (1 - left / counted)) + 1
end

kinds.sw = {
  read = function(rule)
    local start, current, previous = numbers(rule.key)
    rule.start, rule.current, rule.previous = rule.now - rule.now % rule.span, 0, 0
    if start then
      if start >= rule.start then
        rule.current, rule.previous = current, previous
        if place(start, rule.span, rule.now) == 'now' then
          rule.start = start
        else
          rule.kind.charge(rule, 0)
        end
      elseif start == rule.start - rule.span then
        rule.previous = current
      end
    end
    estimate(rule)
  end,
  room = function(rule)
    if rule.extra == 'within' then return math.floor(rule.limit - rule.used) end
    return math.ceil(rule.limit - rule.used)
  end,
  charge = function(rule, cost)
    rule.current = rule.current + cost
    estimate(rule)
    local value = int(rule.start) .. ' ' .. int(rule.current) .. ' ' .. int(rule.previous)
    redis.call('SET', rule.key, value, 'PX', keep_ms(rest(rule) + rule.span))
  end,
  reset = rest,
  retry = function(rule, cost)
    -- "below" leaves room for the last unit, "within" does not.
    local spare = rule.extra == 'within' and cost or cost - 1
    local previous = rule.extra == 'within' and math.min(rule.previous, rule.limit) or rule.previous
    local left = rule.limit - rule.current - spare
    local fits_now = rule.extra == 'within' and left >= 0 or left > 0
    if fits_now then
      local at = elapsed_until(rule, previous, left)
      if at < rule.span then return math.max(1, at - (rule.span - rest(rule))) end
    end
    local current = rule.extra == 'within' and math.min(rule.current, rule.limit) or rule.current
    return rest(rule) + elapsed_until(rule, current, rule.limit - spare)
  end,
  most = function(rule) return rule.limit end,
}
