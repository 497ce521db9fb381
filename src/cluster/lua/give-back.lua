-- Undoes one decision of decide-all.lua about one limit.
--
-- KEYS   one per rule
-- ARGV   1  its cost
--        2… three per rule: code and span as in rules.lua, mark as decide-all.lua returned it
-- Returns  number of rules to which something was given back
--
-- Windows get it back while they run (a sliding one also as the previous), logs their entries of that time, buckets their tokens. A place
-- in a queue is given back only if nobody stands behind it. Concurrency rules are left to release.lua. Not to be called twice.
-- Needs rules.lua (whose ARGV 1 it does not have) and rules-stored.lua before it.

local cost = tonumber(ARGV[1])

local function replacement(key, code, span, mark)
  local at, first, second = numbers(key)
  if not at then return nil end
  local less = math.max(0, first - cost)
  if code == 'tb' then return int(at) .. ' ' .. string.format('%.17g', less) end
  if code == 'lb' then return queue_end(at, first, span) == mark and int(at) .. ' ' .. string.format('%.17g', less) end
  if code == 'sw' then
    if at == mark then return int(at) .. ' ' .. int(less) .. ' ' .. int(second) end
    return at == mark + span and int(at) .. ' ' .. int(first) .. ' ' .. int(math.max(0, second - cost))
  end
  return at == mark and int(at) .. ' ' .. int(less)
end

local given = 0
for i, key in ipairs(KEYS) do
  local a = 2 + (i - 1) * 3
  local code, span, mark = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  if code == 'sl' then
    local mine = redis.call('ZRANGEBYSCORE', key, int(mark), int(mark), 'LIMIT', 0, cost)
    if #mine > 0 then
      redis.call('ZREM', key, unpack(mine))
      given = given + 1
    end
  elseif code ~= 'cc' then
    local value = replacement(key, code, span, mark)
    local left = value and redis.call('PTTL', key) or 0
    if left > 0 then
      redis.call('SET', key, value, 'PX', left)
      given = given + 1
    end
  end
end
return given
