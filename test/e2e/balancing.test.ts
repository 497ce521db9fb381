/** Balancers over real sockets and threads: what one worker knows of a node, all know, and no count is left behind by anything. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { lengthResponse, type RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import { ADMIN_KEY, type Gateway } from '../support/gateway.js'
import { ownPort } from '../support/ports.js'
import { eventually } from '../support/redis.js'
import { TestBed } from '../support/test-bed.js'

interface NodeState {
  readonly port: number
  readonly usable: boolean
  readonly in_flight: number
  readonly latency_ms: number | null
  readonly successes: number
  readonly failures: number
}

const bed = new TestBed()
const WORKERS = 2
const CLIENTS = 8
let gateway: Gateway
/** Three that answer with their number; requests to `/<route>/hold` are held until the test releases them. */
let nodes: RecordingUpstream[]
let dead: number

const at = (port: number): string => `127.0.0.1:${port}`
const all = (): Record<string, number> => Object.fromEntries(nodes.map((node) => [at(node.port), 1]))

/** A route for each way of picking; the chaos route meets every way in which a try can end. */
function config(): object {
  const labelled = nodes.map(({ port }, index) => ({
    host: '127.0.0.1',
    port,
    weight: 1,
    metadata: { version: index === 0 ? 'v1' : 'v2', zone: index === 2 ? 'b' : 'a' },
  }))
  const upstreams = {
    // Held until the test says otherwise.
    least: { type: 'least_conn', nodes: all(), timeout: { connect: 60, send: 60, read: 600 } },
    hash: { type: 'chash', hash_on: 'header', key: 'X-User', nodes: all() },
    version: { nodes: labelled, subset: { match: { version: '$http_x_version' }, fallback: 'none' } },
    zone: { type: 'least_conn', nodes: labelled, subset: { match: { version: 'v2', zone: '${http_x_zone ?? a}' } } },
    chaos: { type: 'ewma', nodes: { ...all(), [at(dead)]: 1 }, timeout: { connect: 5, send: 5, read: 0.4 }, retries: 2 },
    plain: { nodes: { [at(nodes[0]?.port ?? 0)]: 1 } },
  }
  return {
    routes: Object.entries(upstreams).map(([id, upstream]) => ({ id, uri: `/${id}/*`, upstream })),
    sluice: { log: { level: 'error' } },
  }
}

beforeAll(async () => {
  dead = await ownPort()
  nodes = await Promise.all([0, 1, 2].map((index) => bed.upstream({ answer: (request) => answer(index, request.target) })))
  gateway = await bed.gateway({ config: config(), workers: WORKERS, admin: true, env: { SLUICE_FAULTS: '1' } })
})
afterAll(() => bed.close())

/** What the targets of the chaos route ask for. Undefined = silence. */
function answer(index: number, target: string): Buffer | string | undefined {
  if (target.includes('/hold')) return undefined
  if (target.includes('/half')) return 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf'
  if (target.includes('/garbage')) return 'SMTP 220 hello\r\n\r\n'
  if (target.includes('/error')) return lengthResponse('no', [], '503 Service Unavailable')
  if (target.includes('/large')) return lengthResponse(Buffer.alloc(300_000, 'x'))
  return lengthResponse(String(index))
}

async function states(): Promise<Map<number, NodeState>> {
  const response = await fetch(`${gateway.metricsUrl}/v1/nodes`)
  const { nodes } = (await response.json()) as { nodes: NodeState[] }
  return new Map(nodes.map((node) => [node.port, node]))
}

async function nothingInFlight(): Promise<void> {
  await eventually('nothing in flight', async () => [...(await states()).values()].every((node) => node.in_flight === 0))
}

/** Answers of several connections in turn, so that every worker serves some. */
async function ask(target: string, count: number, headers: (index: number) => Record<string, string> = () => ({})): Promise<string[]> {
  const answers: string[] = []
  for (let index = 0; index < count; index++) {
    const response = await fetch(`${gateway.url}${target}`, {
      headers: { Connection: index % 3 === 0 ? 'close' : 'keep-alive', ...headers(index) },
    })
    answers.push(response.ok ? await response.text() : String(response.status))
  }
  return answers
}

