/**
 * Random changes by several writers while requests run: every answer is what one of the configurations gives that were in force, or were
 * coming into force, while the request was under way. At the end the gateway is killed, and started again with the same answers.
 *
 * Each writer has routes, services, plugin configs and upstreams of its own, and changes them one after the other; so for its paths there
 * is one sequence of configurations, and a plain reading of each says what it answers. What is refused must leave no trace.
 *
 * SLUICE_MUTATIONS: number of changes (default 1,200).
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { Agent, createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { GatewayProcess } from '../../src/doctor/gateway-process.js'
import { ADMIN_KEY } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
afterAll(() => bed.close())

const ENTRY = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const changesWanted = Number(process.env['SLUICE_MUTATIONS'] ?? 1_200)
const writersCount = 6
const clientsCount = 4
const paths = ['', '/a', '/a/b', '/ab']
const hosts = ['one.test', 'two.test']

interface Resource {
  readonly uri?: string
  readonly host?: string
  readonly priority?: number
  readonly service_id?: string
  readonly plugin_config_id?: string
  readonly upstream_id?: string
  readonly text?: string
  /** Which of the servers. */
  readonly server?: number
}

/** By kind and id, in the order of their creation. */
type Model = ReadonlyMap<string, Resource>

/** Numbers from 0 to n - 1, the same in every run. */
function dice(seed: number): (n: number) => number {
  let state = seed
  return (n) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * n)
  }
}

/** The answer that the routes of one writer give. */
function answerOf(model: Model, host: string, path: string): string {
  const fitting = [...model].filter(([key, { uri = '', host: own }]) => {
    if (!key.startsWith('routes/') || (own !== undefined && own !== host)) return false
    return uri.endsWith('*') ? path.startsWith(uri.slice(0, -1)) : path === uri
  })
  // The host first, then the exact path, the longer prefix, the priority, the age.
  const rank = ({ uri = '', host: own, priority = 0 }: Resource) => [
    own === undefined ? 1 : 0,
    uri.endsWith('*') ? 1 : 0,
    -uri.length,
    -priority,
  ]
  const [best] = fitting
    .map(([, route], age) => ({ route, rank: [...rank(route), age] }))
    .sort((a, b) => a.rank.map((one, index) => one - (b.rank[index] ?? 0)).find((difference) => difference !== 0) ?? 0)
  if (best === undefined) return '404'
  const { route } = best
  const service = model.get(`services/${route.service_id}`)
  const pluginConfig = model.get(`plugin_configs/${route.plugin_config_id}`)
  const upstreamId = route.upstream_id ?? service?.upstream_id
  const upstream = model.get(`upstreams/${upstreamId}`)
  // What a route names was deleted by force: it is not served without what might protect it.
  if (route.service_id !== undefined && service === undefined) return '503'
  if (route.plugin_config_id !== undefined && pluginConfig === undefined) return '503'
  if (upstreamId !== undefined && upstream === undefined) return '503'
  const text = route.text ?? pluginConfig?.text ?? service?.text
  if (text !== undefined) return `200 ${text}`
  return upstream === undefined ? '503' : `200 server ${upstream.server}`
}

function bodyOf(kind: string, { text, server, ...fields }: Resource, ports: readonly number[]): object {
  const plugins = text === undefined ? {} : { mocking: { response_example: text, content_type: 'text/plain' } }
  if (kind === 'upstreams') return { nodes: { [`127.0.0.1:${ports[server ?? 0]}`]: 1 } }
  return { ...fields, ...(kind === 'services' && text === undefined ? {} : { plugins }) }
}

async function started(file: string): Promise<GatewayProcess> {
  const gateway = await GatewayProcess.start({ entry: ENTRY, file, workers: 2, admin: '127.0.0.1:0', readyTimeoutMs: 60_000 })
  bed.later(() => gateway.end())
  return gateway
}

async function servers(): Promise<number[]> {
  const ports: number[] = []
  for (const number of [0, 1, 2]) {
    const server = createServer((_, response) => response.end(`server ${number}`))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    bed.later(() => {
      server.closeAllConnections()
      server.close()
    })
    ports.push((server.address() as AddressInfo).port)
  }
  return ports
}

interface Asked {
  readonly method?: string
  readonly headers: { readonly [name: string]: string }
  readonly body?: string
}

function ask(url: string, agent: Agent, { method = 'GET', headers, body = '' }: Asked): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers, agent, timeout: 60_000 }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: text.trim() }))
      response.on('error', reject)
    })
    sent.on('timeout', () => sent.destroy(new Error('no answer within a minute')))
    sent.on('error', reject)
    sent.end(body)
  })
}

class Writer {
  /** What was in force after each change; a change that is under way is not in it yet. */
  readonly history: Model[] = [new Map()]
  isWriting = false
  refusals = 0

  constructor(
    readonly name: string,
    private readonly roll: (n: number) => number,
    private readonly ports: readonly number[],
  ) {}

