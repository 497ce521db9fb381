-- wrk -s load.lua URL -- METHOD BODY_BYTES DEPTH [FILE]
-- DEPTH: how many requests are sent at once, before any of their answers. FILE: one header field per line; every request carries the next one. All requests are put together before the first is sent.
function init(arguments)
  local method, size, depth, file = arguments[1], tonumber(arguments[2]), tonumber(arguments[3]), arguments[4]
  wrk.method = method
  if size > 0 then
    wrk.body = string.rep("x", size)
    wrk.headers["Content-Type"] = "application/octet-stream"
  end
  if depth > 1 then
    assert(not file, "requests that are sent at once are all the same")
    local together = string.rep(wrk.format(method), depth)
    function request() return together end
  end
  if not file then return end
  local requests, index = {}, 0
  for line in io.lines(file) do
    local name, value = line:match("^([^:]+): (.+)$")
    local headers = { [name] = value }
    for key, text in pairs(wrk.headers) do headers[key] = text end
    requests[#requests + 1] = wrk.format(method, nil, headers)
  end
  assert(#requests > 0, "no lines in " .. file)
  function request()
    index = index % #requests + 1
    return requests[index]
  end
end
