-- Open-loop load at the microsecond: sends requests when they are due, and writes down when each was sent and answered. It runs inside wrk only
-- because wrk brings LuaJIT with its foreign functions, which need no compiler and collect no garbage here; wrk's own loop never starts.
--   wrk -t1 -c1 -d1s -s constant-rate.lua http://127.0.0.1:PORT/PATH -- SCHEDULE OUTPUT CONNECTIONS
-- SCHEDULE: 64-bit floats, microseconds from the start at which the requests are due, ascending. OUTPUT: three floats for each of them, in the
-- same order: when the generator could send it at the earliest (due, or later if all connections waited for answers), when it did, and when the
-- last byte of the answer arrived. The kernel says when bytes arrived, so the generator need not wake up for each answer: it reads
-- what is there when the next request is due, and leaves its core to the upstream until then.
local ffi = require 'ffi'
local C = ffi.C

ffi.cdef([[
struct lat_timespec { long tv_sec; long tv_nsec; };
struct lat_address { uint16_t family; uint16_t port; uint32_t address; uint8_t zero[8]; };
struct lat_event { uint32_t events; uint32_t index; uint32_t unused; } ]] .. (ffi.arch == 'x64' and '__attribute__((packed))' or '') .. [[;
int clock_gettime(int clock, struct lat_timespec *now);
int socket(int domain, int type, int protocol);
int connect(int fd, const struct lat_address *address, uint32_t length);
int setsockopt(int fd, int level, int name, const void *value, uint32_t length);
struct lat_piece { void *base; size_t length; };
struct lat_message {
  void *name; uint32_t nameLength; struct lat_piece *pieces; size_t pieceCount; void *control; size_t controlLength; int flags;
};
struct lat_stamp { size_t length; int level; int type; struct lat_timespec at; };
ssize_t read(int fd, void *buffer, size_t length);
ssize_t recvmsg(int fd, struct lat_message *message, int flags);
int clock_nanosleep(int clock, int flags, const struct lat_timespec *moment, struct lat_timespec *rest);
ssize_t write(int fd, const void *buffer, size_t length);
int epoll_create1(int flags);
int epoll_ctl(int epoll, int operation, int fd, struct lat_event *event);
int epoll_wait(int epoll, struct lat_event *events, int most, int timeoutMs);
int prctl(int option, unsigned long value);
char *strerror(int number);
]])

local CLOCK_REALTIME, CLOCK_MONOTONIC, TIMER_ABSTIME, SOL_SOCKET, SO_TIMESTAMPNS = 0, 1, 1, 1, 35
local AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_NODELAY = 2, 1, 6, 1
local EPOLL_CTL_ADD, EPOLLIN, PR_SET_TIMERSLACK = 1, 1, 29
local BUFFER_BYTES = 65536
-- An answer that takes longer is no answer.
local PATIENCE_MS = 5000
-- Between the last preparation and the first request.
local LEAD_US = 20000

local function fail(text)
  io.stderr:write('constant-rate.lua: ' .. text .. '\n')
  os.exit(1)
end

local function checked(what, result)
  if result < 0 then fail(what .. ': ' .. ffi.string(C.strerror(ffi.errno()))) end
  return result
end

local moment = ffi.new('struct lat_timespec')
-- Of the first moment at which a request may be due, by either clock.
local startSecond, startMicro = 0, 0
local wallSecond, wallMicro = 0, 0

-- Microseconds since the start; before it, below zero.
local function now()
  C.clock_gettime(CLOCK_MONOTONIC, moment)
  return (tonumber(moment.tv_sec) - startSecond) * 1e6 + tonumber(moment.tv_nsec) / 1e3 - startMicro
end

local function begin()
  C.clock_gettime(CLOCK_MONOTONIC, moment)
  startSecond, startMicro = tonumber(moment.tv_sec), tonumber(moment.tv_nsec) / 1e3 + LEAD_US
  C.clock_gettime(CLOCK_REALTIME, moment)
  wallSecond, wallMicro = tonumber(moment.tv_sec), tonumber(moment.tv_nsec) / 1e3 + LEAD_US
end

local function sleepUntil(time)
  local micro = time + startMicro
  moment.tv_sec = startSecond + math.floor(micro / 1e6)
  moment.tv_nsec = (micro % 1e6) * 1e3
  C.clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, moment, nil)
end

local buffer = ffi.new('uint8_t[?]', BUFFER_BYTES)
local piece = ffi.new('struct lat_piece')
local stamp = ffi.new('struct lat_stamp')
local message = ffi.new('struct lat_message')

-- Reads what is there: bytes, and when the last of them arrived.
local function receive(fd)
  -- Pointers do not keep alive what they point to; these names do.
  piece.base, piece.length = buffer, BUFFER_BYTES
  message.pieces, message.pieceCount = piece, 1
  message.control, message.controlLength = stamp, ffi.sizeof(stamp)
  local bytes = checked('recvmsg', tonumber(C.recvmsg(fd, message, 0)))
  if bytes == 0 then fail('the connection was closed instead of an answer') end
  if message.controlLength == 0 or stamp.type ~= SO_TIMESTAMPNS then fail('the kernel does not say when bytes arrived') end
  return bytes, (tonumber(stamp.at.tv_sec) - wallSecond) * 1e6 + tonumber(stamp.at.tv_nsec) / 1e3 - wallMicro
end

