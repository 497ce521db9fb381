-- Gives back units of a batch that were not spent, to those windows in which they were taken and which still run.
--
-- KEYS   one per rule, all with one hash tag
-- ARGV   1  units
--        2… three per rule: code (see rules.lua), window in microseconds, start of the window as lease-take returned it
-- Returns  number of rules to which units were given back
--
-- Buckets get nothing back: what was taken has drained since, and giving it back could fill a bucket twice.
-- Replacing the value keeps its expiry. Calling it twice gives back twice: the caller calls at most once per batch.

local units = tonumber(ARGV[1])
local given = 0
for i, key in ipairs(KEYS) do
  local a = 2 + (i - 1) * 3
  local code, span, start = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  local value = code ~= 'tb' and redis.call('GET', key)
  if value then
    local at, current, previous = string.match(value, '^(%S+) (%S+) ?(%S*)$')
    local replacement
    if tonumber(at) == start then
      replacement = at .. ' ' .. string.format('%.0f', math.max(0, tonumber(current) - units))
      if previous ~= '' then replacement = replacement .. ' ' .. previous end
    elseif code == 'sw' and tonumber(at) == start + span then
      -- The window has become the previous one.
      replacement = at .. ' ' .. current .. ' ' .. string.format('%.0f', math.max(0, tonumber(previous) - units))
    end
    local left = replacement and redis.call('PTTL', key) or 0
    if left > 0 then
      redis.call('SET', key, replacement, 'PX', left)
      given = given + 1
    end
  end
end
return given
