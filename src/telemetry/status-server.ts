/**
 * The HTTP server of the primary for operators: metrics, status, readiness, explanations. Reads only; needs no worker to answer.
 *
 *   GET /metrics, /apisix/prometheus/metrics   Prometheus page
 *   GET /status                                what runs, by which configuration; always 200
 *   GET /status/ready                          200 {"status":"ok"} or 503 {"status":"error","error":"…"}
 *   GET /v1/explain?method=&host=&path=        which route matches and why the others do not
 *   GET /v1/limits?key=[&route=]               live state of a key in the rate limits that may count it
 *   GET /v1/nodes                              upstream nodes of which something is known: load, latency, health
 *   GET /v1/healthcheck                        upstreams with health checks, their nodes with state and counters, as APISIX shows them
 *   GET /v1/healthcheck/<kind>/<id>            one of them: upstreams/1, routes/1, services/1
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { hostname } from 'node:os'
import { UsageError } from '../base/errors.js'
import type { Json } from '../schema/compiled.js'
import type { SocketAddress } from '../schema/process.js'
import type { EpochBoard } from '../shared/epochs.js'
import type { MetricsDirectory } from '../shared/metrics-directory.js'
import { EXPOSITION_CONTENT_TYPE } from './exposition.js'
import { metrics } from './metrics.js'
import { prometheusParts, type Sample } from './prometheus.js'

/** What the supervisor knows; read anew for every answer. */
export interface GatewayState {
  readonly version: string
  readonly draining: boolean
  readonly reloads: number
  readonly reloadFailures: number
  readonly workerRestarts: number
  /** Open client connections; null = cannot be known here. */
  readonly clientConnections: number | null
  /** The last reload, or null before the first. `error` is null when it was published. */
  readonly lastReload: { readonly error: string | null; readonly atMs: number } | null
  /** Where changes of the configuration are kept, and which of them are not in force; null = nowhere. */
  readonly store?: Json
}

export interface ExplainQuery {
  readonly method: string
  readonly host: string
  readonly path: string
  /** All other parameters: what matching may also look at (headers, client address). */
  readonly parameters: ReadonlyMap<string, string>
}

/** The table of local rate limits. */
export interface LimitTableState {
  /** Share of the cells in use, 0 to 1. */
  readonly fill: number
  readonly capacityBytes: number
  /** Decisions since the start for keys that found no cell of their own: counted with others, or refused. */
  readonly shared: number
  readonly full: number
}

export interface StatusServerOptions {
  readonly address: SocketAddress
  readonly directory: MetricsDirectory
  readonly board: EpochBoard
  readonly state: () => GatewayState
  /** Throws UsageError for a query that makes no sense: answered with 400 and its text. */
  readonly explain: (query: ExplainQuery) => Json
  /** The page `/v1/nodes`. */
  readonly nodes: () => Json
  /** The page `/v1/healthcheck`, and `/v1/healthcheck/<key>`: null when there is no such upstream with checks. */
  readonly healthchecks: () => Json
  readonly healthcheck: (key: string) => Json | null
  /** Rejects with UsageError as `explain` throws it. */
  readonly limits: (query: { readonly key: string; readonly route: string | null }) => Promise<Json>
  readonly limitTable: () => LimitTableState
  /** By which the workers count; those of APISIX when nothing else is configured. */
  readonly latencyBoundsMs: readonly number[]
  /** What other parts of the primary count and know, for the metrics page. */
  readonly samples: () => readonly Sample[]
  /** Told of errors inside the server; never of a client's mistakes. */
  readonly log: (message: string) => void
}

export interface StatusServer {
  /** Where it listens, with the real port. */
  readonly address: SocketAddress
  /** Ends all connections and resolves when the port is free. */
  close(): Promise<void>
}

interface Answer {
  readonly status: number
  readonly type: string
  /** A text, or the parts of one that is too large to be made in one go. */
  readonly body: string | Iterator<string>
  readonly allow?: string
}

/** Requests here have no body and come from operators: short waits, so that a stuck client holds nothing. */
const REQUEST_TIMEOUT_MS = 10_000

/** Starts the server. Rejects with a UsageError that names the address when it cannot listen there. */
export async function startStatusServer(options: StatusServerOptions): Promise<StatusServer> {
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    void answerSafely(request, options)
      .then((answered) => send(request, response, answered))
      .catch((error: Error) => {
        options.log(`status server: ${request.method} ${request.url}: ${error.message}`)
        response.destroy()
      })
  })
  // Also ends a client that stops taking its answer.
  server.setTimeout(REQUEST_TIMEOUT_MS)
  await listen(server, options.address)
  server.on('error', (error) => options.log(`status server: ${error.message}`))
  const bound = server.address() as AddressInfo
  return {
    address: { host: bound.address, port: bound.port },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

function listen(server: Server, address: SocketAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    const refuse = (error: NodeJS.ErrnoException) =>
      reject(new UsageError(listenProblem(address, error), error.code === 'EADDRINUSE' ? 1 : 2))
    server.once('error', refuse)
    server.listen({ host: address.host, port: address.port }, () => {
      server.off('error', refuse)
      resolve()
    })
  })
}

