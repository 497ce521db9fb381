-- What the jobs in Lua are made of: refusals, keys, limits, breakers, and metrics per consumer and status. Counted in each worker, shared every second.
local parts = {}
local WINDOW = 3600
local BOUNDS = { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000 }
local counts, breakers, shared = ngx.shared.counts, ngx.shared.breakers, ngx.shared.metrics
local pending, histograms = {}, {}

function parts.refuse(status, message)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.print('{"message":"', message, '"}\n')
  return ngx.exit(status)
end

-- Names of consumers by their keys, from a file with "KEY NAME" on each line.
function parts.consumers(path)
  local consumers = {}
  for line in io.lines(path) do
    local key, name = line:match("^(%S+) (%S+)$")
    if key then consumers[key] = name end
  end
  return consumers
end

-- Counts one request of `name` in a window of an hour; what is left of `limit`, below 0 when it is used up.
function parts.take(name, limit)
  return limit - counts:incr(name, 1, 0, WINDOW)
end

function parts.limit(name, limit)
  if parts.take(name, limit) < 0 then return parts.refuse(429, "Too Many Requests") end
end

-- Opens for `seconds` after so many failures in a row.
function parts.breaker(name, failures, seconds)
  local open, failed = name .. " open", name .. " failures"
  local self = {}
  function self.is_open()
    return breakers:get(open)
  end
  function self.count(status)
    if status >= 500 then
      if breakers:incr(failed, 1, 0) >= failures then breakers:set(open, true, seconds) end
    elseif breakers:get(failed) ~= 0 then
      breakers:set(failed, 0)
    end
  end
  return self
end

local function add(name, value)
  pending[name] = (pending[name] or 0) + value
end

local function observe(name, value)
  local cells = histograms[name]
  if not cells then
    cells = {}
    for index = 1, #BOUNDS + 1 do cells[index] = 0 end
    histograms[name] = cells
  end
  for index = 1, #BOUNDS do
    if value <= BOUNDS[index] then
      cells[index] = cells[index] + 1
      return
    end
  end
  cells[#BOUNDS + 1] = cells[#BOUNDS + 1] + 1
end

local function flush()
  for name, value in pairs(pending) do
    if value ~= 0 then
      shared:incr(name, value, 0)
      pending[name] = 0
    end
  end
  for name, cells in pairs(histograms) do
    for index = 1, #cells do
      if cells[index] ~= 0 then
        shared:incr(name .. "_" .. index, cells[index], 0)
        cells[index] = 0
      end
    end
  end
end

function parts.start_worker()
  assert(ngx.timer.every(1, flush))
end

-- Status, bytes and three latencies of a request that is over.
function parts.log(name)
  local var = ngx.var
  local total = (ngx.now() - ngx.req.start_time()) * 1000
  local upstream = (tonumber(var.upstream_response_time) or 0) * 1000
  add("status_" .. ngx.status .. "_" .. name, 1)
  add("ingress_" .. name, tonumber(var.request_length))
  add("egress_" .. name, tonumber(var.bytes_sent))
  observe("request_" .. name, total)
  observe("upstream_" .. name, upstream)
  observe("gateway_" .. name, total - upstream)
end

function parts.metrics()
  flush()
  for _, name in ipairs(shared:get_keys(0)) do ngx.say(name, " ", shared:get(name)) end
end

return parts
