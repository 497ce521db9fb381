/**
 * The jobs: what is asked of the gateways, which of them take part, and what they must answer. Configurations are in the folders here.
 *
 * A job has a `load` (see lib/measure.mjs) and contestants. A contestant is a rival by its name; or, with `of`, another load on a rival that
 * takes part anyway: both are then measured on one process. `ratios`: with whom the tables compare. `fields`: `tokens` or `keys`, every
 * request with another one. `connections`: in place of those of the run.
 */
import { checkKeys, checkLimit, checkPipelined, checkProxy, checkRefusal, checkTokens } from '../lib/checks.mjs'
import { largeBody, smallBody } from '../lib/rivals.mjs'

const small = { path: '/', body: smallBody }
const large = { path: '/16k', body: largeBody }
const natives = { nginx: {}, haproxy: {} }
const proxies = { ...natives, caddy: {}, 'http-proxy': {} }
/** Other gateways for Node cost too much of the time of a run to be in every job. */
const allProxies = { ...proxies, '@fastify/http-proxy': {}, 'fast-gateway': {} }

function plain(title, options = {}) {
  return { title, folder: 'plain', load: small, check: checkProxy, contestants: { sluice: {}, ...proxies }, ...options }
}

/** Without pipelining towards the upstream, and with. */
function plainBoth(title, options = {}) {
  return plain(title, { contestants: { sluice: {}, 'sluice-pipelining': {}, ...proxies }, ...options })
}

function gatewayJob(algorithm, title) {
  return {
    title,
    folder: 'jwt',
    algorithm,
    load: { path: '/jwt/', fields: 'tokens', algorithm },
    check: checkTokens,
    contestants: {
      sluice: {},
      'sluice, plain': { of: 'sluice', load: small },
      'sluice, plain with the token': { of: 'sluice', load: { path: '/', fields: 'tokens' } },
      'sluice, token alone': { of: 'sluice', load: { path: '/only/', fields: 'tokens' } },
      haproxy: {},
      'nginx-lua': {},
    },
    ratios: ['haproxy', 'sluice, plain'],
  }
}

function refusal(status, path, what, statuses = {}) {
  const load = { path, status }
  const contestants = { sluice: {}, 'uws-empty': { load: { path, status: 429 } }, ...natives, 'nginx-lua': {} }
  if (status !== 429) contestants.caddy = {}
  for (const [name, other] of Object.entries(statuses)) contestants[name] = { load: { path, status: other } }
  const ratios = ['nginx', 'haproxy', 'uws-empty']
  return { title: `Refusals: ${status}, ${what}`, folder: 'refuse', load, check: checkRefusal, contestants, ratios }
}