function listenProblem(address: SocketAddress, error: NodeJS.ErrnoException): string {
  const where = `metrics address ${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`
  switch (error.code) {
    case 'EADDRINUSE':
      return `${where} is already in use; stop what listens there or choose another with --metrics`
    case 'EACCES':
      return `${where}: no permission to listen there; choose a port from 1024 up with --metrics`
    case 'EADDRNOTAVAIL':
      return `${where} does not belong to this machine; choose one of its addresses with --metrics`
    default:
      return `${where}: cannot listen: ${error.message}`
  }
}

/** Rejects when a part cannot be made; the answer is then cut off, which a client notices. */
async function send(request: IncomingMessage, response: ServerResponse, answer: Answer): Promise<void> {
  response.statusCode = answer.status
  response.setHeader('Content-Type', answer.type)
  response.setHeader('Cache-Control', 'no-store')
  if (answer.allow !== undefined) response.setHeader('Allow', answer.allow)
  if (typeof answer.body === 'string') {
    response.setHeader('Content-Length', Buffer.byteLength(answer.body))
    response.end(request.method === 'HEAD' ? undefined : answer.body)
  } else if (request.method === 'HEAD') {
    response.end()
  } else {
    await sendParts(response, answer.body)
  }
}

/** Makes and writes one part per turn of the event loop, and none while the client does not take what was written. */
async function sendParts(response: ServerResponse, parts: Iterator<string>): Promise<void> {
  for (let part = parts.next(); part.done !== true; part = parts.next()) {
    if (response.destroyed) return
    if (response.write(part.value)) await new Promise<void>((resolve) => setImmediate(resolve))
    else await drained(response)
  }
  response.end()
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const go = () => {
      response.off('drain', go).off('close', go)
      resolve()
    }
    response.on('drain', go).on('close', go)
  })
}

async function answerSafely(request: IncomingMessage, options: StatusServerOptions): Promise<Answer> {
  try {
    return await answer(request, options)
  } catch (error) {
    if (error instanceof UsageError) return json(400, { status: 'error', error: error.message })
    options.log(`status server: ${request.method} ${request.url}: ${error instanceof Error ? error.message : String(error)}`)
    return json(500, { status: 'error', error: 'internal error; the process log says more' })
  }
}

function answer(request: IncomingMessage, options: StatusServerOptions): Answer | Promise<Answer> {
  const target = request.url ?? '/'
  const question = target.indexOf('?')
  const path = question === -1 ? target : target.slice(0, question)
  const page = path.startsWith(HEALTHCHECK_PREFIX) ? healthcheckPage(path.slice(HEALTHCHECK_PREFIX.length)) : pages[path]
  if (page === undefined) {
    return json(404, { status: 'error', error: `no page ${path}; there are ${Object.keys(pages).join(', ')}` })
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return { ...json(405, { status: 'error', error: `${request.method} is not possible here; use GET` }), allow: 'GET, HEAD' }
  }
  return page(options, new URLSearchParams(question === -1 ? '' : target.slice(question + 1)))
}

type Page = (options: StatusServerOptions, query: URLSearchParams) => Answer | Promise<Answer>

const pages: Readonly<Record<string, Page | undefined>> = Object.assign(Object.create(null), {
  '/metrics': metricsPage,
  '/apisix/prometheus/metrics': metricsPage,
  '/status': statusPage,
  '/status/ready': readyPage,
  '/v1/explain': explainPage,
  '/v1/limits': limitsPage,
  '/v1/nodes': ({ nodes }) => json(200, nodes()),
  '/v1/healthcheck': ({ healthchecks }) => json(200, healthchecks()),
} satisfies Record<string, Page>)

const HEALTHCHECK_PREFIX = '/v1/healthcheck/'

/** The page of the upstream with this key. Its errors have the form of the reference gateway. */
function healthcheckPage(encoded: string): Page {
  return ({ healthcheck }) => {
    const [kind = '', id = ''] = encoded.split('/').map(decodeSafely)
    // Upstreams written into a plugin have a key without a kind.
    const found = healthcheck(id === '' ? kind : `${kind}/${id}`)
    if (found !== null) return json(200, found)
    if (id === '') return json(404, { error_msg: `missing src id for src type ${kind}` })
    return json(404, { error_msg: `${kind}[${id}] not found, or it has no health checks` })
  }
}

