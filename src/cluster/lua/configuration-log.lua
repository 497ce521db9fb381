-- The log of the configuration that gateways share.
--
-- KEYS   1  state, 2 log: see configuration-write
-- ARGV   1  revision behind which it is wanted
-- Returns  {} = there is no configuration; {token, oldest, revision, entry, …}: revisions behind the wanted or the oldest one, in their order

local state = redis.call('HMGET', KEYS[1], 'token', 'oldest', 'revision')
if not state[1] then return {} end
local reply = { state[1], state[2], state[3] }
for number = math.max(tonumber(state[2]), tonumber(ARGV[1])) + 1, tonumber(state[3]) do
  -- What is not there was written by hand: nothing older can be worked out.
  local entry = redis.call('HGET', KEYS[2], string.format('%.0f', number))
  if entry then
    reply[#reply + 1] = entry
  else
    reply = { state[1], string.format('%.0f', number), state[3] }
  end
end
return reply
