/** Parts of the data path for its unit tests: a client that records, an upstream's description, exchanges that are ready to be sent. */

import { ManualClock } from '../../../src/base/clock.js'
import type { HeaderList } from '../../../src/base/headers.js'
import { Bulkheads } from '../../../src/dataplane/concurrency/bulkheads.js'
import { Exchange } from '../../../src/dataplane/exchange.js'
import type { Bytes, ClientResponse } from '../../../src/dataplane/listener/binding.js'
import { type LinkEnvironment, LinkedRoute } from '../../../src/dataplane/snapshot.js'
import type { ConnectionEvents } from '../../../src/dataplane/upstream/connection.js'
import type { PoolTally } from '../../../src/dataplane/upstream/pool.js'
import { PoolRegistry } from '../../../src/dataplane/upstream/pool-registry.js'
import { type AnyPlugin, definePlugin, type PluginInstance, Type } from '../../../src/plugins/plugin.js'
import type { CompiledBalancing, CompiledNode, CompiledPlugin, CompiledUpstream } from '../../../src/schema/compiled.js'
import { ConcurrencyCells, createConcurrencyRegion } from '../../../src/shared/concurrency-cells.js'
import { METRICS_SLAB_BYTES, WorkerMetrics } from '../../../src/shared/metrics-slab.js'
import { createNodesRegion, NodeCells } from '../../../src/shared/node-cells.js'
import { NodeHealth } from '../../../src/shared/node-health.js'
import { ROTORS_BYTES, Rotors } from '../../../src/shared/rotors.js'
import { createUpstreamsRegion, UpstreamCells } from '../../../src/shared/upstream-cells.js'
import { compiledRoute } from '../../support/compiled-route.js'
import { linkKit } from '../../support/link-kit.js'

/** A client that takes everything and remembers it. */
export class RecordingClient implements ClientResponse {
  /** The block given to `writeStatus`, as the bytes that would go out, in Latin-1. */
  block = ''
  body = Buffer.alloc(0)
  isEnded = false
  /** Length announced without a body, or undefined. */
  announced: number | undefined
  isClosedBehind = false

  writeStatus(status: Bytes): ClientResponse {
    this.block = bytesOf(status).toString('latin1')
    return this
  }
  writeHeader(key: Bytes, value: Bytes): ClientResponse {
    const text = bytesOf(value).toString('latin1')
    const name = bytesOf(key).toString('latin1').toLowerCase()
    if (name === 'content-length') this.announced = Number(text)
    else if (name === 'connection') this.isClosedBehind = text === 'close'
    else throw new Error(`the writer sends whole blocks, but ${name} came by itself`)
    return this
  }
  write(chunk: Bytes): boolean {
    this.body = Buffer.concat([this.body, bytesOf(chunk)])
    return true
  }
  end(body?: Bytes, closeConnection = false): ClientResponse {
    if (body !== undefined) this.write(body)
    this.isEnded = true
    this.isClosedBehind = closeConnection
    return this
  }
  endWithoutBody(length?: number, closeConnection = false): ClientResponse {
    this.announced ??= length
    this.isEnded = true
    this.isClosedBehind ||= closeConnection
    return this
  }
  tryEnd(chunk: Bytes, totalSize: number): [boolean, boolean] {
    this.write(chunk)
    this.isEnded = this.body.length === totalSize
    return [true, this.isEnded]
  }
  close(): ClientResponse {
    this.isClosedBehind = true
    return this
  }
  getWriteOffset(): number {
    return this.body.length
  }
  onWritable(): ClientResponse {
    return this
  }
  onAborted(): ClientResponse {
    return this
  }
  onData(): ClientResponse {
    return this
  }
  getRemoteAddress(): ArrayBuffer {
    return new ArrayBuffer(0)
  }
  getProxiedRemoteAddress(): ArrayBuffer {
    return new ArrayBuffer(0)
  }
  cork(callback: () => void): ClientResponse {
    callback()
    return this
  }
  pause(): void {}
  resume(): void {}
}