/** A part that is not well encoded is looked up as it is, and not found. */
function decodeSafely(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

function json(status: number, body: Json): Answer {
  return { status, type: 'application/json', body: `${JSON.stringify(body)}\n` }
}

function metricsPage(options: StatusServerOptions): Answer {
  return {
    status: 200,
    type: EXPOSITION_CONTENT_TYPE,
    body: prometheusParts(options.directory, primarySamples(options), options.latencyBoundsMs),
  }
}

/** What the primary itself knows, as samples. */
function primarySamples({ board, directory, state, limitTable, samples: others }: StatusServerOptions): Sample[] {
  const now = state()
  const usage = directory.usage()
  const table = limitTable()
  const samples: Sample[] = [
    { metric: metrics.configEpoch, values: [], value: board.published() },
    { metric: metrics.configReloads, values: [], value: now.reloads },
    { metric: metrics.configReloadFailures, values: [], value: now.reloadFailures },
    { metric: metrics.workerRestarts, values: [], value: now.workerRestarts },
    { metric: metrics.nodeInfo, values: [hostname(), now.version], value: 1 },
    { metric: metrics.sharedCapacity, values: ['metrics'], value: usage.capacity * Float64Array.BYTES_PER_ELEMENT },
    { metric: metrics.sharedFree, values: ['metrics'], value: (usage.capacity - usage.used) * Float64Array.BYTES_PER_ELEMENT },
  ]
  samples.push(
    { metric: metrics.sharedCapacity, values: ['rate-limits'], value: table.capacityBytes },
    { metric: metrics.sharedFree, values: ['rate-limits'], value: Math.round(table.capacityBytes * (1 - table.fill)) },
    { metric: metrics.rateLimitTableFill, values: [], value: table.fill },
    { metric: metrics.rateLimitTableFull, values: ['shared'], value: table.shared },
    { metric: metrics.rateLimitTableFull, values: ['refused'], value: table.full },
  )
  if (now.clientConnections !== null) samples.push({ metric: metrics.clientSockets, values: [], value: now.clientConnections })
  for (const worker of board.readAll()) {
    if (worker.state === 'vacant' || worker.state === 'ended') continue
    const values = [String(worker.index)]
    samples.push({ metric: metrics.workerEpoch, values, value: worker.epoch })
    samples.push({ metric: metrics.workerLag, values, value: worker.loopLagMs / 1000 })
    samples.push({ metric: metrics.workerShedLevel, values, value: worker.shedLevel })
    samples.push({ metric: metrics.workerInFlight, values, value: worker.inFlight })
  }
  samples.push(...others())
  return samples
}

function statusPage({ board, state }: StatusServerOptions): Answer {
  const now = state()
  const workers = board.readAll().map((worker) => ({
    index: worker.index,
    state: worker.state,
    epoch: worker.epoch,
    in_flight: worker.inFlight,
    lag_ms: worker.loopLagMs,
    last_beat_ms: worker.beatAgeMs,
  }))
  return json(200, {
    status: 'ok',
    version: now.version,
    epoch: board.published(),
    draining: now.draining,
    workers,
    store: now.store ?? null,
    reload: { last_error: now.lastReload?.error ?? null, at: now.lastReload === null ? null : new Date(now.lastReload.atMs).toISOString() },
  })
}

function readyPage({ board, state }: StatusServerOptions): Answer {
  const problem = readyProblem(board, state().draining)
  return problem === null ? json(200, { status: 'ok' }) : json(503, { status: 'error', error: problem })
}

/** Why the gateway should get no traffic, or null. */
function readyProblem(board: EpochBoard, draining: boolean): string | null {
  if (draining) return 'the gateway is draining'
  if (board.published() === 0) return 'no configuration has been loaded yet'
  const workers = board.readAll()
  // Any epoch will do: during a reload the workers that still serve by the last configuration are as ready as the others.
  const waiting = workers.filter((worker) => worker.state === 'starting' || (worker.state === 'serving' && worker.epoch === 0))
  if (waiting.length > 0) return `worker ${waiting.map((worker) => worker.index).join(', ')} has not loaded the configuration yet`
  return workers.some((worker) => worker.state === 'serving') ? null : 'no worker is serving'
}

function explainPage({ explain }: StatusServerOptions, query: URLSearchParams): Answer {
  const path = query.get('path')
  if (path === null || !path.startsWith('/')) throw new UsageError('parameter "path" must be given and begin with "/"')
  const parameters = new Map([...query].filter(([name]) => name !== 'method' && name !== 'host' && name !== 'path'))
  return json(
    200,
    explain({ method: (query.get('method') ?? 'GET').toUpperCase(), host: (query.get('host') ?? '').toLowerCase(), path, parameters }),
  )
}

async function limitsPage({ limits }: StatusServerOptions, query: URLSearchParams): Promise<Answer> {
  return json(200, await limits({ key: query.get('key') ?? '', route: query.get('route') }))
}
