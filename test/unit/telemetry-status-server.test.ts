import { request } from 'node:http'
import { afterEach, describe, expect, test } from 'vitest'
import { ManualClock } from '../../src/base/clock.js'
import { UsageError } from '../../src/base/errors.js'
import { latencyBoundsMs } from '../../src/base/latency-buckets.js'
import { EpochBoard, WorkerSlot } from '../../src/shared/epochs.js'
import { MetricsDirectory } from '../../src/shared/metrics-directory.js'
import { WorkerMetrics } from '../../src/shared/metrics-slab.js'
import { createRegions } from '../../src/shared/regions.js'
import { metrics } from '../../src/telemetry/metrics.js'
import { renderPrometheus } from '../../src/telemetry/prometheus.js'
import { type ExplainQuery, type GatewayState, type StatusServer, startStatusServer } from '../../src/telemetry/status-server.js'

const running: StatusServer[] = []
afterEach(async () => {
  for (const server of running.splice(0)) await server.close()
})

async function setup(port = 0) {
  const regions = createRegions(2)
  const clock = new ManualClock()
  const board = new EpochBoard(regions.epochs, clock)
  const directory = new MetricsDirectory(regions.metrics)
  const logged: string[] = []
  const explained: ExplainQuery[] = []
  const state: { now: GatewayState } = {
    now: { version: '0.1.0', draining: false, reloads: 0, reloadFailures: 0, workerRestarts: 0, clientConnections: null, lastReload: null },
  }
  const server = await startStatusServer({
    address: { host: '127.0.0.1', port },
    directory,
    board,
    state: () => state.now,
    explain: (query) => {
      explained.push(query)
      if (query.path === '/boom') throw new Error('secret detail')
      return { matched: 'r1' }
    },
    limits: async ({ key, route }) => {
      if (key === '') throw new UsageError('parameter "key" must be given')
      return { key, route }
    },
    nodes: () => ({ nodes: [] }),
    healthchecks: () => [{ name: '/apisix/upstreams/1' }],
    healthcheck: (key) => (key === 'upstreams/a b' || key === 'traffic-split:1' ? { name: key } : null),
    limitTable: () => ({ fill: 0.25, capacityBytes: 4096, shared: 3, full: 1 }),
    latencyBoundsMs,
    samples: () => [{ metric: metrics.breakerState, values: ['route:1'], value: 2 }],
    log: (message) => logged.push(message),
  })
  running.push(server)
  const slots = [new WorkerSlot(regions.epochs, 0), new WorkerSlot(regions.epochs, 1)] as const
  return { server, regions, directory, board, slots, state, logged, explained }
}

function ask(server: StatusServer, path: string, method = 'GET') {
  return new Promise<{ status: number; type: string; allow: string; body: string }>((resolve, reject) => {
    const call = request({ host: server.address.host, port: server.address.port, path, method, agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (chunk: string) => {
        body += chunk
      })
      response.on('end', () => {
        const { 'content-type': type = '', allow = '' } = response.headers
        resolve({ status: response.statusCode ?? 0, type, allow, body })
      })
    })
    call.on('error', reject).end()
  })
}

