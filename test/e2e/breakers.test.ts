/** Circuit breakers in running gateways, in front of upstreams that really fail. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { lengthResponse, type RecordedConnection, type RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import { ADMIN_KEY, type Gateway } from '../support/gateway.js'
import { ask, hammer, requestText } from '../support/limit-clients.js'
import { eventually, RedisServer, redisMissing } from '../support/redis.js'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
afterEach(() => bed.close())

/** Seconds that the test does not last. */
const FOREVER = 3600
const forGood = { open_seconds: FOREVER, max_open_seconds: FOREVER }
const quiet = { log: { level: 'info' } }

function route(id: string, port: number, plugins: object, more: object = {}): object {
  return { id, uri: `/${id}*`, plugins, upstream: { nodes: { [`127.0.0.1:${port}`]: 1 }, retries: 0 }, ...more }
}

interface Switch {
  readonly upstream: RecordingUpstream
  /** What the upstream does from now on; `silence` = takes requests and does not answer. */
  mode: 'ok' | 'fail' | 'silence'
  /** Fails what came during the silence. */
  failSilent(): void
}

async function switched(): Promise<Switch> {
  const site: { mode: Switch['mode'] } = { mode: 'ok' }
  const silent: RecordedConnection[] = []
  const upstream = await bed.upstream({
    answer: (_, connection) => {
      if (site.mode !== 'silence') return lengthResponse('x', [], site.mode === 'ok' ? '200 OK' : '500 Broken')
      silent.push(connection)
      return undefined
    },
  })
  const failSilent = (): void => {
    for (const { socket } of silent.splice(0)) socket.write(lengthResponse('x', [], '500 Broken'))
  }
  return Object.assign(site, { upstream, failSilent })
}

