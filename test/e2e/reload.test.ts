/** Changing the configuration, and losing a worker, while clients never stop sending. */
import { afterEach, describe, expect, test } from 'vitest'
import { type RawConnection, textOf } from '../../src/doctor/raw-connection.js'
import { lengthResponse } from '../../src/doctor/recording-upstream.js'
import { ConstantLoad } from '../support/constant-load.js'
import { ADMIN_KEY, type Gateway, proxyTo } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'

const waitMs = 60_000
const quiet = { log: { level: 'error' } }
const bed = new TestBed()
afterEach(() => bed.close())

async function get(gateway: Gateway, target = '/x'): Promise<[number, string]> {
  const client = await bed.client({ port: gateway.port })
  const response = await client.request(`GET ${target} HTTP/1.1\r\nHost: a.test\r\n\r\n`)
  return [response.status, textOf(response)]
}

describe.each([1, 2, 4])('reload with %i workers', (workers) => {
  test('50 reloads under load lose nothing', async () => {
    const blue = await bed.upstream({ answer: () => lengthResponse('blue') })
    const green = await bed.upstream({ answer: () => lengthResponse('green') })
    const gateway = await bed.gateway({ config: proxyTo(blue.port, {}, quiet), workers })
    const load = new ConstantLoad({ port: gateway.port, clients: 8, expectBody: (body) => body === 'blue' || body === 'green' })
    for (let number = 1; number <= 50; number++) {
      const next = number % 2 === 1 ? green : blue
      expect(await gateway.reload(proxyTo(next.port, {}, quiet))).toMatchObject({ epoch: number + 1, lastError: null })
      const before = next.requests.length
      await next.until(() => next.requests.length > before + 5, 'requests with the new configuration', waitMs)
    }
    await load.stop()
    expect(load.failures).toEqual([])
    expect(load.answered).toBeGreaterThan(250)
    expect(await get(gateway)).toEqual([200, 'blue'])
  })

  test('a reload takes effect on every worker, also on open connections', async () => {
    const blue = await bed.upstream({ answer: () => lengthResponse('blue') })
    const green = await bed.upstream({ answer: () => lengthResponse('green') })
    const gateway = await bed.gateway({ config: proxyTo(blue.port, {}, quiet), workers })
    const clients = await Promise.all(Array.from({ length: 16 }, () => bed.client({ port: gateway.port })))
    const askAll = (): Promise<string[]> =>
      Promise.all(clients.map(async (client: RawConnection) => textOf(await client.request('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n'))))
    expect(new Set(await askAll())).toEqual(new Set(['blue']))
    const { lastError } = await gateway.reload(proxyTo(green.port, {}, quiet))
    expect(lastError).toBeNull()
    expect(new Set(await askAll())).toEqual(new Set(['green']))
  })
})

test('a request in flight finishes with the configuration it began with', async () => {
  let release: (() => void) | null = null
  const blue = await bed.upstream({
    answer: (_, { socket }) => {
      release = () => socket.write(lengthResponse('blue'))
      return undefined
    },
  })
  const green = await bed.upstream({ answer: () => lengthResponse('green') })
  const gateway = await bed.gateway({ config: proxyTo(blue.port, {}, quiet) })
  const client = await bed.client({ port: gateway.port })
  const answer = client.request('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n')
  await blue.until(() => blue.requests.length === 1, 'the request at the upstream')
  await gateway.reload(proxyTo(green.port, {}, quiet))
  expect(await get(gateway)).toEqual([200, 'green'])
  const go: (() => void) | null = release
  if (go !== null) (go as () => void)()
  expect(textOf(await answer)).toBe('blue')
})

const badDocuments: readonly (readonly [string, object | string])[] = [
  ['text that is no YAML', 'routes: [\n  {'],
  ['an unknown plugin', { routes: [{ id: 'all', uri: '/*', plugins: { 'no-such-plugin': {} } }] }],
  ['a route without anything to do', { routes: [{ id: 'all', uri: '/*' }] }],
  [
    'one bad route among good ones',
    {
      routes: [
        { id: 'good', uri: '/good', plugins: { mocking: {} } },
        { id: 'bad', uri: 7, plugins: { mocking: {} } },
      ],
    },
  ],
  ['an upstream that does not exist', { routes: [{ id: 'all', uri: '/*', upstream_id: 'missing' }] }],
]

test('a reload with something wrong changes nothing and says so', async () => {
  const upstream = await bed.upstream()
  const good = proxyTo(upstream.port, {}, quiet)
  const gateway = await bed.gateway({ config: good })
  for (const [what, bad] of badDocuments) {
    const before = await gateway.reloadStatus()
    const loggedBefore = gateway.stderr.length
    const after = await gateway.reload(bad)
    expect([what, after.epoch, after.lastError]).toEqual([what, before.epoch, expect.stringMatching(/.+/)])
    await expect.poll(() => gateway.stderr.slice(loggedBefore)).toMatch(/reload/i)
    expect(await get(gateway)).toEqual([200, 'ok'])
    const repaired = await gateway.reload(good)
    expect([what, repaired.lastError]).toEqual([what, null])
    expect(repaired.epoch).toBeGreaterThan(before.epoch)
  }
})

describe.each([2, 4])('a worker that fails with %i workers', (workers) => {
  test('requests on the others go on, it is replaced, counters stay right', async ({ annotate }) => {
    const upstream = await bed.upstream()
    const gateway = await bed.gateway({ config: proxyTo(upstream.port, {}, quiet), workers, admin: true, env: { SLUICE_FAULTS: '1' } })
    const load = new ConstantLoad({ port: gateway.port, clients: 16, expectBody: (body) => body === 'ok' })
    await upstream.until(() => upstream.requests.length > 200, '200 requests', waitMs)
    const failedAt = performance.now()
    const response = await fetch(`${gateway.adminUrl}/v1/faults`, {
      method: 'POST',
      headers: { 'X-API-KEY': ADMIN_KEY, 'Content-Type': 'application/json' },
      body: JSON.stringify({ worker: 0, kind: 'throw' }),
    })
    expect(response.status).toBeLessThan(300)
    const workerStates = async (): Promise<string[]> => {
      const status = (await (await fetch(`${gateway.metricsUrl}/status`)).json()) as { workers: { state: string }[] }
      return status.workers.map((worker) => worker.state)
    }
    const restarts = () => gateway.metric('gateway_worker_restarts_total')
    await expect.poll(restarts, { interval: 5 }).toBe(1)
    await expect.poll(workerStates, { interval: 5 }).toEqual(Array.from({ length: workers }, () => 'serving'))
    // The aim is 200 ms, on a machine that has nothing else to do.
    await annotate(`replaced within ${Math.round(performance.now() - failedAt)} ms`, 'time')
    const before = upstream.requests.length
    await upstream.until(() => upstream.requests.length > before + 200, '200 more requests', waitMs)
    await load.stop()
    expect(await restarts()).toBe(1)
    // what was in flight on the worker that died is lost with its sockets; nobody else may notice
    expect(load.failures.filter((failure) => !/ECONNRESET|EPIPE|closed/.test(failure))).toEqual([])
    expect(load.failures.length).toBeLessThanOrEqual(16)
    expect(load.answered).toBeGreaterThan(200)
    // A client may have its answer a moment before it is counted.
    const counted = () => gateway.metric('apisix_http_status{code="200"')
    await expect.poll(counted).toBeGreaterThanOrEqual(load.answered)
    expect(await counted()).toBeLessThanOrEqual(upstream.requests.length)
  })
})
