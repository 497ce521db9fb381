/**
 * What tokens cost a whole gateway, and what a flood of bad ones does to good requests.
 *
 *   npm run build && node native-bench/tokens.mjs [seconds per part and round, default 1] [rounds, default 7]
 *
 * Prints a table in Markdown: medians of the rounds, each of which runs all parts, so that what else the machine does hits all of them
 * alike. Parts, each over 32 connections to one worker: `plain` (no plugin), `known` (10,000 different tokens of HS256, 2,000 of RS256, all seen
 * before), `half …` (every other connection sends requests that are refused: without a token, which is the least that a refusal costs,
 * or with forged tokens, each another one; numbers are those of the good half). The client runs in this process and the upstream
 * beside it, so compare the parts of one run with one another, on a machine that does nothing else.
 */
import { spawn } from 'node:child_process'
import { generateKeyPairSync, randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { SignJWT } from 'jose'
import { Pool } from 'undici'
import { median } from './lib/parse.mjs'

const seconds = Number(process.argv[2] ?? 1)
const rounds = Number(process.argv[3] ?? 7)
const connections = 32
const secret = 'a secret of the benchmark, long enough'
const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const upstream = createServer((_request, response) => response.end('ok')).listen(0, '127.0.0.1')
await once(upstream, 'listening')
const nodes = { [`127.0.0.1:${upstream.address().port}`]: 1 }
const config = {
  consumers: [
    { username: 'hs', plugins: { 'jwt-auth': { key: 'hs', secret } } },
    {
      username: 'rs',
      plugins: { 'jwt-auth': { key: 'rs', algorithm: 'RS256', public_key: publicKey.export({ type: 'spki', format: 'pem' }) } },
    },
  ],
  routes: [
    { uri: '/plain', upstream: { nodes } },
    { uri: '/token', plugins: { 'jwt-auth': {} }, upstream: { nodes } },
  ],
}
const folder = mkdtempSync(join(tmpdir(), 'sluice-bench-'))
writeFileSync(join(folder, 'sluice.json'), JSON.stringify(config))
const entry = fileURLToPath(new URL('../dist/main.js', import.meta.url))
const flags = ['start', '-c', join(folder, 'sluice.json'), '--workers', '1', '--listen', '127.0.0.1:0', '--metrics', '127.0.0.1:0']
const gateway = spawn(process.execPath, [entry, ...flags], { stdio: ['ignore', 'pipe', 'inherit'] })
const url = await new Promise((resolve, reject) => {
  gateway.once('exit', (code) => reject(new Error(`the gateway ended with ${code}`)))
  gateway.stdout.on('data', (text) => {
    const found = /http:\/\/127\.0\.0\.1:\d+/.exec(String(text))
    if (found !== null) resolve(found[0])
  })
})

async function tokens(count, alg, key) {
  const made = []
  for (let index = 0; index < count; index++)
    made.push(await new SignJWT({ key: alg === 'HS256' ? 'hs' : 'rs', sub: `user-${index}` }).setProtectedHeader({ alg }).sign(key))
  return made
}

const clients = ['127.0.0.1', '127.0.0.2'].map((localAddress) => new Pool(url, { connections, pipelining: 1, connect: { localAddress } }))

async function ask(pool, path, token) {
  const headers = token === '' ? {} : { authorization: `Bearer ${token}` }
  const { statusCode, body } = await pool.request({ path, method: 'GET', headers })
  await body.dump()
  return statusCode
}

/**
 * `good` gives tokens that must be let through; `bad`, if it is there, tokens of as many requests that must not, sent by client `from`.
 * Only good requests are timed.
 */
async function part(path, good, bad, from = 1) {
  const times = []
  const refused = { 401: 0, 503: 0 }
  const begin = performance.now()
  const lane = async (number) => {
    const isGood = bad === undefined || number % 2 === 0
    while (performance.now() - begin < seconds * 1000) {
      const sent = performance.now()
      const status = await ask(clients[isGood ? 0 : from], path, isGood ? good() : bad())
      if (isGood !== (status === 200)) throw new Error(`${path}: status ${status}`)
      if (isGood) times.push(performance.now() - sent)
      else refused[status]++
    }
  }
  await Promise.all(Array.from({ length: connections }, (_, number) => lane(number)))
  times.sort((a, b) => a - b)
  const at = (share) => times[Math.floor(times.length * share)] ?? Number.NaN
  return {
    good: times.length / seconds,
    p50: at(0.5),
    p99: at(0.99),
    unauthorized: refused[401] / seconds,
    unasked: refused[503] / seconds,
  }
}

const hs = await tokens(10_000, 'HS256', Buffer.from(secret))
const rs = await tokens(2_000, 'RS256', privateKey)
const pick = (list) => list[randomInt(list.length)]
const forged = () => `${pick(rs).split('.').slice(0, 2).join('.')}.${randomBytes(256).toString('base64url')}`
for (const token of [...hs, ...rs]) if ((await ask(clients[0], '/token', token)) !== 200) throw new Error('a good token was refused')
const knownRs = () => pick(rs)
const parts = {
  plain: () => part('/plain', () => ''),
  'known HS256': () => part('/token', () => pick(hs)),
  'known RS256': () => part('/token', knownRs),
  'half of them without a token': () => part('/token', knownRs, () => ''),
  'half forged RS256, another client': () => part('/token', knownRs, forged),
  'half forged RS256, the same client': () => part('/token', knownRs, forged, 0),
}
const found = Object.keys(parts).map(() => [])
for (let round = 0; round < rounds; round++) {
  for (const [index, run] of Object.values(parts).entries()) found[index].push(await run())
}
const lines = Object.keys(parts).map((name, index) => {
  const of = (key, digits) => median(found[index].map((one) => one[key])).toFixed(digits)
  return `| ${[name, of('good', 0), of('p50', 1), of('p99', 1), of('unauthorized', 0), of('unasked', 0)].join(' | ')} |`
})
process.stdout.write(
  `| requests | good per second | p50 ms | p99 ms | 401 per second | 503 per second |\n|---|---|---|---|---|---|\n${lines.join('\n')}\n`,
)
await Promise.all(clients.map((client) => client.close()))
gateway.kill('SIGTERM')
await once(gateway, 'exit')
upstream.close()
rmSync(folder, { recursive: true })