-- One request and its whole answer, which says how long all answers of this connection have to be.
local function firstAnswer(fd, request)
  checked('write', tonumber(C.write(fd, request, #request)))
  local text = ''
  while true do
    local count = checked('read', tonumber(C.read(fd, buffer, BUFFER_BYTES)))
    if count == 0 then fail('the connection was closed instead of an answer') end
    text = text .. ffi.string(buffer, count)
    local head = text:find('\r\n\r\n', 1, true)
    if head then
      if not text:find('^HTTP/1.1 200 ') then fail('not an answer with 200: ' .. text:sub(1, 200)) end
      local body = text:lower():match('\r\ncontent%-length: *(%d+)\r\n')
      if not body then fail('an answer without Content-Length: ' .. text:sub(1, 400)) end
      local length = head + 3 + tonumber(body)
      if #text == length then return length end
      if #text > length then fail('more bytes than one answer has') end
    end
  end
end

local function open(request)
  local fd = checked('socket', C.socket(AF_INET, SOCK_STREAM, 0))
  local port = tonumber(wrk.port)
  local address = ffi.new('struct lat_address')
  address.family = AF_INET
  -- Both as they stand on the wire.
  ffi.cast('uint8_t *', address)[2] = math.floor(port / 256)
  ffi.cast('uint8_t *', address)[3] = port % 256
  for index, value in ipairs({ 127, 0, 0, 1 }) do ffi.cast('uint8_t *', address)[3 + index] = value end
  checked('connect', C.connect(fd, address, ffi.sizeof(address)))
  local on = ffi.new('int[1]', 1)
  checked('setsockopt', C.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, on, 4))
  checked('setsockopt', C.setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, on, 4))
  return fd, firstAnswer(fd, request)
end

local function readSchedule(path)
  local file = io.open(path, 'rb') or fail('cannot read ' .. path)
  local bytes = file:read('*a')
  file:close()
  local total = #bytes / 8
  local due = ffi.new('double[?]', total)
  ffi.copy(due, bytes, #bytes)
  return due, total
end

local function drive(due, total, out, fds, lengths, request, connections)
  local requestBytes = #request
  local poller = checked('epoll_create1', C.epoll_create1(0))
  local event = ffi.new('struct lat_event')
  -- Free connections in a ring: all take their turns. `owner`: the request that a connection waits for.
  local ring = ffi.new('int32_t[?]', connections)
  local owner = ffi.new('int32_t[?]', connections)
  local got = ffi.new('int32_t[?]', connections)
  for index = 0, connections - 1 do
    event.events = EPOLLIN
    event.index = index
    checked('epoll_ctl', C.epoll_ctl(poller, EPOLL_CTL_ADD, fds[index], event))
    ring[index] = index
  end
  local first, free, freeSince = 0, connections, 0
  local events = ffi.new('struct lat_event[?]', connections)
  local sent, done, progressAt = 0, 0, now()
  while done < total do
    local time = now()
    -- One at a time: the upstream may run whenever something is written to it, and its answers have to be read as they come.
    if sent < total and free > 0 and due[sent] <= time then
      local connection = ring[first]
      first = (first + 1) % connections
      free = free - 1
      owner[connection] = sent
      out[3 * sent] = math.max(due[sent], freeSince)
      out[3 * sent + 1] = time
      if C.write(fds[connection], request, requestBytes) ~= requestBytes then fail('a request could not be written') end
      sent = sent + 1
    end
    local canSend = sent < total and free > 0
    local count = C.epoll_wait(poller, events, connections, canSend and 0 or PATIENCE_MS)
    if count > 0 then
      progressAt = now()
    elseif done < sent and now() - progressAt >= PATIENCE_MS * 1000 then
      fail('no answer within 5 s')
    end
    local wasFull = free == 0 and count > 0
    if wasFull then freeSince = math.huge end
    for index = 0, count - 1 do
      local connection = events[index].index
      local bytes, arrived = receive(fds[connection])
      if got[connection] == 0 and (bytes < 12 or buffer[9] ~= 50 or buffer[10] ~= 48 or buffer[11] ~= 48) then
        fail('not an answer with 200: ' .. ffi.string(buffer, math.min(bytes, 200)))
      end
      got[connection] = got[connection] + bytes
      if got[connection] > lengths[connection] then fail('more bytes than one answer has') end
      if got[connection] == lengths[connection] then
        got[connection] = 0
        out[3 * owner[connection] + 2] = arrived
        done = done + 1
        if wasFull then freeSince = math.min(freeSince, arrived) end
        ring[(first + free) % connections] = connection
        free = free + 1
      end
    end
    if sent < total and free > 0 and due[sent] > now() then sleepUntil(due[sent]) end
  end
end

function init(args)
  local schedulePath, outputPath, connections = args[1], args[2], tonumber(args[3])
  local request = 'GET ' .. wrk.path .. ' HTTP/1.1\r\nHost: bench.example\r\n\r\n'
  local due, total = readSchedule(schedulePath)
  local out = ffi.new('double[?]', 3 * total)
  local fds, lengths = ffi.new('int[?]', connections), ffi.new('int[?]', connections)
  for index = 0, connections - 1 do fds[index], lengths[index] = open(request) end
  -- Timers of ordinary threads may be 50 microseconds late.
  C.prctl(PR_SET_TIMERSLACK, 1)
  begin()
  drive(due, total, out, fds, lengths, request, connections)
  local file = io.open(outputPath, 'wb') or fail('cannot write ' .. outputPath)
  file:write(ffi.string(out, 3 * total * 8))
  file:close()
  os.exit(0)
end
