-- Decides one request by all rules of several limits in one step.
--
-- KEYS   one per rule, limit after limit
-- ARGV   1  time in microseconds; empty = the clock of this server (a time is only given by tests)
--        2  "charge" or "peek" (nothing is charged)
--        3  number of limits
--        4… five per limit: cost (whole, >= 1), 1 if it counts refused requests, 1 if it is a dry run, name of the hold for concurrency
--           rules (unique; empty = none), number of rules
--        …  four per rule, see rules.lua
-- Returns  per limit: index from 0 of its first refusing rule or -1, microseconds to wait, 1 if it was charged,
--          and five per rule: remaining, used in thousandths, reset and retry-after in microseconds, mark
--
-- A limit refuses if one of its rules does, unless it is a dry run. If none refuses, all are charged but dry runs that would have refused;
-- else none is, but those that count refused requests and do not come behind the refusing one. Rules of two limits may name one key:
-- each sees what those before it are about to charge. A mark names what was charged to give-back.lua. Needs
-- rules.lua before it, and the parts for its rules.

local now = ARGV[1] == '' and server_now() or tonumber(ARGV[1])
local is_peek = ARGV[2] == 'peek'
local count = tonumber(ARGV[3])

local rules, problem = read_rules(now, 4 + 5 * count)
if not rules then return problem end

local limits = {}
local pending = {}
local refuser
local next_rule = 1
for i = 1, count do
  local a = 4 + (i - 1) * 5
  local limit = { cost = tonumber(ARGV[a]), counts = ARGV[a + 1] == '1', hold = ARGV[a + 3], refused_by = -1, delay = 0, rules = {} }
  for n = 1, tonumber(ARGV[a + 4]) do
    local rule = rules[next_rule]
    next_rule = next_rule + 1
    rule.refuses = limit.cost > rule.kind.room(rule) - (pending[rule.key] or 0)
    if rule.refuses and limit.refused_by < 0 then limit.refused_by = n - 1 end
    if rule.code == 'lb' then limit.delay = math.max(limit.delay, drain_us(rule, rule.used + (pending[rule.key] or 0))) end
    limit.rules[n] = rule
  end
  for _, rule in ipairs(limit.rules) do pending[rule.key] = (pending[rule.key] or 0) + limit.cost end
  if limit.refused_by >= 0 and ARGV[a + 2] ~= '1' then refuser = refuser or i end
  limits[i] = limit
end

local function mark(rule)
  if rule.code == 'tb' or rule.code == 'cc' then return 0 end
  if rule.code == 'lb' then return queue_end(rule.at, rule.used, rule.span) end
  return rule.code == 'sl' and rule.at or rule.start
end

local reply = {}
local charged = {}
for i, limit in ipairs(limits) do
  local is_charged
  if refuser then
    is_charged = limit.counts and i <= refuser
  else
    is_charged = limit.refused_by < 0 or limit.counts
  end
  is_charged = is_charged and not is_peek
  reply[#reply + 1] = limit.refused_by
  reply[#reply + 1] = (refuser or limit.refused_by >= 0) and 0 or limit.delay
  reply[#reply + 1] = is_charged and 1 or 0
  for _, rule in ipairs(limit.rules) do
    if charged[rule.key] then rule.kind.read(rule) end
    if is_charged then
      rule.kind.charge(rule, limit.cost, limit.hold)
      charged[rule.key] = true
    end
    report(reply, rule, limit.cost, rule.refuses)
    reply[#reply + 1] = is_charged and mark(rule) or 0
  end
end
return reply
