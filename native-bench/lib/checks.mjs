/** A gateway that answers wrongly is not worth timing: what each has to do before and after it is measured. */
import { TOKENS, userOf } from './fixtures.mjs'
import { fetchOnce, fetchTogether } from './http.mjs'

const patienceMs = 10_000
/** Requests whose answers the metrics have to count. */
const metered = 3

function wrong(gateway, what, expected, found) {
  return new Error(`${gateway.name}: ${what}: expected ${short(expected)}, found ${short(JSON.stringify(found))}`)
}

function short(text) {
  const all = String(text)
  return all.length > 300 ? `${all.slice(0, 300)} …` : all
}

async function expectStatus(gateway, status, question, what) {
  const answer = await fetchOnce(gateway.port, question)
  if (answer.status !== status) throw wrong(gateway, what ?? `status of ${question.path}`, status, answer)
  return answer
}

async function expectEcho(gateway, question, expected) {
  const { body } = await expectStatus(gateway, 200, question)
  const echo = JSON.parse(body)
  const all = { method: question.method ?? 'GET', host: 'bench.example', for: '127.0.0.1', real: '127.0.0.1', length: '', ...expected }
  for (const [name, value] of Object.entries(all)) {
    if (echo[name] !== value)
      throw wrong(gateway, `what the upstream received as "${name}" at ${question.path}`, JSON.stringify(value), echo[name])
  }
  return echo
}

/** Status and body of the load, and what arrives at the upstream. */
export async function checkProxy(gateway, { path, body, uploadBytes = 0, isTls = false }) {
  const upload = 'x'.repeat(uploadBytes)
  const question = { ...(uploadBytes > 0 ? { method: 'POST', upload } : {}), isTls }
  const answer = await expectStatus(gateway, 200, { ...question, path })
  if (answer.body !== body) throw wrong(gateway, `body of ${path}`, `the ${body.length} bytes of the upstream`, answer.body)
  if (isTls && answer.protocol !== 'TLSv1.3') throw wrong(gateway, 'protocol', 'TLSv1.3', answer.protocol)
  await expectEcho(gateway, { ...question, path: '/echo' }, uploadBytes > 0 ? { length: String(uploadBytes) } : {})
}

/** Answers to requests that are sent at once have to come in the order of the requests. */
export async function checkPipelined(gateway, load) {
  await checkProxy(gateway, load)
  const paths = Array.from({ length: load.depth }, (_, index) => (index % 3 === 0 ? '/16k' : index % 3 === 1 ? '/' : '/echo'))
  const bodies = await fetchTogether(gateway.port, paths)
  for (const [index, path] of paths.entries()) {
    const { body } = await fetchOnce(gateway.port, { path })
    if (bodies[index] !== body) throw wrong(gateway, `answer ${index + 1} of ${load.depth} sent at once, ${path}`, body, bodies[index])
  }
}

/** Five requests pass and the sixth is refused, each time for another client (`headersOf`). Only before the timing: it is used up. */
async function checkFew(gateway, headers = {}) {
  for (let count = 1; count <= 5; count++)
    await expectStatus(gateway, 200, { path: '/few/', headers }, `request ${count} of 5 that may pass`)
  await expectStatus(gateway, 429, { path: '/few/', headers }, 'the request behind the limit')
}

/** Lines of the metrics that count good answers. */
const goodAnswers = {
  sluice: /^apisix_http_status\{code="200".*\} (\d+)$/gm,
  haproxy: /^haproxy_backend_http_responses_total\{.*code="2xx"\} (\d+)$/gm,
  'nginx-lua': /^status_200_\S* (\d+)$/gm,
}

async function countedAnswers(gateway) {
  const { body } = await fetchOnce(gateway.metricsPort, { path: '/metrics' })
  return [...body.matchAll(goodAnswers[gateway.rival])].reduce((sum, [, number]) => sum + Number(number), 0)
}

/** Its metrics count each answer, if it has metrics. */
async function checkMetrics(gateway, question) {
  if (goodAnswers[gateway.rival] === undefined) return
  const deadline = performance.now() + patienceMs
  for (;;) {
    const before = await countedAnswers(gateway)
    for (let count = 0; count < metered; count++) await expectStatus(gateway, 200, question)
    const more = (await countedAnswers(gateway)) - before
    if (more === metered) return
    // What was under way when the load ended may be counted in between.
    if (performance.now() > deadline)
      throw wrong(gateway, `answers to ${metered} requests of ${question.path} in the metrics`, metered, more)
  }
}