describe('status server', () => {
  test('limits of a key, and the state of their table', async () => {
    const { server } = await setup()
    expect(await ask(server, '/v1/limits?key=10.0.0.1&route=r%201')).toMatchObject({
      status: 200,
      body: '{"key":"10.0.0.1","route":"r 1"}\n',
    })
    expect(await ask(server, '/v1/limits')).toMatchObject({
      status: 400,
      body: '{"status":"error","error":"parameter \\"key\\" must be given"}\n',
    })
    const { body } = await ask(server, '/metrics')
    expect(body).toContain('gateway_rate_limit_table_fill_ratio 0.25\n')
    expect(body).toContain('gateway_rate_limit_table_full_total{outcome="shared"} 3\n')
    expect(body).toContain('gateway_rate_limit_table_full_total{outcome="refused"} 1\n')
    expect(body).toContain('apisix_shared_dict_free_space_bytes{name="rate-limits"} 3072\n')
    expect(body).toContain('gateway_rate_limit_queued_requests 0\n')
  })

  test('ready only when every worker has the configuration, and not while draining', async () => {
    const { server, board, slots, state } = await setup()
    const ready = async () => {
      const { status, body } = await ask(server, '/status/ready')
      return [status, JSON.parse(body)]
    }
    expect(await ready()).toEqual([503, { status: 'error', error: 'no configuration has been loaded yet' }])
    board.reserve(0)
    board.reserve(1)
    board.publish(1)
    slots[0].acknowledge(1)
    slots[0].setState('serving')
    expect(await ready()).toEqual([503, { status: 'error', error: 'worker 1 has not loaded the configuration yet' }])
    slots[1].setState('serving')
    expect((await ready())[0]).toBe(503)
    slots[1].acknowledge(1)
    expect(await ready()).toEqual([200, { status: 'ok' }])
    board.publish(2)
    expect((await ready())[0]).toBe(200)
    state.now = { ...state.now, draining: true }
    expect(await ready()).toEqual([503, { status: 'error', error: 'the gateway is draining' }])
    state.now = { ...state.now, draining: false }
    board.release(0)
    board.release(1)
    expect(await ready()).toEqual([503, { status: 'error', error: 'no worker is serving' }])
  })

  test('status tells workers, epoch and the last reload', async () => {
    const { server, board, slots, state } = await setup()
    board.reserve(0)
    board.publish(3)
    slots[0].setState('serving')
    slots[0].acknowledge(3)
    slots[0].setLoopLag(1.5)
    state.now = { ...state.now, lastReload: { error: 'gateway.yaml:3:1: wrong', atMs: Date.UTC(2026, 0, 1) } }
    const { status, type, body } = await ask(server, '/status')
    expect([status, type]).toEqual([200, 'application/json'])
    expect(JSON.parse(body)).toMatchObject({
      status: 'ok',
      version: '0.1.0',
      epoch: 3,
      workers: [
        { index: 0, state: 'serving', epoch: 3, lag_ms: 1.5 },
        { index: 1, state: 'vacant' },
      ],
      reload: { last_error: 'gateway.yaml:3:1: wrong', at: '2026-01-01T00:00:00.000Z' },
    })
  })

  test.each(['/metrics', '/apisix/prometheus/metrics'])('%s is the metrics page', async (path) => {
    const { server, board, state } = await setup()
    board.reserve(1)
    state.now = { ...state.now, reloadFailures: 2 }
    const { status, type, body } = await ask(server, path)
    expect([status, type]).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8'])
    expect(body).toContain('\ngateway_config_reload_failures_total 2\n')
    expect(body).toContain('\ngateway_worker_event_loop_lag_seconds{worker="1"} 0\n')
    expect(body).not.toContain('{worker="0"}')
    expect((await ask(server, path, 'HEAD')).body).toBe('')
  })

  test('a large page goes out in parts, whole, and a client that leaves half-way harms nobody', async () => {
    const { server, regions, directory, logged } = await setup()
    const slab = regions.metrics[0]
    if (slab === undefined) throw new Error('one slab expected')
    const worker = new WorkerMetrics(slab, (slot, labels) => directory.declare(0, slot, labels))
    for (let index = 0; index < 500; index++) {
      const series = worker.routeSeries({ route: `r${index}`, matchedUri: '', matchedHost: '', service: '', consumer: '', node: '' })
      series.record(200, 1, index % 50, 1, 1, 1)
    }
    await new Promise<void>((resolve, reject) => {
      const call = request({ host: server.address.host, port: server.address.port, path: '/metrics', agent: false }, (response) => {
        response.once('data', () => response.destroy())
        response.on('close', resolve)
      })
      call.on('error', reject).end()
    })
    const { body } = await ask(server, '/metrics')
    const routes = (page: string) => page.split('\n').filter((line) => /^apisix_http_(status|latency)|^apisix_bandwidth/.test(line))
    expect(body.length).toBeGreaterThan(1_000_000)
    expect(routes(body)).toEqual(routes(renderPrometheus(directory, [])))
    expect(logged).toEqual([])
  })

  test('explain hands the query over, refuses nonsense and hides its own errors', async () => {
    const { server, explained, logged } = await setup()
    const { status, body } = await ask(server, '/v1/explain?method=post&host=A.test&path=/x%20y&header.a=1')
    expect([status, JSON.parse(body)]).toEqual([200, { matched: 'r1' }])
    expect(explained).toEqual([{ method: 'POST', host: 'a.test', path: '/x y', parameters: new Map([['header.a', '1']]) }])
    expect((await ask(server, '/v1/explain?path=x')).status).toBe(400)
    const failed = await ask(server, '/v1/explain?path=/boom')
    expect(failed.status).toBe(500)
    expect(failed.body).not.toContain('secret')
    expect(logged.join()).toContain('secret detail')
  })

  test('other pages are 404, other methods 405', async () => {
    const { server } = await setup()
    expect((await ask(server, '/nothing')).status).toBe(404)
    expect((await ask(server, '/constructor')).status).toBe(404)
    const refused = await ask(server, '/status', 'DELETE')
    expect([refused.status, refused.allow]).toEqual([405, 'GET, HEAD'])
  })

  test('a port in use is one clear line', async () => {
    const { server } = await setup()
    const second = setup(server.address.port)
    await expect(second).rejects.toThrow(UsageError)
    await expect(second).rejects.toThrow(`metrics address 127.0.0.1:${server.address.port} is already in use`)
  })
})
