-- The arithmetic of all limits: put before each script that decides (see script.ts), whose ARGV 1 is a time or empty. Declares
-- functions, runs nothing.
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
-- The level of a bucket is what has not drained yet, in units (fractions kept): a request of cost c fits if level + c - 1 <= burst.
-- A reserve is a part of the burst that is left untouched (leases need it; 0 otherwise).
-- Every write sets the expiry, to the millisecond at which the value means nothing any more.
--
-- A clock that steps back (a failover to a machine whose clock is behind) admits nothing extra: state up to SKEW in the future is the
-- present; what is further ahead becomes the present with its count or level, and is written so at once, or it would stand still.

local SKEW = 2000000
-- Units by which sums of fractions may be off: a bucket must not refuse at the very moment at which the request fits.
local NEARLY = 1e-6
-- unpack() takes no more at once.
local CHUNK = 1000
local DAY = 86400000000

local function server_now()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

local function int(n) return string.format('%.0f', n) end
-- A time that is given (by tests) does not pass as this server's does: values then stay a minute longer.
local keep_longer = ARGV[1] == '' and 0 or 60000
local function keep_ms(us) return int(math.max(1, math.ceil(us / 1000)) + keep_longer) end

-- Start and length of the calendar month or year that contains `now`.
-- Days to civil date: years begin in March, eras have 400 of them, and every step below is exact in integers.
local function calendar(now, yearly)
  local days = math.floor(now / DAY)
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local function day_of(y, m)
    if m <= 2 then y = y - 1 end
    local e = math.floor(y / 400)
    local ye = y - e * 400
    local dy = math.floor((153 * (m > 2 and m - 3 or m + 9) + 2) / 5)
    return e * 146097 + ye * 365 + math.floor(ye / 4) - math.floor(ye / 100) + dy - 719468
  end
  local from, to
  if yearly then
    from, to = day_of(year, 1), day_of(year + 1, 1)
  elseif month == 12 then
    from, to = day_of(year, 12), day_of(year + 1, 1)
  else
    from, to = day_of(year, month), day_of(year, month + 1)
  end
  return from * DAY, (to - from) * DAY
end

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

local kinds = {}

-- Fixed windows.
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

-- Sliding window counter.
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

-- Sliding log. Of more than `limit` entries only the newest count: the older ones change no decision.
kinds.sl = {
  read = function(rule)
    local ahead = redis.call('ZRANGEBYSCORE', rule.key, '(' .. int(rule.now + SKEW), '+inf')
    for _, member in ipairs(ahead) do redis.call('ZADD', rule.key, int(rule.now), member) end
    rule.used = redis.call('ZCOUNT', rule.key, '(' .. int(rule.now - rule.span), '+inf')
  end,
  room = function(rule) return rule.limit - rule.used end,
  charge = function(rule, cost)
    -- The name continues the newest one's, so that two units of one microsecond differ.
    local newest = redis.call('ZREVRANGE', rule.key, 0, 0, 'WITHSCORES')
    local at = rule.now
    local serial = 0
    if newest[1] then
      at = math.max(at, tonumber(newest[2]))
      serial = tonumber(string.match(newest[1], '(%d+)$')) or 0
    end
    rule.at = at
    redis.call('ZREMRANGEBYSCORE', rule.key, '-inf', int(rule.now - rule.span))
    local members = {}
    cost = math.min(cost, rule.limit)
    for n = 1, cost do
      members[#members + 1] = int(at)
      -- 16 digits: members of one time sort by name, and the highest serial must come last.
      members[#members + 1] = string.format('%016.0f', serial + n)
      if #members >= CHUNK or n == cost then
        redis.call('ZADD', rule.key, unpack(members))
        members = {}
      end
    end
    redis.call('ZREMRANGEBYRANK', rule.key, 0, -rule.limit - 1)
    rule.used = redis.call('ZCARD', rule.key)
    redis.call('PEXPIRE', rule.key, keep_ms(at + rule.span - rule.now))
  end,
  reset = function(rule)
    local newest = redis.call('ZREVRANGE', rule.key, 0, 0, 'WITHSCORES')
    return newest[2] and math.max(0, tonumber(newest[2]) + rule.span - rule.now) or 0
  end,
  retry = function(rule, cost)
    -- When this one leaves, the request fits. Those that have left already may still be stored, before the others.
    local left = redis.call('ZCARD', rule.key) - rule.used
    local rank = left + rule.used + cost - rule.limit - 1
    local entry = redis.call('ZRANGE', rule.key, rank, rank, 'WITHSCORES')
    return entry[2] and tonumber(entry[2]) + rule.span - rule.now or 0
  end,
  most = function(rule) return rule.limit end,
}

-- Token and leaky bucket: the same level; the leaky one makes the request wait for what stands before it.
local function drain_us(rule, level) return math.max(0, math.ceil(level / rule.span * 1000000)) end

-- Moment at which a queue is empty, whole microseconds.
local function queue_end(at, level, span) return math.floor(at + level / span * 1000000 + 0.5) end

local bucket = {
  read = function(rule)
    local at, level = numbers(rule.key)
    rule.at, rule.used = rule.now, 0
    rule.reserve = tonumber(rule.extra) or 0
    if not at then return end
    if at > rule.now and at <= rule.now + SKEW then rule.at = at end
    rule.used = math.max(0, level - math.max(0, rule.now - at) * rule.span / 1000000)
    -- A lowered burst, or a clock that stepped back: nobody waits longer than for one full bucket.
    rule.used = math.min(rule.used, rule.limit + 1)
    if at > rule.now + SKEW then rule.kind.charge(rule, 0) end
  end,
  room = function(rule) return math.floor(rule.limit + 1 - rule.reserve - rule.used + NEARLY) end,
  charge = function(rule, cost)
    rule.used = rule.used + cost
    local keep = drain_us(rule, rule.used) + (rule.at - rule.now)
    redis.call('SET', rule.key, int(rule.at) .. ' ' .. string.format('%.17g', rule.used), 'PX', keep_ms(keep))
  end,
  reset = function(rule) return drain_us(rule, rule.used) end,
  retry = function(rule, cost) return drain_us(rule, rule.used + cost - 1 - rule.limit + rule.reserve) end,
  most = function(rule) return rule.limit + 1 - rule.reserve end,
}
kinds.tb, kinds.lb = bucket, bucket

-- Concurrency.
kinds.cc = {
  read = function(rule)
    rule.used = redis.call('ZCOUNT', rule.key, '(' .. int(rule.now), '+inf')
  end,
  room = function(rule) return rule.limit - rule.used end,
  charge = function(rule, cost, hold)
    redis.call('ZREMRANGEBYSCORE', rule.key, '-inf', int(rule.now))
    for n = 1, cost do redis.call('ZADD', rule.key, int(rule.now + rule.span), hold .. ':' .. n) end
    rule.used = rule.used + cost
    local last = redis.call('ZREVRANGE', rule.key, 0, 0, 'WITHSCORES')
    redis.call('PEXPIRE', rule.key, keep_ms(tonumber(last[2]) - rule.now))
  end,
  reset = function() return 0 end,
  retry = function() return -1 end,
  most = function(rule) return rule.limit end,
}

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
