/**
 * Tokens: first verification per algorithm (node:crypto here, node:crypto on the thread pool, jose), and a token that is known.
 *
 *   npm run build && node native-bench/micro/jwt.mjs        (SLUICE_DIST: another build folder; about half a minute)
 *
 * `here` blocks the loop for that long. `loop` is how long the loop is busy with one verification on the thread pool, several at a
 * time: where it is far below `here`, the pool is worth it. Both are CPU time of the thread, as Linux counts it (`/proc`). `wall`, the best
 * of five rounds, needs a machine that does nothing else. `known`: 10,000 tokens in random order, with their times and revocation.
 */
import { generateKeyPairSync, randomBytes, randomInt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { pathToFileURL } from 'node:url'
import { jwtVerify, SignJWT } from 'jose'

const dist = process.env.SLUICE_DIST === undefined ? new URL('../../dist/', import.meta.url) : pathToFileURL(`${process.env.SLUICE_DIST}/`)
const { tokenAlgorithms } = await import(new URL('auth/algorithm.js', dist))
const { pemKey, secretKey } = await import(new URL('auth/token-key.js', dist))
const { WorkerTokens } = await import(new URL('auth/worker-tokens.js', dist))
const { createRevocationsRegion } = await import(new URL('shared/revocations.js', dist))
const { systemClock } = await import(new URL('base/clock.js', dist))

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const pairs = {
  RS: rsa,
  PS: rsa,
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  ES512: generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  EdDSA: generateKeyPairSync('ed25519'),
}
const secret = randomBytes(64)

function keysOf(algorithm) {
  if (algorithm.startsWith('HS')) return { signing: secret, verifying: secret, ours: secretKey(algorithm, secret) }
  const { privateKey, publicKey } = pairs[algorithm] ?? pairs[algorithm.slice(0, 2)]
  return {
    signing: privateKey,
    verifying: publicKey,
    ours: pemKey(algorithm, publicKey.export({ type: 'spki', format: 'pem' }).toString()),
  }
}

function claims(number) {
  return { iss: 'https://issuer.example', sub: `user-${number}`, key: 'k', jti: `id-${number}`, scope: 'read write', exp: 4_000_000_000 }
}

const roundCount = 5
const roundMs = 150

/** CPU time of this thread, microseconds, in steps of some milliseconds. */
function threadUs() {
  return Number(readFileSync('/proc/thread-self/schedstat', 'latin1').split(' ')[0]) / 1000
}

/** Microseconds of one call: on the clock, and of this thread's CPU. `run` makes calls until `isOver` says so, and gives their number. */
async function cost(run) {
  let wall = Number.POSITIVE_INFINITY
  let calls = 0
  const before = threadUs()
  for (let round = 0; round < roundCount; round++) {
    const begin = performance.now()
    const made = await run(() => performance.now() - begin > roundMs)
    wall = Math.min(wall, ((performance.now() - begin) * 1000) / made)
    calls += made
  }
  return { wall, busy: (threadUs() - before) / calls }
}

/** Several at a time. */
function lanes(one) {
  return async (isOver) => {
    let made = 0
    const lane = async () => {
      for (; !isOver(); made++) await one()
    }
    await Promise.all([lane(), lane()])
    return made
  }
}

const columns = ['here', 'pool wall', 'pool loop', 'jose wall', 'jose loop']
process.stdout.write(`first verification, microseconds\n${'algorithm'.padEnd(10)}${columns.map((name) => name.padStart(11)).join('')}\n`)
for (const algorithm of tokenAlgorithms) {
  const { signing, verifying, ours } = keysOf(algorithm)
  const text = await new SignJWT(claims(1)).setProtectedHeader({ alg: algorithm }).sign(signing)
  const dot = text.lastIndexOf('.')
  const input = text.slice(0, dot)
  const signature = Buffer.from(text.slice(dot + 1), 'base64url')
  for (let index = 0; index < 200; index++) if (!ours.verify(input, signature)) throw new Error(algorithm)
  const here = await cost((isOver) => {
    let made = 0
    for (; made % 16 !== 0 || made === 0 || !isOver(); made++) ours.verify(input, signature)
    return made
  })
  const pool = ours.isSlow ? await cost(lanes(() => ours.verifyElsewhere(input, signature))) : { wall: Number.NaN, busy: Number.NaN }
  const jose = await cost(lanes(() => jwtVerify(text, verifying, { algorithms: [algorithm] })))
  const cells = [here.busy, pool.wall, pool.busy, jose.wall, jose.busy]
  process.stdout.write(`${algorithm.padEnd(10)}${cells.map((us) => (Number.isNaN(us) ? '-' : us.toFixed(1)).padStart(11)).join('')}\n`)
}

for (const algorithm of ['HS256', 'RS256']) {
  const { signing, ours } = keysOf(algorithm)
  const tokens = new WorkerTokens({
    revocations: createRevocationsRegion([1, 2]),
    clock: systemClock,
    askForKeys: () => undefined,
    log: () => undefined,
  })
  const match = { key: ours, binding: null }
  const source = { find: () => match }
  const fields = []
  for (let index = 0; index < 10_000; index++) {
    const text = await new SignJWT(claims(index)).setProtectedHeader({ alg: algorithm }).sign(signing)
    fields.push(Buffer.from(`Bearer ${text}`, 'latin1'))
  }
  const nowS = Date.now() / 1000
  const ask = (field) => {
    // As a listener makes it: a new string for every request.
    const token = tokens.check(field.toString('latin1').slice(7), source)
    if (!(token.exp > nowS && token.nbf < nowS) || tokens.isRevoked(token, nowS)) throw new Error('a good token was refused')
  }
  for (const field of fields) ask(field)
  const order = Array.from({ length: 500_000 }, () => fields[randomInt(fields.length)])
  let begin = performance.now()
  for (const field of order) field.toString('latin1').slice(7)
  const empty = performance.now() - begin
  begin = performance.now()
  for (const field of order) ask(field)
  const ns = ((performance.now() - begin - empty) * 1e6) / order.length
  process.stdout.write(`known ${algorithm} token, ${tokens.service.size} remembered: ${ns.toFixed(0)} ns (above making its string)\n`)
  await tokens.close()
}
