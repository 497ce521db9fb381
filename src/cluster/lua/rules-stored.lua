-- Values of keys that are a few numbers, and windows. Needs rules.lua before it.

local function numbers(key)
  local value = redis.call('GET', key)
  if not value then return nil end
  local a, b, c = string.match(value, '^(%S+) (%S+) ?(%S*)$')
  return tonumber(a), tonumber(b), tonumber(c)
end

-- Where a stored window stands at this time: 'now', 'over' (ended), or 'ahead' (further in the future than a clock may differ).
local function place(start, span, now)
  if start > now + SKEW then return 'ahead' end
  if now - start >= span then return 'over' end
  return 'now'
end

-- What is left of a clock window that began at `start`, also when the clock is a little before it.
local function rest(rule) return rule.start + rule.span - math.max(rule.now, rule.start) end

-- Moment at which a queue is empty, whole microseconds.
queue_end = function(at, level, span) return math.floor(at + level / span * 1000000 + 0.5) end
