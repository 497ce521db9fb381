-- Changes the configuration that gateways share, if it is still the one that the writer knows: everything or nothing.
--
-- KEYS   1  state: hash of
--             id            of this configuration, for as long as it lives
--             revision      counts the changes
--             token         names the last change: a revision alone would not tell two histories apart
--             oldest        revision behind which the log begins, oldest_token its token, log_bytes the length of the log
--        2  resources: hash, field = kind and id, value = the resource as JSON, or "-" (deleted although others name it)
--        3  log: hash, field = revision, value = token, line feed, JSON list: time, writer, then field, new and old value of each change
--        4  channel (not a key of the data): who listens reads on at once
-- ARGV   1  token of the configuration that is changed; empty = there must be none
--        2  id, for a configuration that is new
--        3  token of this change
--        4  revision of this change
--        5  wall clock, milliseconds since 1970
--        6  who writes
--        7  most revisions in the log
--        8  most bytes in the log, but for the last revision
--        9  "change", or "whole": what was there is forgotten, with the log
--        10 JSON list of field and new value of each change, in turns; an empty value deletes
-- Returns  1; 0 = it is another one by now, and nothing was changed

local state = redis.call('HMGET', KEYS[1], 'token', 'oldest', 'oldest_token', 'log_bytes')
local token = state[1] or ''
if token ~= ARGV[1] then return 0 end
local revision = tonumber(ARGV[4])
local oldest, oldest_token, bytes = tonumber(state[2] or '0'), state[3] or '', tonumber(state[4] or '0')
local changes = { ARGV[5], ARGV[6] }
if ARGV[9] == 'whole' then
  redis.call('DEL', KEYS[2], KEYS[3])
  oldest, oldest_token, bytes = revision, ARGV[3], 0
end
local given = cjson.decode(ARGV[10])
for index = 1, #given, 2 do
  local field, value = given[index], given[index + 1]
  if ARGV[9] ~= 'whole' then
    local count = #changes
    changes[count + 1] = field
    changes[count + 2] = value
    changes[count + 3] = redis.call('HGET', KEYS[2], field) or ''
  end
  if value == '' then
    redis.call('HDEL', KEYS[2], field)
  else
    redis.call('HSET', KEYS[2], field, value)
  end
end
if ARGV[9] ~= 'whole' then
  local entry = ARGV[3] .. '\n' .. cjson.encode(changes)
  redis.call('HSET', KEYS[3], string.format('%.0f', revision), entry)
  bytes = bytes + #entry
  while revision - oldest > tonumber(ARGV[7]) or (bytes > tonumber(ARGV[8]) and oldest < revision) do
    local field = string.format('%.0f', oldest + 1)
    local gone = redis.call('HGET', KEYS[3], field)
    redis.call('HDEL', KEYS[3], field)
    oldest = oldest + 1
    bytes = bytes - (gone and #gone or 0)
    oldest_token = gone and string.match(gone, '^[^\n]*') or ''
  end
end
redis.call('HSET', KEYS[1], 'token', ARGV[3], 'revision', ARGV[4], 'oldest', string.format('%.0f', oldest))
redis.call('HSET', KEYS[1], 'oldest_token', oldest_token, 'log_bytes', string.format('%.0f', bytes))
redis.call('HSETNX', KEYS[1], 'id', ARGV[2])
-- A user who may not publish still writes: the others ask often.
redis.pcall('PUBLISH', KEYS[4], ARGV[4])
return 1