export const jobs = {
  plain: plain('A: plain proxy, 141-byte answer', { contestants: { sluice: {}, ...allProxies, 'http-proxy-default': {} } }),
  'plain-c16': plainBoth('A: plain proxy, 16 connections', { connections: 16 }),
  'plain-c256': plainBoth('A: plain proxy, 256 connections', { connections: 256 }),
  'plain-c1024': plainBoth('A: plain proxy, 1,024 connections', { connections: 1024 }),
  pipelining: plain('A: plain proxy; Sluice has up to 16 requests in flight on an upstream connection', {
    values: { PIPELINING: 16 },
    contestants: { sluice: {}, ...natives },
  }),
  'pipelined-clients': plainBoth('A: plain proxy; clients send 16 requests at once and wait for their answers', {
    load: { ...small, depth: 16 },
    check: checkPipelined,
  }),
  '16k': plainBoth('A: plain proxy, 16 KiB answer', {
    load: large,
    contestants: { sluice: {}, 'sluice-pipelining': {}, ...allProxies },
  }),
  '16k-c16': plainBoth('A: plain proxy, 16 KiB answer, 16 connections', { load: large, connections: 16 }),
  '16k-c256': plainBoth('A: plain proxy, 16 KiB answer, 256 connections', { load: large, connections: 256 }),
  '16k-c1024': plainBoth('A: plain proxy, 16 KiB answer, 1,024 connections', { load: large, connections: 1024 }),
  limit: {
    title: 'B: limit by address that is never reached, and metrics (limit-count, limit_req without metrics, stick table)',
    folder: 'limit',
    load: { path: '/limit/', body: smallBody },
    check: checkLimit,
    contestants: { sluice: {}, 'sluice, plain': { of: 'sluice', load: small }, ...natives, 'nginx-lua': {} },
    ratios: ['nginx', 'haproxy', 'sluice, plain'],
  },
  'jwt-hs256': gatewayJob('HS256', 'C: JWT HS256 (10,000 tokens of 1,000 consumers), limit per consumer, breaker, metrics, request id'),
  'jwt-rs256': gatewayJob('RS256', 'D: the same with RS256'),
  'refuse-429': refusal(429, '/limited/', 'over the limit'),
  'refuse-401': refusal(401, '/key/', 'no key'),
  'refuse-403': refusal(403, '/forbidden/', 'address not allowed'),
  'refuse-404': refusal(404, '/nowhere/', 'no route'),
  'refuse-503': refusal(503, '/open/', 'breaker open (nginx: all servers marked down, which is 502)', { nginx: 502 }),
  key: {
    title: 'F: key of one of 1,000 consumers, limit per consumer, metrics (nginx: map and limit_req, no metrics)',
    folder: 'key',
    load: { path: '/key/', fields: 'keys' },
    check: checkKeys,
    contestants: {
      sluice: {},
      'sluice, plain': { of: 'sluice', load: small },
      'sluice, plain with the key': { of: 'sluice', load: { path: '/', fields: 'keys' } },
      'sluice, key alone': { of: 'sluice', load: { path: '/only/', fields: 'keys' } },
      ...natives,
      'nginx-lua': {},
    },
    ratios: ['nginx', 'haproxy', 'sluice, plain'],
  },
  post1k: plain('G: POST of 1 KiB', { load: { ...small, uploadBytes: 1024 }, contestants: { sluice: {}, ...allProxies } }),
  post100k: plain('G: POST of 100 KiB', { load: { ...small, uploadBytes: 102_400 }, contestants: { sluice: {}, ...allProxies } }),
  tls: plain('H: TLS 1.3 in front, connections kept', { folder: 'tls', load: { ...small, isTls: true } }),
  'tls-new': plain('H: TLS 1.3 in front, a new connection for every request (ECDSA P-256, full handshakes)', {
    folder: 'tls',
    load: { ...small, isTls: true, closes: true },
  }),
}

const furtherPlain = ['plain-c16', 'plain-c256', 'plain-c1024', '16k', '16k-c16', '16k-c256', '16k-c1024']

/** `least`: of the ratio of requests per CPU second, in the same rounds. */
export const goals = [
  { job: 'plain', of: 'sluice', to: 'nginx', least: 0.9 },
  { job: 'plain', of: 'sluice', to: 'haproxy', least: 1 },
  { job: 'pipelining', of: 'sluice', to: 'nginx', least: 1.2 },
  ...furtherPlain.flatMap((job) => [
    { job, of: 'sluice', to: 'nginx', least: 0.9 },
    { job, of: 'sluice', to: 'haproxy', least: 1 },
    { job, of: 'sluice-pipelining', to: 'nginx', least: 1.2 },
  ]),
  { job: 'limit', of: 'sluice', to: 'haproxy', least: 1 },
  { job: 'jwt-hs256', of: 'sluice', to: 'haproxy', least: 1.4 },
  { job: 'jwt-hs256', of: 'sluice', to: 'sluice, plain', least: 0.9 },
  { job: 'jwt-hs256', of: 'sluice, token alone', to: 'sluice, plain', least: 0.9 },
  { job: 'jwt-rs256', of: 'sluice', to: 'haproxy', least: 3 },
  { job: 'jwt-rs256', of: 'sluice, token alone', to: 'sluice, plain', least: 0.9 },
  { job: 'refuse-429', of: 'sluice', to: 'nginx', least: 1.3 },
  { job: 'refuse-429', of: 'sluice', to: 'uws-empty', least: 0.75 },
  { job: 'refuse-401', of: 'sluice', to: 'uws-empty', least: 0.75 },
  { job: 'refuse-503', of: 'sluice', to: 'uws-empty', least: 0.75 },
  { job: 'key', of: 'sluice', to: 'haproxy', least: 0.95 },
  { job: 'key', of: 'sluice, key alone', to: 'sluice, plain', least: 0.97 },
  { job: 'tls', of: 'sluice', to: 'nginx', least: 0.9 },
]
