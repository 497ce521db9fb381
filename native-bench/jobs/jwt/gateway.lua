-- The gateway job in Lua, as little of it as possible: an upper bound for gateways that are Lua on nginx.
-- There is no JSON library among Debian's packages for nginx, so the claims are found by patterns: quicker than any parser.
local ffi = require "ffi"
local base64 = require "ngx.base64"
local parts = require "parts"
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
local LIMIT = 1000000000

local function slurp(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
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
  local consumers = parts.consumers(options.consumers_file)
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

  local breaker = parts.breaker("jwt", 5, 30)
  local self = {}

  function self.access()
    local field = ngx.var.http_authorization
    if not field or field:sub(1, 7) ~= "Bearer " then return parts.refuse(401, "Missing JWT token in request") end
    local name = consumer_of(field:sub(8))
    if not name then return parts.refuse(401, "failed to verify jwt") end
    local id = ngx.var.request_id
    ngx.req.set_header("X-Consumer-Username", name)
    ngx.req.set_header("X-Request-Id", id)
    local context = ngx.ctx
    context.consumer, context.id = name, id
    if breaker.is_open() then return parts.refuse(503, "the breaker is open") end
    local left = parts.take(name, LIMIT)
    context.left = left
    if left < 0 then return parts.refuse(429, "Too Many Requests") end
  end

  function self.header_filter()
    local context, header = ngx.ctx, ngx.header
    if not context.left then return end
    header["X-Request-Id"] = context.id
    header["X-RateLimit-Limit"] = LIMIT
    header["X-RateLimit-Remaining"] = context.left
  end

  function self.log()
    breaker.count(ngx.status)
    parts.log(ngx.ctx.consumer or "")
  end

  return self
end

return gateway
