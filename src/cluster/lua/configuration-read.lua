-- What has become of the configuration that gateways share, since a reader last looked.
--
-- KEYS   1  state: hash of id, token, revision, oldest, oldest_token, log_bytes (see configuration-write)
--        2  resources: hash, field = kind and id, value = the resource as JSON, or "-" (deleted although others name it)
--        3  log: hash, field = revision, value = token, line feed, JSON list (see configuration-write)
-- ARGV   1  revision that the reader knows
--        2  its token; empty = the reader knows nothing
--        3  "look": only says whether there is something new
-- Returns  {} = there is no configuration; {id, revision, token} = nothing new, or only looked;
--          {id, revision, token, "log", entry, …} = the revisions behind the known one, in their order;
--          {id, revision, token, "whole", field, value, …} = everything

local state = redis.call('HMGET', KEYS[1], 'id', 'revision', 'token', 'oldest', 'oldest_token')
local id, revision, token = state[1], state[2], state[3]
if not id then return {} end
if token == ARGV[2] or ARGV[3] == 'look' then return { id, revision, token } end
local known, newest, oldest = tonumber(ARGV[1]), tonumber(revision), tonumber(state[4])
local known_token = false
if known == oldest then
  known_token = state[5]
elseif known > oldest and known < newest then
  local entry = redis.call('HGET', KEYS[3], string.format('%.0f', known))
  known_token = entry and string.match(entry, '^[^\n]*')
end
if ARGV[2] ~= '' and known_token == ARGV[2] then
  local reply = { id, revision, token, 'log' }
  for number = known + 1, newest do
    local entry = redis.call('HGET', KEYS[3], string.format('%.0f', number))
    -- Somebody has written by hand.
    if not entry then break end
    reply[#reply + 1] = entry
  end
  if #reply - 4 == newest - known then return reply end
end
local reply = { id, revision, token, 'whole' }
local all = redis.call('HGETALL', KEYS[2])
for index = 1, #all do
  reply[#reply + 1] = all[index]
end
return reply
