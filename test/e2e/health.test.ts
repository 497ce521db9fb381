/** Health checks and outlier detection over real sockets and threads: what finds a node out, who hears of it, and what stays. */
import { createServer, type Server } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { lengthResponse, type RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import type { Gateway } from '../support/gateway.js'
import { ownPort } from '../support/ports.js'
import { eventually } from '../support/redis.js'
import { TestBed } from '../support/test-bed.js'

interface CheckedNode {
  readonly port: number
  readonly hostname: string
  readonly status: string
  readonly counter: Record<string, number>
}
interface CheckedUpstream {
  readonly name: string
  readonly type: string
  readonly nodes: CheckedNode[]
}
interface NodeState {
  readonly address: string
  readonly port: number
  readonly upstream: string | null
  readonly usable: boolean
  readonly reasons: string[]
}

const WORKERS = 2
const HUNDRED = 100
const bed = new TestBed()
let gateway: Gateway
let good: RecordingUpstream
/** Answers and probes as `mood` says. */
let moody: RecordingUpstream
let mood: 'well' | 'ill' | 'closing' = 'well'
/** Hangs until it is told not to. */
let silent: RecordingUpstream
let dead: number
/** The same, but for a while only. */
let later: number
/** Where 99 servers listen, on 127.0.1.1 to 127.0.1.99. */
let manyPort: number

/** Probed in an hour: only the traffic tells. */
const never = { healthy: { interval: 3600 }, unhealthy: { interval: 3600 } }
const quick = {
  http_path: '/health',
  timeout: 60,
  healthy: { interval: 0.1, successes: 2 },
  unhealthy: { interval: 0.1, http_failures: 2, tcp_failures: 2, timeouts: 2 },
}
const passive = { unhealthy: { http_failures: 2, tcp_failures: 2, timeouts: 2 } }

const at = (port: number): string => `127.0.0.1:${port}`
const pair = (): Record<string, number> => ({ [at(good.port)]: 1, [at(moody.port)]: 1 })

function config(changes: Record<string, object> = {}): object {
  const many = Array.from({ length: HUNDRED }, (_, index) => [`127.0.1.${index + 1}:${manyPort}`, 1])
  const upstreams: Record<string, object> = {
    active: { nodes: pair(), checks: { active: quick } },
    hanging: { nodes: { [at(silent.port)]: 1 }, checks: { active: { ...quick, timeout: 0.1 } } },
    passive: { nodes: pair(), checks: { active: never, passive } },
    later: { nodes: { [at(later)]: 1 }, all_unhealthy: 'fail', checks: { active: { ...quick, type: 'tcp' } } },
    open: { nodes: { [at(dead)]: 1 }, checks: { active: never, passive: { unhealthy: { tcp_failures: 1 } } } },
    fail: { nodes: { [at(dead)]: 1 }, all_unhealthy: 'fail', checks: { active: never, passive: { unhealthy: { tcp_failures: 1 } } } },
    outlier: { nodes: pair(), outlier_detection: { consecutive_5xx: 2, base_ejection_time: 3600, max_ejection_time: 3600 } },
    slow: {
      nodes: { [at(moody.port)]: 1 },
      outlier_detection: { slow_call_duration: 0.1, consecutive_slow_calls: 2, base_ejection_time: 0.2, max_ejection_time: 0.2 },
    },
    many: { nodes: Object.fromEntries(many), retries: 0, checks: { active: never, passive } },
    ...changes,
  }
  const split = { nodes: { [at(good.port)]: 1 }, checks: { active: { ...never, type: 'tcp' } } }
  return {
    upstreams: Object.entries(upstreams).map(([id, upstream]) => ({ id, ...upstream })),
    services: [{ id: 'inline', upstream: { nodes: { [`localhost:${good.port}`]: 1 }, checks: { active: never } } }],
    routes: [
      ...Object.keys(upstreams).map((id) => ({ id, uri: `/${id}/*`, upstream_id: id })),
      { id: 'served', uri: '/served', service_id: 'inline' },
      {
        id: 'split',
        uri: '/split',
        upstream_id: 'outlier',
        plugins: { 'traffic-split': { rules: [{ weighted_upstreams: [{ upstream: split, weight: 1 }] }] } },
      },
    ],
  }
}

beforeAll(async () => {
  dead = await ownPort()
  later = await ownPort()
  good = await bed.upstream({ answer: () => lengthResponse('good') })
  moody = await bed.upstream({
    answer: ({ target }, { socket }) => {
      if (target.endsWith('/hold')) return undefined
      if (mood === 'ill') return lengthResponse('ill', [], '500 Internal Server Error')
      if (mood === 'well') return lengthResponse('moody')
      socket.destroy()
      return undefined
    },
  })
  silent = await bed.upstream({ answer: () => undefined })
  manyPort = await ownPort()
  for (let index = 1; index < HUNDRED; index++) {
    const server = await listen(`127.0.1.${index}`, manyPort)
    bed.later(() => server.close())
  }
  gateway = await bed.gateway({ config: config(), workers: WORKERS })
})
afterAll(() => bed.close())

/** Answers each connection once, and closes it. */
function listen(host: string, port: number): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmany'))
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => resolve(server))
  })
}