async function admin(gateway: Gateway, path: string, body?: object): Promise<{ readonly status: number; readonly body: unknown }> {
  const response = await fetch(`${gateway.adminUrl}${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { 'X-API-KEY': ADMIN_KEY },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: response.status, body: await response.json() }
}

async function stateOf(gateway: Gateway, name: string): Promise<string> {
  const { body } = await admin(gateway, '/v1/breakers')
  const list = (body as { breakers: { name: string; state: string }[] }).breakers
  return list.find((one) => one.name === name)?.state ?? 'unknown'
}

test('one gateway: all workers stop at once, probes bring it back, the operator and others are told', async () => {
  const told: { readonly from: string; readonly to: string; readonly reason: string; readonly breaker: string }[] = []
  const hook = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk) => {
      text += chunk
    })
    request.on('end', () => {
      if (request.headers['authorization'] === 'Bearer abc') told.push(JSON.parse(text))
      response.end()
    })
  })
  await new Promise<void>((resolve) => hook.listen(0, '127.0.0.1', resolve))
  bed.later(() => hook.close())
  const site = await switched()
  const silent = await switched()
  silent.mode = 'silence'
  const sick = await switched()
  sick.mode = 'fail'
  const { port } = site.upstream
  const webhook = { url: `http://127.0.0.1:${(hook.address() as AddressInfo).port}/events`, headers: { Authorization: 'Bearer abc' } }
  const ofUpstream = { 'circuit-breaker': { scope: 'upstream', consecutive_failures: 3, ...forGood } }
  const breaker = { consecutive_failures: 5, open_seconds: 1, successes: 2, half_open_requests: 2 }
  const config = {
    sluice: { ...quiet, breakers: { webhook } },
    routes: [
      route('a', port, { 'circuit-breaker': breaker }),
      route('held', port, { 'circuit-breaker': breaker }),
      route('path', port, {
        'api-breaker': { break_response_code: 502, break_response_body: 'broken', max_breaker_sec: 300, unhealthy: { failures: 1 } },
      }),
      route(
        'slow',
        silent.upstream.port,
        { 'circuit-breaker': { consecutive_failures: 3, ...forGood } },
        { timeout: { connect: 1, send: 1, read: 0.2 } },
      ),
      route('gone', 1, { 'circuit-breaker': { consecutive_failures: 3, ...forGood } }),
      {
        id: 'nodes',
        uri: '/nodes',
        plugins: { 'circuit-breaker': { scope: 'node', consecutive_failures: 3, ...forGood } },
        upstream: { nodes: { [`127.0.0.1:${port}`]: 1, [`127.0.0.1:${sick.upstream.port}`]: 1 }, retries: 0 },
      },
      {
        id: 'tries',
        uri: '/tries',
        plugins: { 'circuit-breaker': { scope: 'node', consecutive_failures: 2, ...forGood } },
        upstream: { nodes: { '127.0.0.1:2': 1, '127.0.0.1:3': 1 }, retries: 1 },
      },
      route('left', silent.upstream.port, { 'circuit-breaker': { consecutive_failures: 1 } }),
      { id: 'to-sick', uri: '/to-sick', plugins: ofUpstream, upstream_id: 'sick' },
      { id: 'also-to-sick', uri: '/also-to-sick', plugins: ofUpstream, upstream_id: 'sick' },
      { id: 'to-well', uri: '/to-well', plugins: ofUpstream, upstream_id: 'well' },
      {
        id: 'split',
        uri: '/split',
        plugins: { ...ofUpstream, 'traffic-split': { rules: [{ weighted_upstreams: [{ upstream_id: 'sick', weight: 1 }] }] } },
        upstream_id: 'well',
      },
    ],
    upstreams: [
      { id: 'sick', nodes: { [`127.0.0.1:${sick.upstream.port}`]: 1 } },
      { id: 'well', nodes: { [`127.0.0.1:${port}`]: 1 } },
    ],
  }
  const gateway = await bed.gateway({ config, workers: 2, admin: true })

  // Failing: up to seven more may be under way when the fifth failure is seen, and a slow machine gives time for some probes.
  site.mode = 'fail'
  const failing = await hammer(bed, [gateway], '/a', 200, { clients: 8 })
  const reached = site.upstream.requests.length
  expect(reached).toBeGreaterThanOrEqual(5)
  expect([failing.get(500), failing.get(503)]).toEqual([reached, 200 - reached])
  expect(reached).toBeLessThanOrEqual(30)

  // Healed: probes, then everything; no request is lost to a second trip.
  site.mode = 'ok'
  await eventually(
    'the recovery',
    async () => (await ask(bed, gateway, '/a')).status === 200 && (await stateOf(gateway, 'route:a')) === 'closed',
  )
  const healed = await hammer(bed, [gateway], '/a', 100, { clients: 8 })
  expect([...healed]).toEqual([[200, 100]])

  // Timeouts and refused connections count; a client that leaves does not.
  for (const target of ['/slow', '/gone']) {
    const statuses: number[] = []
    for (let index = 0; index < 3; index++) statuses.push((await ask(bed, gateway, target)).status)
    expect(statuses).toEqual(target === '/slow' ? [504, 504, 504] : [502, 502, 502])
    // Counted behind the answer: a quick client may be back before that.
    await eventually('the refusal', async () => (await ask(bed, gateway, target)).status === 503)
  }
  const before = silent.upstream.requests.length
  const client = await bed.client({ port: gateway.port })
  await client.send(requestText('/left'))
  await eventually('the request upstream', () => silent.upstream.requests.length > before)
  client.destroy()
  await eventually('the abort', async () => (await gateway.metric('gateway_worker_requests_in_flight')) === 0)
  expect(await stateOf(gateway, 'route:left')).toBe('closed')

  // The refusal says when to come again.
  const refused = await ask(bed, gateway, '/gone')
  expect(Number(refused.field('retry-after'))).toBeGreaterThan(0)
  expect(refused.body).toBe('{"error_msg":"the circuit breaker is open"}\n')

  // api-breaker: by path, over both workers. Eight failures of one path break it for 2^8 seconds.
  site.mode = 'silence'
  const reachedBefore = site.upstream.requests.length
  const failures = hammer(bed, [gateway], '/path/x', 8, { clients: 8 })
  await eventually('all of them upstream', () => site.upstream.requests.length === reachedBefore + 8)
  site.mode = 'fail'
  site.failSilent()
  expect([...(await failures)]).toEqual([[500, 8]])
  await eventually('the break', async () => (await ask(bed, gateway, '/path/x')).status === 502)
  site.mode = 'ok'
  const broken = await hammer(bed, [gateway], '/path/x', 20, { clients: 8 })
  expect([...broken]).toEqual([[502, 20]])
  expect((await ask(bed, gateway, '/path/y')).status).toBe(200)

  // By node: the sick one is passed over, the other one serves.
  const mixed = await hammer(bed, [gateway], '/nodes', 60, { clients: 4 })
  expect(mixed.get(500)).toBe(sick.upstream.requests.length)
  expect(sick.upstream.requests.length).toBeLessThanOrEqual(20)
  expect([...(await hammer(bed, [gateway], '/nodes', 20, { clients: 4 }))]).toEqual([[200, 20]])
  expect(await stateOf(gateway, `node:127.0.0.1:${sick.upstream.port}`)).toBe('open')
  expect(await stateOf(gateway, `node:127.0.0.1:${port}`)).toBe('closed')
  // Each try counts for its own node; when all are open there is nothing to try.
  for (let index = 0; index < 2; index++) expect((await ask(bed, gateway, '/tries')).status).toBe(502)
  await eventually('both open', async () => (await ask(bed, gateway, '/tries')).status === 503)
  expect([await stateOf(gateway, 'node:127.0.0.1:2'), await stateOf(gateway, 'node:127.0.0.1:3')]).toEqual(['open', 'open'])

  // By upstream: what one route finds out holds for all that lead there, in whichever way, and for nobody else.
  for (let index = 0; index < 3; index++) expect((await ask(bed, gateway, '/to-sick')).status).toBe(500)
  await eventually('the refusal', async () => (await ask(bed, gateway, '/to-sick')).status === 503)
  const sickBefore = sick.upstream.requests.length
  for (const target of ['/also-to-sick', '/split'])
    expect([...(await hammer(bed, [gateway], target, 8, { clients: 4 }))]).toEqual([[503, 8]])
  expect([...(await hammer(bed, [gateway], '/to-well', 8, { clients: 4 }))]).toEqual([[200, 8]])
  expect(sick.upstream.requests.length).toBe(sickBefore)
  expect([await stateOf(gateway, 'upstream:upstreams/sick'), await stateOf(gateway, 'upstream:upstreams/well')]).toEqual(['open', 'closed'])

  // By hand.
  expect((await ask(bed, gateway, '/held')).status).toBe(200)
  expect(await admin(gateway, '/v1/breakers/open', { name: 'route:nobody' })).toMatchObject({ status: 404 })
  expect(await admin(gateway, '/v1/breakers/open', { name: 'route:held' })).toMatchObject({ status: 200 })
  const held = await hammer(bed, [gateway], '/held', 20, { clients: 8 })
  expect([...held]).toEqual([[503, 20]])
  expect((await gateway.reload(config)).lastError).toBeNull()
  expect((await ask(bed, gateway, '/held')).status).toBe(503)
  expect(await admin(gateway, '/v1/breakers/close', { name: 'route:held' })).toMatchObject({ status: 200 })
  expect((await ask(bed, gateway, '/held')).status).toBe(200)

  // Told everywhere.
  await eventually('the webhook', () =>
    told.some(({ breaker: name, reason, to }) => name === 'route:held' && reason === 'manual' && to === 'closed'),
  )
  expect(told.find(({ breaker: name }) => name === 'route:a')).toMatchObject({ from: 'closed', to: 'open', reason: 'consecutive-failures' })
  expect(await gateway.metric('gateway_circuit_breaker_state{breaker="route:gone"}')).toBe(2)
  expect(await gateway.metric('gateway_circuit_breaker_state{breaker="route:held"}')).toBe(0)
  expect(await gateway.metric('gateway_circuit_breaker_transitions_total{breaker="route:a",from="closed",to="open"}')).toBe(1)
  expect(await gateway.metric('gateway_circuit_breaker_refusals_total{plugin="circuit-breaker",route="held",result="refused"}')).toBe(21)
  expect(gateway.stderr).toContain('circuit breaker route:a: closed → open for 1 s (consecutive-failures)')
})