describe('picking', () => {
  test('least_conn: one held request on a node sends everybody else to the others, whichever worker picks', async () => {
    const before = nodes.map((node) => node.requests.length)
    const held = new AbortController()
    const pending = fetch(`${gateway.url}/least/hold`, { signal: held.signal }).catch(() => null)
    await eventually('the held request', () => nodes.some((node, index) => node.requests.length > (before[index] ?? 0)))
    const busy = nodes.findIndex((node, index) => node.requests.length > (before[index] ?? 0))
    const answers = await ask('/least/x', 30)
    expect(new Set(answers)).toEqual(new Set(['0', '1', '2'].filter((name) => name !== String(busy))))
    expect((await states()).get(nodes[busy]?.port ?? 0)?.in_flight).toBe(1)
    held.abort()
    await pending
    await nothingInFlight()
  })

  test('chash: a user keeps its node, on every worker and over a reload', async () => {
    const users = Array.from({ length: 12 }, (_, index) => `user-${index}`)
    const homes = await ask('/hash/x', users.length, (index) => ({ 'X-User': users[index] ?? '' }))
    expect(new Set(homes).size).toBeGreaterThan(1)
    for (let round = 0; round < 2; round++) {
      expect(await ask('/hash/x', users.length, (index) => ({ 'X-User': users[index] ?? '' }))).toEqual(homes)
      await gateway.reload(config())
    }
  })

  test('subset: by a header, with nothing else when it says so', async () => {
    const ofVersion = (version: string) => ask('/version/x', 8, () => ({ 'X-Version': version }))
    expect(new Set(await ofVersion('v1'))).toEqual(new Set(['0']))
    expect(new Set(await ofVersion('v2'))).toEqual(new Set(['1', '2']))
    expect(new Set(await ofVersion('v3'))).toEqual(new Set(['503']))
  })

  test('subset: by several labels, with all nodes when no node has them', async () => {
    expect(new Set(await ask('/zone/x', 6))).toEqual(new Set(['1']))
    expect(new Set(await ask('/zone/x', 6, () => ({ 'X-Zone': 'b' })))).toEqual(new Set(['2']))
    expect(new Set(await ask('/zone/x', 40, () => ({ 'X-Zone': 'c' })))).toEqual(new Set(['0', '1', '2']))
  })
})

describe('counts', () => {
  test('nothing is in flight after answers, errors, resets, timeouts, aborts and retries', async () => {
    const kinds = ['ok', 'error', 'garbage', 'half', 'large', 'hold', 'abort', 'post', 'abort-large']
    const one = async (kind: string): Promise<void> => {
      const isAborted = kind.startsWith('abort')
      const target = `/chaos/${kind === 'abort' ? 'hold' : kind === 'abort-large' ? 'large' : kind}`
      const signal = isAborted ? AbortSignal.timeout(30) : AbortSignal.timeout(60_000)
      const body = kind === 'post' ? { method: 'POST', body: 'x'.repeat(5000) } : {}
      await fetch(`${gateway.url}${target}`, { signal, ...body })
        .then((response) => response.arrayBuffer())
        .catch(() => null)
    }
    const work = Array.from({ length: 90 }, (_, index) => kinds[index % kinds.length] ?? 'ok')
    await Promise.all(
      Array.from({ length: CLIENTS }, async (_, client) => {
        for (let index = client; index < work.length; index += CLIENTS) await one(work[index] ?? 'ok')
      }),
    )
    await nothingInFlight()
    const known = await states()
    const sum = (of: 'failures' | 'successes') => nodes.reduce((total, { port }) => total + (known.get(port)?.[of] ?? 0), 0)
    expect(sum('failures')).toBeGreaterThan(0)
    expect(sum('successes')).toBeGreaterThan(0)
  })

  test('a reload keeps them; nodes that nobody watches have none', async () => {
    const before = await states()
    await gateway.reload(config())
    const after = await states()
    expect(new Set(after.keys())).toEqual(new Set([...nodes.map((node) => node.port), dead]))
    for (const [port, node] of before) expect(after.get(port)?.successes).toBeGreaterThanOrEqual(node.successes)
  })

  test('what a worker that dies had in flight is taken out', async () => {
    const before = nodes.reduce((sum, node) => sum + node.requests.length, 0)
    const pending = Array.from({ length: CLIENTS }, () => fetch(`${gateway.url}/least/hold`).catch(() => null))
    await eventually('held requests', () => nodes.reduce((sum, node) => sum + node.requests.length, 0) === before + CLIENTS)
    expect([...(await states()).values()].reduce((sum, node) => sum + node.in_flight, 0)).toBe(CLIENTS)
    for (let worker = 0; worker < WORKERS; worker++) {
      await fetch(`${gateway.adminUrl}/v1/faults`, {
        method: 'POST',
        headers: { 'X-API-KEY': ADMIN_KEY, 'Content-Type': 'application/json' },
        body: JSON.stringify({ worker, kind: 'throw' }),
      })
      await eventually('the replacement', async () => (await gateway.metric('gateway_worker_restarts_total')) === worker + 1)
    }
    await Promise.all(pending)
    await nothingInFlight()
    await eventually('an answer', () =>
      ask('/least/x', 3).then(
        (answers) => answers.length === 3,
        () => false,
      ),
    )
  })
})