export async function checkLimit(gateway, load, { isFirst }) {
  await checkProxy(gateway, load)
  await expectEcho(gateway, { path: '/limit/echo' }, {})
  if (isFirst) await checkFew(gateway)
  await checkMetrics(gateway, { path: load.path })
}

/** Good tokens pass, everything else does not, and each consumer is counted on its own. */
export async function checkTokens(gateway, { algorithm }, { fixtures }) {
  const bearer = (token) => ({ authorization: `Bearer ${token}` })
  const path = '/jwt/echo'
  const last = TOKENS - 1
  const good = await fixtures.token(algorithm, last)
  const echo = await expectEcho(gateway, { path, headers: bearer(good) }, { consumer: userOf(last) })
  if (echo.id.length < 32) throw wrong(gateway, 'request id at the upstream', 'a random id', echo.id)
  const left = async (token) => {
    const { headers } = await expectStatus(gateway, 200, { path, headers: bearer(token) })
    if ((headers['x-request-id'] ?? '').length < 32)
      throw wrong(gateway, 'request id in the answer', 'a random id', headers['x-request-id'])
    return Number(headers['x-ratelimit-remaining'])
  }
  const [first, second, other, third] = [
    await left(good),
    await left(good),
    await left(await fixtures.token(algorithm, 7)),
    await left(good),
  ]
  if (first - second !== 1 || second - third !== 1 || !Number.isInteger(other)) {
    throw wrong(gateway, 'what is left of the limit, another consumer in between', 'one less each time', [first, second, other, third])
  }
  const [head, claims, signature] = good.split('.')
  const bent = `${head}.${claims}.${signature.slice(0, 10)}${signature[10] === 'A' ? 'B' : 'A'}${signature.slice(11)}`
  const none = Buffer.from(JSON.stringify({ alg: 'none', typ: 'JWT' })).toString('base64url')
  const bad = {
    'a changed signature': bent,
    'a changed consumer': `${head}.${Buffer.from(JSON.stringify({ key: 'key-1', exp: 9_999_999_999 })).toString('base64url')}.${signature}`,
    'a token without a signature': `${none}.${claims}.`,
    'an expired token': await fixtures.token(algorithm, 1, { exp: Math.floor(Date.now() / 1000) - 60 }),
    'a token of an unknown consumer': await fixtures.token(algorithm, 1, { key: 'nobody' }),
    ...(algorithm === 'RS256' && {
      'the public key used as a secret': await fixtures.token('HS256', 1, {}, Buffer.from(fixtures.keys.pem)),
    }),
  }
  for (const [what, token] of Object.entries(bad)) await expectStatus(gateway, 401, { path, headers: bearer(token) }, what)
  await expectStatus(gateway, 401, { path }, 'no token')
  await checkMetrics(gateway, { path, headers: bearer(good) })
}

export async function checkKeys(gateway, _load, { fixtures, isFirst }) {
  const { keys } = fixtures.apiKeys
  const path = '/key/echo'
  await expectEcho(gateway, { path, headers: { apikey: keys[5] } }, { consumer: userOf(5) })
  await expectStatus(gateway, 401, { path }, 'no key')
  await expectStatus(gateway, 401, { path, headers: { apikey: `${keys[5]}0` } }, 'an unknown key')
  if (isFirst) {
    await checkFew(gateway, { apikey: keys[1] })
    await expectStatus(gateway, 200, { path: '/few/', headers: { apikey: keys[2] } }, 'another consumer')
  }
  await checkMetrics(gateway, { path, headers: { apikey: keys[5] } })
}

/** The refusal of the load, and beside it a request that passes. */
export async function checkRefusal(gateway, { path, status }, { fixtures }) {
  const deadline = performance.now() + patienceMs
  if (gateway.rival !== 'uws-empty') {
    await expectEcho(gateway, { path: '/good/echo' }, {})
    await expectStatus(gateway, 200, { path: '/key/', headers: { apikey: fixtures.apiKeys.keys[0] } })
  }
  // The first request uses the limit up; a dead upstream has to be found dead.
  for (;;) {
    const answers = [await fetchOnce(gateway.port, { path }), await fetchOnce(gateway.port, { path })]
    if (answers.every((answer) => answer.status === status)) return
    if (performance.now() > deadline) throw wrong(gateway, `status of ${path}`, status, answers)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