describe.skipIf(redisMissing !== null)('two gateways that share a Redis', () => {
  test('what one learns the other knows; each goes on alone without Redis', async () => {
    const redis = await RedisServer.start()
    bed.later(() => redis.close())
    const site = await switched()
    const plugins = {
      'circuit-breaker': { consecutive_failures: 3, open_seconds: 1, max_open_seconds: 1, successes: 1, policy: 'redis' },
    }
    const config = { sluice: { ...quiet, redis: `redis://127.0.0.1:${redis.port}` }, routes: [route('a', site.upstream.port, plugins)] }
    const [first, second] = await Promise.all([1, 2].map(() => bed.gateway({ config, workers: 1, admin: true })))
    if (first === undefined || second === undefined) throw new Error('two gateways were asked for')
    for (const gateway of [first, second]) expect((await ask(bed, gateway, '/a')).status).toBe(200)

    site.mode = 'fail'
    for (let index = 0; index < 3; index++) expect((await ask(bed, first, '/a')).status).toBe(500)
    await eventually('the news', () => second.stderr.includes('closed → open for') && second.stderr.includes('(other-gateway)'))
    expect(site.upstream.requests.length).toBe(5)

    // The second has not failed once itself. Healed: the probe of either closes both.
    site.mode = 'ok'
    await eventually('the recovery', async () => (await ask(bed, first, '/a')).status === 200)
    await eventually('the news of it', async () => (await stateOf(second, 'route:a')) === 'closed')
    expect((await ask(bed, second, '/a')).status).toBe(200)

    // By hand on one: held on both, until it is closed by hand on either.
    expect(await admin(first, '/v1/breakers/open', { name: 'route:a' })).toMatchObject({ status: 200 })
    await eventually('the news by hand', async () => (await stateOf(second, 'route:a')) === 'open')
    expect((await ask(bed, second, '/a')).status).toBe(503)
    const late = await bed.gateway({ config, workers: 1, admin: true })
    await eventually('the news for one that starts later', async () => (await ask(bed, late, '/a')).status === 503)
    expect(await admin(second, '/v1/breakers/close', { name: 'route:a' })).toMatchObject({ status: 200 })
    for (const gateway of [first, late]) await eventually('closed by hand', async () => (await ask(bed, gateway, '/a')).status === 200)

    // Without Redis: local goes on, and is told afterwards.
    await redis.kill()
    site.mode = 'fail'
    for (let index = 0; index < 3; index++) expect((await ask(bed, second, '/a')).status).toBe(500)
    await eventually('a refusal', async () => (await ask(bed, second, '/a')).status === 503)
    expect((await ask(bed, first, '/a')).status).toBe(500)
    // Probes of the second fail again and again: the first hears of it when Redis is back.
    const news = first.stderr.split('(other-gateway)').length
    await redis.restart()
    await eventually('news again', async () => {
      await ask(bed, second, '/a')
      return first.stderr.split('(other-gateway)').length > news
    })
  })
})