async function json<T>(path: string): Promise<T> {
  return (await (await fetch(`${gateway.metricsUrl}${path}`)).json()) as T
}

/** Whether the node of an upstream may be picked, and why not. */
async function state(upstream: string, port: number, address = '127.0.0.1'): Promise<NodeState | undefined> {
  const { nodes } = await json<{ nodes: NodeState[] }>('/v1/nodes')
  return nodes.find((node) => node.upstream === `upstreams/${upstream}` && node.port === port && node.address === address)
}

async function reasons(upstream: string, port: number): Promise<string> {
  return (await state(upstream, port))?.reasons.join() ?? 'unknown'
}

async function status(upstream: string): Promise<string | undefined> {
  const { nodes } = await json<CheckedUpstream>(`/v1/healthcheck/upstreams/${upstream}`)
  return nodes.find((node) => node.port === moody.port)?.status
}

/** Bodies, or statuses of errors; on connections of their own, so that every worker answers some. */
async function ask(target: string, count: number): Promise<string[]> {
  const answers: string[] = []
  for (let index = 0; index < count; index++) {
    const response = await fetch(`${gateway.url}${target}`, { headers: { Connection: 'close' } })
    const text = await response.text()
    answers.push(response.ok ? text : String(response.status))
  }
  return answers
}

describe('active checks', () => {
  test.each(['ill', 'closing'] as const)('a node that is %s gets no requests until it has been well for a while', async (next) => {
    mood = 'well'
    await eventually('healthy', async () => (await status('active')) === 'healthy')
    expect(new Set(await ask('/active/x', 6))).toEqual(new Set(['good', 'moody']))
    mood = next
    await eventually('unhealthy', async () => (await status('active')) === 'unhealthy')
    expect(await reasons('active', moody.port)).toBe('active checks')
    expect(new Set(await ask('/active/x', 12))).toEqual(new Set(['good']))
    mood = 'well'
    await eventually('healthy again', async () => (await status('active')) === 'healthy')
    expect(new Set(await ask('/active/x', 6))).toEqual(new Set(['good', 'moody']))
  })

  test('a node that hangs is unhealthy, and healthy when it answers', async () => {
    const isLogged = (text: string) => () => gateway.stderr.includes(`node ${at(silent.port)} of upstreams/hanging: ${text}`)
    await eventually('unhealthy', isLogged('unhealthy (probe: no answer in time)'))
    silent.answer = () => lengthResponse('ok')
    await eventually('healthy', isLogged('healthy (probe: status 200)'))
  })

  test('a port that nobody listens on is unhealthy, until somebody does', async () => {
    const at = `127.0.0.1:${later}`
    await eventually('unhealthy', () => gateway.stderr.includes(`node ${at} of upstreams/later: unhealthy (probe: ECONNREFUSED)`))
    expect(await ask('/later/x', 2)).toEqual(['503', '503'])
    const server = await listen('127.0.0.1', later)
    bed.later(() => server.close())
    await eventually('healthy', () => gateway.stderr.includes(`node ${at} of upstreams/later: healthy (probe: connected)`))
    expect(await ask('/later/x', 2)).toEqual(['many', 'many'])
  })

  test('the log says what changed and why', () => {
    const line = `node ${at(moody.port)} of upstreams/active: `
    for (const text of ['unhealthy (probe: status 500)', 'unhealthy (probe: closed', 'healthy (probe:'])
      expect(gateway.stderr).toContain(line + text)
  })
})

