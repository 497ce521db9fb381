/**
 * csrf: double-submit protection. Every answer sets a signed token cookie; an unsafe request must repeat it in a header.
 *
 * Runs on workers: rewrite phase (check) and headerFilter (new cookie). State: none, the token carries its issue time and an
 * HMAC-SHA256 under `key`. Failure: whatever is missing, unequal, forged or expired is refused with 401.
 *
 * Token: base64 of `{"random": <string>, "expires": <issue time, seconds>, "sign": <hex HMAC of "<expires>.<random>">}`.
 */
import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto'
import {
  type Accessor,
  definePlugin,
  type Exchange,
  jsonReply,
  type LinkKit,
  type PluginInstance,
  type Reply,
  type Static,
  Type,
} from './plugin.js'

const schema = Type.Object({
  key: Type.String({ minLength: 1, description: 'Secret under which tokens are signed. Keep it the same on all gateways.' }),
  expires: Type.Integer({
    minimum: 0,
    maximum: 1_000_000_000,
    default: 7200,
    description: 'Seconds after which a token is no longer accepted; 0 = never.',
  }),
  name: Type.String({
    pattern: '^[A-Za-z0-9_.-]+$',
    maxLength: 256,
    default: 'apisix-csrf-token',
    description: 'Name of the cookie and of the request header that carry the token.',
  }),
})
type Conf = Static<typeof schema>

const NO_HEADER = jsonReply(401, 'error_msg', 'no csrf token in headers')
const NO_COOKIE = jsonReply(401, 'error_msg', 'no csrf cookie')
const MISMATCH = jsonReply(401, 'error_msg', 'csrf token mismatch')
const BAD_TOKEN = jsonReply(401, 'error_msg', 'Failed to verify the csrf token signature')

/** The last second that a cookie date with a four-digit year can name. */
const NEVER = new Date(Date.UTC(9999, 11, 31, 23, 59, 59)).toUTCString()

export const csrf = definePlugin<Conf, Conf>({
  name: 'csrf',
  priority: 2980,
  description: 'Protects against cross-site request forgery with a signed double-submit cookie.',
  schema,
  prepare: (conf) => conf,
  link,
})

function link(conf: Conf, kit: LinkKit): PluginInstance {
  const headerKey = conf.name.toLowerCase()
  const cookie = kit.variable(`cookie_${conf.name}`)
  return {
    rewrite: (exchange) => (isSafe(exchange.method) ? undefined : verify(exchange, headerKey, cookie, conf)),
    headerFilter(exchange) {
      const now = Math.floor(exchange.startedAtMs / 1000)
      const until = conf.expires === 0 ? NEVER : new Date((now + conf.expires) * 1000).toUTCString()
      exchange.response.headers.add('Set-Cookie', `${conf.name}=${issue(conf.key, now)};path=/;SameSite=Lax;Expires=${until}`)
    },
  }
}

function isSafe(method: string): boolean {
  return method === 'GET' || method === 'HEAD' || method === 'OPTIONS'
}

function verify(exchange: Exchange, headerKey: string, cookie: Accessor, conf: Conf): Reply | undefined {
  const sent = exchange.requestHeaders.get(headerKey)
  if (sent === undefined || sent === '') return NO_HEADER
  const stored = cookie(exchange)
  if (stored === undefined || stored === '') return NO_COOKIE
  if (!equalInConstantTime(sent, stored)) return MISMATCH
  const now = Math.floor(exchange.startedAtMs / 1000)
  return isGenuine(stored, now, conf) ? undefined : BAD_TOKEN
}

function issue(key: string, now: number): string {
  const random = randomUUID()
  return Buffer.from(JSON.stringify({ random, expires: now, sign: sign(key, random, now) })).toString('base64')
}

function isGenuine(token: string, now: number, conf: Conf): boolean {
  const claims = readClaims(token)
  if (claims === null) return false
  if (!equalInConstantTime(claims.sign, sign(conf.key, claims.random, claims.expires))) return false
  return conf.expires === 0 || now - claims.expires <= conf.expires
}

/** Types are checked here because the signature covers text: an integer and a string around one dot can be read in one way only. */
function readClaims(token: string): { random: string; expires: number; sign: string } | null {
  let parsed: unknown
  try {
    parsed = JSON.parse(Buffer.from(token, 'base64').toString('utf8'))
  } catch {
    return null
  }
  if (typeof parsed !== 'object' || parsed === null) return null
  if (!('random' in parsed && 'expires' in parsed && 'sign' in parsed)) return null
  const { random, expires, sign: signature } = parsed
  if (typeof random !== 'string' || typeof signature !== 'string' || !Number.isSafeInteger(expires)) return null
  return typeof expires === 'number' ? { random, expires, sign: signature } : null
}

function sign(key: string, random: string, expires: number): string {
  return createHmac('sha256', key).update(`${expires}.${random}`).digest('hex')
}

function equalInConstantTime(left: string, right: string): boolean {
  const a = Buffer.from(left)
  const b = Buffer.from(right)
  return a.length === b.length && timingSafeEqual(a, b)
}
