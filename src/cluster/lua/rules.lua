-- The arithmetic of all limits, in parts: a script that decides has before it this part, then those of the kinds of rules that it is
-- asked about (see script.ts), because each call makes all functions anew. Its ARGV 1 is a time or empty. Declares functions, runs nothing.
--
-- A rule is four ARGV: code, limit, span, extra. Times are microseconds, of this server's clock (TIME).
--   code  kind                        limit   span            extra         value of its key
--   fc    fixed window, clock         limit   window          -             "start count"
--   ff    fixed window, first hit     limit   window          -             "start count"
--   fm fy calendar month, year (UTC)  limit   -               -             "start count"
--   sw    sliding window counter      limit   window          below|within  "start current previous"
--   sl    sliding log                 limit   window          -             sorted set, score = time, one member per unit
--   tb    token bucket                burst   units/second    reserve       "time level"
--   lb    leaky bucket                burst   units/second    -             "time level"
--   cc    concurrency                 limit   ttl             -             sorted set, score = end, one member per unit
--
-- Parts by code: fc ff: stored, fixed; fm fy: stored, calendar, fixed; sw: stored, sliding; sl: log; tb lb: stored, bucket; cc: concurrency.
--
-- The level of a bucket is what has not drained yet, in units (fractions kept): a request of cost c fits if level + c - 1 <= burst.
-- A reserve is a part of the burst that is left untouched (leases need it; 0 otherwise).
-- Every write sets the expiry, to the millisecond at which the value means nothing any more.
--
-- A clock that steps back (a failover to a machine whose clock is behind) admits nothing extra: state up to SKEW in the future is the
-- present; what is further ahead becomes the present with its count or level, and is written so at once, or it would stand still.

local SKEW = 2000000
-- Units by which sums of fractions may be off: a bucket must not refuse at the very moment at which the request fits.
local NEARLY = 1e-6

local function server_now()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

local function int(n) return string.format('%.0f', n) end
-- A time that is given (by tests) does not pass as this server's does: values then stay a minute longer.
local keep_longer = ARGV[1] == '' and 0 or 60000
local function keep_ms(us) return int(math.max(1, math.ceil(us / 1000)) + keep_longer) end

-- By code; the parts behind this one fill it in, and what follows where rules need it.
local kinds = {}
local calendar, drain_us, queue_end

-- Reads all rules of this call; `first` is the index of the first rule's code in ARGV.
local function read_rules(now, first)
  local rules = {}
  for i, key in ipairs(KEYS) do
    local a = first + (i - 1) * 4
    local rule = { key = key, now = now, code = ARGV[a], limit = tonumber(ARGV[a + 1]), span = tonumber(ARGV[a + 2]), extra = ARGV[a + 3] }
    rule.kind = kinds[rule.code]
    if not rule.kind then return nil, redis.error_reply('ERR unknown limit code ' .. tostring(rule.code)) end
    rule.kind.read(rule)
    rules[i] = rule
  end
  return rules
end

-- Appends what a rule says: remaining, used in thousandths, reset, retry-after (0 = does not refuse, -1 = never or unknown).
local function report(reply, rule, cost, refuses)
  local kind = rule.kind
  local remaining = refuses and 0 or math.max(0, math.floor(kind.most(rule) - rule.used + NEARLY))
  local retry = 0
  if refuses then retry = cost > kind.most(rule) and -1 or kind.retry(rule, cost) end
  reply[#reply + 1] = remaining
  reply[#reply + 1] = math.ceil(rule.used * 1000)
  reply[#reply + 1] = math.ceil(kind.reset(rule))
  reply[#reply + 1] = retry
end
