-- decide.lua for one fixed window (fc, ff), the most common limit, in one straight run: half of its time in Redis.
--
-- KEYS   1  as decide.lua
-- ARGV   1… as decide.lua, with one rule
-- Returns   as decide.lua
--
-- Same values, same times, same rules about clocks as rules.lua and rules-fixed.lua: see there. Needs nothing before it.

local key, mode = KEYS[1], ARGV[3]
local cost, limit, span = tonumber(ARGV[2]), tonumber(ARGV[6]), tonumber(ARGV[7])
local now
-- A time that is given (by tests) does not pass as this server's does: values then stay a minute longer.
local longer = 0
if ARGV[1] == '' then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000000 + tonumber(t[2])
else
  now = tonumber(ARGV[1])
  longer = 60000
end

local is_clock = ARGV[5] == 'fc'
local start, used = now, 0
if is_clock then start = now - now % span end

-- A window that is further ahead than clocks may differ becomes the present one with its count, and is written so at once.
local is_ahead = false
local value = redis.call('GET', key)
local gap = value and string.find(value, ' ', 1, true)
if gap then
  local stored, count = tonumber(string.sub(value, 1, gap - 1)), tonumber(string.sub(value, gap + 1))
  if stored > now + 2000000 then
    used = count
    is_ahead = true
  elseif now - stored < span and (not is_clock or stored >= start) then
    start, used = stored, count
  end
end

local refuses = cost > limit - used
local is_charged = mode == 'charge-refused' or (mode == 'charge' and not refuses)
if is_charged then used = used + cost end
local rest = start + span - math.max(now, start)
if is_charged or is_ahead then
  local keep = math.max(1, math.ceil(rest / 1000)) + longer
  redis.call('SET', key, string.format('%.0f %.0f', start, used), 'PX', string.format('%.0f', keep))
end
if not refuses then return { -1, 0, math.max(0, limit - used), used * 1000, rest, 0 } end
return { 0, 0, 0, used * 1000, rest, cost > limit and -1 or rest }
