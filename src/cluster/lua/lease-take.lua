-- Takes a batch of units that a node will spend by itself. What is taken counts as used from now on.
--
-- KEYS   one per rule, all with one hash tag
-- ARGV   1  time in microseconds; empty = the clock of this server (a time is only given by tests)
--        2  units needed now, >= 1: with fewer than these nothing is taken
--        3  units wanted
--        4  units below which a batch is not cut: near the end of a limit each batch is at most half of what is left, so that others
--           find some too, but not smaller than this
--        5… four per rule, see rules.lua
-- Returns  1  units taken, 0 = refused
--          2  index from 0 of the first refusing rule, or -1
--          3… five per rule: remaining, used in thousandths, reset and retry-after in microseconds, start of its window (0 = none)
--
-- Needs rules.lua before it, and the parts for its rules.

local now = ARGV[1] == '' and server_now() or tonumber(ARGV[1])
local need, want, floor = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local rules, problem = read_rules(now, 5)
if not rules then return problem end

local refused_by = -1
local room = want
for i, rule in ipairs(rules) do
  local free = rule.kind.room(rule)
  rule.refuses = need > free
  if rule.refuses and refused_by < 0 then refused_by = i - 1 end
  room = math.min(room, math.max(math.floor(free / 2), math.min(free, floor)))
end
local taken = refused_by < 0 and math.max(need, room) or 0

local reply = { taken, refused_by }
for _, rule in ipairs(rules) do
  if taken > 0 then rule.kind.charge(rule, taken, '') end
  report(reply, rule, need, rule.refuses)
  reply[#reply + 1] = rule.start or 0
end
return reply
