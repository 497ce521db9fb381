-- Fixed windows: fc, ff; fm and fy behind rules-calendar.lua. Needs rules.lua and rules-stored.lua before it.

local function read_fixed(rule)
  local start, count = numbers(rule.key)
  local current = rule.now
  if rule.code == 'fc' then
    current = rule.now - rule.now % rule.span
  elseif rule.code ~= 'ff' then
    current, rule.span = calendar(rule.now, rule.code == 'fy')
  end
  rule.start, rule.used = current, 0
  if not start then return end
  local where = place(start, rule.span, rule.now)
  if where == 'now' then
    -- Only the length of a calendar window can differ from the stored one: its start then tells.
    if rule.code == 'ff' or start >= current then rule.start, rule.used = start, count end
  elseif where == 'ahead' then
    rule.used = count
    rule.kind.charge(rule, 0)
  end
end

local fixed = {
  read = read_fixed,
  room = function(rule) return rule.limit - rule.used end,
  charge = function(rule, cost)
    rule.used = rule.used + cost
    redis.call('SET', rule.key, int(rule.start) .. ' ' .. int(rule.used), 'PX', keep_ms(rest(rule)))
  end,
  reset = rest,
  retry = rest,
  most = function(rule) return rule.limit end,
}
kinds.fc, kinds.ff, kinds.fm, kinds.fy = fixed, fixed, fixed, fixed