  get latest(): Model {
    return this.history.at(-1) ?? new Map()
  }

  /** One random change, answered. */
  async change(adminUrl: string, agent: Agent): Promise<void> {
    const { roll, name } = this
    const kind = ['routes', 'routes', 'routes', 'services', 'plugin_configs', 'upstreams'][roll(6)] ?? ''
    const id = `${name}-${roll(kind === 'routes' ? 8 : 2)}`
    const isDelete = roll(4) === 0
    const force = isDelete && roll(3) === 0
    const resource = this.resource(kind)
    this.isWriting = true
    const reply = await ask(`${adminUrl}/apisix/admin/${kind}/${id}${force ? '?force=true' : ''}`, agent, {
      method: isDelete ? 'DELETE' : 'PUT',
      headers: { 'x-api-key': ADMIN_KEY, 'content-type': 'application/json' },
      body: isDelete ? '' : JSON.stringify(bodyOf(kind, resource, this.ports)),
    })
    const model = new Map(this.latest)
    if (reply.status === 200 || reply.status === 201) {
      if (isDelete) model.delete(`${kind}/${id}`)
      else model.set(`${kind}/${id}`, resource)
    } else {
      expect([400, 404], reply.text).toContain(reply.status)
      this.refusals++
    }
    this.history.push(model)
    this.isWriting = false
  }

  private resource(kind: string): Resource {
    const { roll, name } = this
    const text = `${name} ${this.history.length}`
    const named = (field: string) => ({ [field]: `${name}-${roll(2)}` })
    if (kind === 'upstreams') return { server: roll(3) }
    if (kind === 'plugin_configs') return { text }
    if (kind === 'services') return { ...(roll(2) === 0 && { text }), ...(roll(2) === 0 && named('upstream_id')) }
    const tail = ['', '/a', '/a/b', '/a*', '*', '/a/*'][roll(6)] ?? ''
    return {
      uri: `/${name}${tail}`,
      ...(roll(3) === 0 && { host: hosts[roll(2)] ?? '' }),
      ...(roll(3) === 0 && { priority: roll(3) }),
      ...(roll(3) === 0 && { text }),
      ...(roll(3) === 0 && named('plugin_config_id')),
      ...(roll(2) === 0 ? named('service_id') : named('upstream_id')),
    }
  }
}

test('random changes under traffic: every answer is that of a configuration in force', { timeout: 240_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-model-'))
  bed.later(() => rm(folder, { recursive: true, force: true }))
  const file = join(folder, 'sluice.json')
  await writeFile(file, JSON.stringify({ sluice: { admin: { keys: [{ name: 'test', key: ADMIN_KEY }] } } }))
  const ports = await servers()
  const gateway = await started(file)
  const agent = new Agent({ keepAlive: true })
  bed.later(() => agent.destroy())
  const writers = Array.from({ length: writersCount }, (_, index) => new Writer(`w${index}`, dice(1_000 + index), ports))
  const answered = async (url: string, host: string, path: string) => {
    const { status, text } = await ask(`${url}${path}`, agent, { headers: { host } })
    return status === 200 ? `200 ${text}` : String(status)
  }

  let left = changesWanted
  let requests = 0
  const writing = writers.map(async (writer) => {
    while (left-- > 0) await writer.change(gateway.adminUrl, agent)
  })
  let isOver = false
  const roll = dice(7)
  const clients = Array.from({ length: clientsCount }, async () => {
    while (!isOver) {
      const writer = writers[roll(writers.length)] as Writer
      const host = hosts[roll(2)] ?? ''
      const path = `/${writer.name}${paths[roll(paths.length)]}`
      const from = writer.history.length - 1
      const found = await answered(gateway.url, host, path)
      requests++
      // The change that is under way may be in force already: what it is, is known when it was answered.
      const isOpen = writer.isWriting
      const to = writer.history.length
      while (isOpen && writer.history.length === to) await new Promise((resolve) => setImmediate(resolve))
      const possible = writer.history.slice(from, isOpen ? to + 1 : to).map((model) => answerOf(model, host, path))
      expect(possible, `${host}${path}, changes ${from} to ${to} of ${writer.name}`).toContain(found)
    }
  })
  const written = Promise.all(writing).finally(() => {
    isOver = true
  })
  await Promise.all([written, ...clients])
  // The comparison is about something.
  expect(requests).toBeGreaterThan(writersCount * 10)
  expect(writers.reduce((sum, { refusals }) => sum + refusals, 0)).toBeGreaterThan(0)

  const compareAll = async (url: string) => {
    for (const writer of writers) {
      for (const host of hosts) {
        for (const tail of paths) {
          const path = `/${writer.name}${tail}`
          expect(await answered(url, host, path), `${host}${path}`).toBe(answerOf(writer.latest, host, path))
        }
      }
    }
  }
  await compareAll(gateway.url)
  await gateway.kill()
  await compareAll((await started(file)).url)
})
