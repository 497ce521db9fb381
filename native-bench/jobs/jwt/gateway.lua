-- The gateway job in Lua, as little of it as possible: an upper bound for gateways that are Lua on nginx.
-- There is no JSON library among Debian's packages for nginx, so the claims are found by patterns: quicker than any parser.
local ffi = require "ffi"
local base64 = require "ngx.base64"
local crypto = ffi.load("libcrypto.so.3")
ffi.cdef [[
typedef struct evp_md_st EVP_MD;
typedef struct evp_pkey_st EVP_PKEY;
typedef struct evp_md_ctx_st EVP_MD_CTX;
const EVP_MD *EVP_sha256(void);
unsigned char *HMAC(const EVP_MD *md, const void *key, int key_length, const char *data, size_t length, unsigned char *out, unsigned int *out_length);
void *BIO_new_mem_buf(const void *buffer, int length);
EVP_PKEY *PEM_read_bio_PUBKEY(void *bio, void *out, void *callback, void *user);
EVP_MD_CTX *EVP_MD_CTX_new(void);
int EVP_MD_CTX_reset(EVP_MD_CTX *context);
int EVP_DigestVerifyInit(EVP_MD_CTX *context, void *out, const EVP_MD *md, void *engine, EVP_PKEY *key);
int EVP_DigestVerify(EVP_MD_CTX *context, const char *signature, size_t signature_length, const char *data, size_t length);
int CRYPTO_memcmp(const void *a, const void *b, size_t length);
]]

local gateway = {}
local LIMIT, WINDOW = 1000000000, 3600
local FAILURES, OPEN_SECONDS = 5, 30
local BOUNDS = { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000 }

local function slurp(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function refuse(status, message)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.print('{"message":"', message, '"}\n')
  return ngx.exit(status)
end

local function verifier(algorithm, key)
  local sha256 = crypto.EVP_sha256()
  if algorithm == "HS256" then
    local out, length = ffi.new("unsigned char[64]"), ffi.new("unsigned int[1]")
    return function(input, signature)
      if #signature ~= 32 or crypto.HMAC(sha256, key, #key, input, #input, out, length) == nil then return false end
      return crypto.CRYPTO_memcmp(out, signature, 32) == 0
    end
  end
  local public = crypto.PEM_read_bio_PUBKEY(crypto.BIO_new_mem_buf(key, #key), nil, nil, nil)
  assert(public ~= nil, "no public key in the file")
  local context = crypto.EVP_MD_CTX_new()
  return function(input, signature)
    crypto.EVP_MD_CTX_reset(context)
    if crypto.EVP_DigestVerifyInit(context, nil, sha256, nil, public) ~= 1 then return false end
    return crypto.EVP_DigestVerify(context, signature, #signature, input, #input) == 1
  end
end

function gateway.new(options)
  local consumers = {}
  for line in io.lines(options.consumers_file) do
    local key, name = line:match("^(%S+) (%S+)$")
    if key then consumers[key] = name end
  end
  local genuine = verifier(options.algorithm, slurp(options.key_file))
  local wanted = '"alg":"' .. options.algorithm .. '"'

  -- The name of the consumer, or nothing.
  local function consumer_of(token)
    local first = token:find(".", 1, true)
    local second = first and token:find(".", first + 1, true)
    if not second then return end
    local header = base64.decode_base64url(token:sub(1, first - 1))
    local claims = base64.decode_base64url(token:sub(first + 1, second - 1))
    local signature = base64.decode_base64url(token:sub(second + 1))
    if not (header and claims and signature) or not header:find(wanted, 1, true) then return end
    local name = consumers[claims:match('"key":"([^"]+)"') or ""]
    if not name or not genuine(token:sub(1, second - 1), signature) then return end
    local expires = tonumber(claims:match('"exp":(%d+)'))
    if not expires or expires <= ngx.time() then return end
    return name
  end

  local counts, breakers, shared = ngx.shared.counts, ngx.shared.breakers, ngx.shared.metrics
  local pending, histograms = {}, {}

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

  local self = {}

  function self.start_worker()
    assert(ngx.timer.every(1, flush))
  end

  function self.access()
    local field = ngx.var.http_authorization
    if not field or field:sub(1, 7) ~= "Bearer " then return refuse(401, "Missing JWT token in request") end
    local name = consumer_of(field:sub(8))
    if not name then return refuse(401, "failed to verify jwt") end
    local id = ngx.var.request_id
    ngx.req.set_header("X-Consumer-Username", name)
    ngx.req.set_header("X-Request-Id", id)
    local context = ngx.ctx
    context.consumer, context.id = name, id
    if breakers:get("open") then return refuse(503, "the breaker is open") end
    local left = LIMIT - counts:incr(name, 1, 0, WINDOW)
    context.left = left
    if left < 0 then return refuse(429, "Too Many Requests") end
  end

  function self.header_filter()
    local context, header = ngx.ctx, ngx.header
    if not context.left then return end
    header["X-Request-Id"] = context.id
    header["X-RateLimit-Limit"] = LIMIT
    header["X-RateLimit-Remaining"] = context.left
  end

  function self.log()
    local name = ngx.ctx.consumer or ""
    local status = ngx.status
    if status >= 500 then
      if breakers:incr("failures", 1, 0) >= FAILURES then breakers:set("open", true, OPEN_SECONDS) end
    elseif breakers:get("failures") ~= 0 then
      breakers:set("failures", 0)
    end
    local var = ngx.var
    local total = (ngx.now() - ngx.req.start_time()) * 1000
    local upstream = (tonumber(var.upstream_response_time) or 0) * 1000
    add("status_" .. status .. "_" .. name, 1)
    add("ingress_" .. name, tonumber(var.request_length))
    add("egress_" .. name, tonumber(var.bytes_sent))
    observe("request_" .. name, total)
    observe("upstream_" .. name, upstream)
    observe("gateway_" .. name, total - upstream)
  end

  function self.metrics()
    flush()
    for _, name in ipairs(shared:get_keys(0)) do ngx.say(name, " ", shared:get(name)) end
  end

  return self
end

return gateway
