-- Decides one request by all its rules in one step.
--
-- KEYS   one per rule, all with one hash tag
-- ARGV   1  time in microseconds; empty = the clock of this server (a time is only given by tests)
--        2  cost, whole, >= 1
--        3  "charge", "charge-refused" (refused requests count too) or "peek" (nothing is charged)
--        4  name of the hold for concurrency rules, unique; empty = none
--        5… four per rule, see rules.lua
-- Returns  1  index from 0 of the first refusing rule, or -1
--          2  microseconds to wait before going on
--          3… four per rule: remaining, used in thousandths, reset and retry-after in microseconds
--
-- All or nothing: the rules are charged if none refuses; with "charge-refused" always. Needs
-- rules.lua before it, and the parts for its rules.

local now = ARGV[1] == '' and server_now() or tonumber(ARGV[1])
local cost = tonumber(ARGV[2])
local mode, hold = ARGV[3], ARGV[4]

local rules, problem = read_rules(now, 5)
if not rules then return problem end

local refused_by = -1
local delay = 0
for i, rule in ipairs(rules) do
  rule.refuses = cost > rule.kind.room(rule)
  if rule.refuses and refused_by < 0 then refused_by = i - 1 end
  if rule.code == 'lb' then delay = math.max(delay, drain_us(rule, rule.used)) end
end
if refused_by >= 0 then delay = 0 end

local reply = { refused_by, delay }
for _, rule in ipairs(rules) do
  if mode == 'charge-refused' or (mode == 'charge' and refused_by < 0) then rule.kind.charge(rule, cost, hold) end
  report(reply, rule, cost, rule.refuses)
end
return reply