describe('passive checks', () => {
  test('answers of both workers count together; probes bring the node back, and a reload keeps what is known', async () => {
    mood = 'ill'
    const answers = await ask('/passive/x', 20)
    expect(answers.filter((answer) => answer === '500')).toHaveLength(2)
    expect(await reasons('passive', moody.port)).toBe('passive checks')
    expect(await status('passive')).toBe('unhealthy')
    await gateway.reload(config({ added: { nodes: pair() } }))
    expect(await status('passive')).toBe('unhealthy')
    expect(new Set(await ask('/passive/x', 8))).toEqual(new Set(['good']))
    mood = 'well'
    await gateway.reload(config({ passive: { nodes: pair(), checks: { active: quick, passive } } }))
    await eventually('healthy', async () => (await status('passive')) === 'healthy')
    expect(new Set(await ask('/passive/x', 6))).toEqual(new Set(['good', 'moody']))
  })

  test('a node whose checks are taken away is not held against it', async () => {
    mood = 'ill'
    await ask('/passive/x', 6)
    expect(await status('passive')).not.toBe('healthy')
    mood = 'well'
    await gateway.reload(config({ passive: { nodes: pair(), outlier_detection: {} } }))
    expect(await reasons('passive', moody.port)).toBe('')
    await gateway.reload(config())
  })

  test('one bad node of a hundred is found within 200 requests, without retries', async () => {
    const answers = await ask('/many/x', 2 * HUNDRED)
    expect(answers.filter((answer) => answer === '502')).toHaveLength(2)
    expect((await state('many', manyPort, `127.0.1.${HUNDRED}`))?.usable).toBe(false)
    expect(new Set(await ask('/many/x', HUNDRED))).toEqual(new Set(['many']))
  })

  test('when all nodes are down: all of them are used, or none, as configured', async () => {
    expect(await ask('/open/x', 3)).toEqual(['502', '502', '502'])
    const unhealthy = () => gateway.metric('gateway_refused_requests_total{reason="UPSTREAM_UNHEALTHY"}')
    const before = await unhealthy()
    expect(await ask('/fail/x', 3)).toEqual(['502', '503', '503'])
    await eventually('the count', async () => (await unhealthy()) === before + 2)
    expect([await reasons('open', dead), await reasons('fail', dead)]).toEqual(['passive checks', 'passive checks'])
  })
})

describe('outlier detection', () => {
  test('failures in a row eject for all workers, and a reload keeps the ejection', async () => {
    mood = 'ill'
    const answers = await ask('/outlier/x', 16)
    expect(answers.filter((answer) => answer === '500')).toHaveLength(2)
    mood = 'well'
    expect(await reasons('outlier', moody.port)).toBe('outlier')
    await gateway.reload(config({ added: { nodes: pair() } }))
    expect(await reasons('outlier', moody.port)).toBe('outlier')
    expect(new Set(await ask('/outlier/x', 8))).toEqual(new Set(['good']))
    const page = await (await fetch(`${gateway.metricsUrl}/metrics`)).text()
    const labels = `{name="/apisix/upstreams/outlier",ip="127.0.0.1",port="${moody.port}"}`
    expect(page).toContain(`gateway_upstream_node_ejected${labels} 1\n`)
    expect(page).toContain(`gateway_upstream_node_ejections_total${labels} 1\n`)
    await gateway.reload(config({ outlier: { nodes: { [at(good.port)]: 1 }, outlier_detection: {} } }))
    expect(await (await fetch(`${gateway.metricsUrl}/metrics`)).text()).not.toContain(labels)
    await gateway.reload(config())
    expect(await reasons('outlier', moody.port)).toBe('')
  })

  test('a node that hangs is ejected before anybody has waited to the end, and returns', async () => {
    const stop = new AbortController()
    const held = Array.from({ length: 4 }, () => fetch(`${gateway.url}/slow/hold`, { signal: stop.signal }).catch(() => null))
    await eventually('the ejection', () => gateway.stderr.includes('of upstreams/slow: ejected (2 slow calls in a row; for 0.2 s)'))
    await eventually('the return', () => gateway.stderr.includes('of upstreams/slow: returned'))
    stop.abort()
    await Promise.all(held)
  })
})

describe('what can be seen', () => {
  test('/v1/healthcheck has all upstreams with checks, wherever they stand; a node that goes, goes everywhere', async () => {
    const all = await json<CheckedUpstream[]>('/v1/healthcheck')
    const split = all.find(({ name }) => name.startsWith('/apisix/traffic-split:'))
    expect(split).toMatchObject({ type: 'tcp', nodes: [{ ip: '127.0.0.1', port: good.port, status: 'healthy' }] })
    expect(all.map(({ name }) => name).sort()).toEqual(
      ['active', 'fail', 'hanging', 'later', 'many', 'open', 'passive']
        .map((id) => `/apisix/upstreams/${id}`)
        .concat('/apisix/services/inline', split?.name ?? '')
        .sort(),
    )
    const service = await json<CheckedUpstream>('/v1/healthcheck/services/inline')
    expect(service.nodes[0]).toMatchObject({
      port: good.port,
      hostname: 'localhost',
      status: 'healthy',
      counter: { success: 0, http_failure: 0, tcp_failure: 0, timeout_failure: 0 },
    })
    expect((await fetch(`${gateway.metricsUrl}/v1/healthcheck/upstreams/none`)).status).toBe(404)
    const label = `apisix_upstream_status{name="/apisix/upstreams/active",ip="127.0.0.1",port="${moody.port}"}`
    const page = async (): Promise<string> => (await fetch(`${gateway.metricsUrl}/metrics`)).text()
    await eventually('the metric', async () => (await page()).includes(`${label} 1\n`))
    await gateway.reload(config({ active: { nodes: { [at(good.port)]: 1 }, checks: { active: quick } } }))
    expect(await page()).not.toContain(label)
    expect((await json<CheckedUpstream>('/v1/healthcheck/upstreams/active')).nodes.map(({ port }) => port)).toEqual([good.port])
  })
})