function bytesOf(bytes: Bytes): Buffer {
  // The binding writes strings as UTF-8.
  if (typeof bytes === 'string') return Buffer.from(bytes, 'utf8')
  return bytes instanceof ArrayBuffer ? Buffer.from(bytes) : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

export interface RequestParts {
  readonly method?: string
  readonly target?: string
  readonly host?: string
  readonly headers?: readonly (readonly [string, string])[]
  readonly peer?: string
  readonly client?: string
  readonly bodyLength?: number
}

/** An exchange as the listener leaves it. */
export function exchangeOf(parts: RequestParts = {}, client: ClientResponse = new RecordingClient()): Exchange {
  const exchange = new Exchange({
    aborted: () => {},
    data: () => {},
    writable: () => true,
    readBody: () => Promise.resolve(null),
    replaceBody: () => {},
  })
  exchange.begin(client)
  const [path = '/', query = ''] = (parts.target ?? '/').split('?')
  exchange.method = parts.method ?? 'GET'
  exchange.upstreamMethod = exchange.method
  exchange.isHead = exchange.method === 'HEAD'
  exchange.path = path
  exchange.upstreamPath = path
  exchange.query = query
  exchange.upstreamQuery = query
  exchange.scheme = 'http'
  exchange.hostHeader = parts.host ?? 'front.test'
  exchange.serverPort = 9080
  exchange.peerAddress = parts.peer ?? '192.0.2.1'
  exchange.clientAddress = parts.client ?? exchange.peerAddress
  exchange.requestBodyLength = parts.bodyLength ?? 0
  for (const [name, value] of parts.headers ?? []) exchange.requestHeaders.push(name.toLowerCase(), name, value)
  return exchange
}

export function nodeOf(fields: Partial<CompiledNode> = {}): CompiledNode {
  return { host: '127.0.0.1', address: '127.0.0.1', port: 80, weight: 1, priority: 0, ...fields }
}

/** Options of the balancers as they are by default. */
export function balancingOf(fields: Partial<CompiledBalancing> = {}): CompiledBalancing {
  return { hash: null, slowStart: null, ewmaDecayMs: 10_000, allUnhealthy: 'fail_open', subset: null, ...fields }
}

export function upstreamOf(fields: Partial<CompiledUpstream> = {}): CompiledUpstream {
  return {
    key: 'upstreams/1',
    name: '',
    type: 'roundrobin',
    balancing: balancingOf(),
    scheme: 'http',
    nodes: [nodeOf()],
    passHost: 'pass',
    upstreamHost: '',
    retries: -1,
    retryTimeoutMs: 0,
    timeout: { connectMs: 1000, sendMs: 1000, readMs: 1000 },
    keepalive: { size: 8, idleTimeoutMs: 60_000, requests: 1000, pipelining: 1 },
    tls: null,
    rotor: 0,
    ...fields,
  }
}

/** Bulkheads of a single worker that nobody waits at. */
export function bulkheadsOf(): Bulkheads {
  const cells = new ConcurrencyCells(createConcurrencyRegion(1), 1, 0)
  return new Bulkheads({ cells, workers: 1, clock: new ManualClock(), admitted: () => {} })
}

/** Counts nothing. */
export function silentTally(): PoolTally {
  return { connections: 0, opened() {}, failed() {}, reused() {} }
}

export const silentEvents: ConnectionEvents = {
  connected: () => {},
  whole: () => {},
  head: () => {},
  body: () => {},
  failed: () => {},
  drained: () => {},
  turnEnded: () => {},
}

/** Plugins by name, in the order in which they were added. */
class Registry extends Map<string, AnyPlugin> {
  position(name: string): number {
    return [...this.keys()].indexOf(name)
  }
}

/** A linked route with these plugin instances in its chain. */
export function routeWith(instances: readonly PluginInstance[]): LinkedRoute {
  const plugins = new Registry()
  const compiled: CompiledPlugin[] = []
  for (const [index, instance] of instances.entries()) {
    const name = `test-${index}`
    const link = () => instance
    plugins.set(name, definePlugin({ name, priority: 0, description: 'Test.', schema: Type.Object({}), prepare: () => null, link }))
    compiled.push({ name, priority: 0, prepared: null, filter: null, errorResponse: null, owner: 'routes/1' })
  }
  const region = createNodesRegion(1)
  const nodes = new NodeCells(region, 1, 0)
  const environment: LinkEnvironment = {
    plugins,
    pools: new PoolRegistry(silentEvents, 16384, silentTally()),
    rotors: new Rotors(new SharedArrayBuffer(ROTORS_BYTES)),
    nodes,
    nodeHealth: new NodeHealth(region, nodes),
    nodeNews: () => {},
    upstreams: new UpstreamCells(createUpstreamsRegion()),
    bulkheads: bulkheadsOf(),
    metrics: new WorkerMetrics(new SharedArrayBuffer(METRICS_SLAB_BYTES), () => {}),
    kitFor: (route) => linkKit(route),
  }
  const consumers = { credentials: () => ({ find: () => null }), consumer: () => null }
  return new LinkedRoute(0, compiledRoute({ uris: ['/*'], plugins: compiled }), { globals: [], consumers }, environment)
}

/** Name and value pairs of a list, names in lower case. */
export function fieldsOf(list: HeaderList): [string, string][] {
  return Array.from({ length: list.count }, (_, index) => [list.keys[index] ?? '', list.values[index] ?? ''])
}
