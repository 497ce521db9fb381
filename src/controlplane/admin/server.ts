/**
 * The admin server, in the primary: HTTP or HTTPS, and who may come in. A key is always required.
 *
 *   /apisix/admin/…   the Admin API: resource-api.ts, schema-api.ts, standalone-api.ts
 *   /v1/…             operations.ts, resource-set.ts
 *   /, /status, /routes …, /config   what tools for Kong ask: kong-api.ts
 */
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { UsageError } from '../../base/errors.js'
import type { AdminConfig, SocketAddress } from '../../schema/process.js'
import { type AdminRequest, type Answer, refused } from './answer.js'
import { AdminGuard, unauthorized } from './authorize.js'
import { answerKong, isKongPath, type KongActions, type KongTraffic } from './kong-api.js'
import { answerOperations, type OperationActions } from './operations.js'
import { answerResources } from './resource-api.js'
import { answerResourceSet, isResourceSet, type ResourceSetActions, resourcesPath } from './resource-set.js'
import { answerSchemas, type SchemaActions } from './schema-api.js'
import { answerConfigs } from './standalone-api.js'

/** What the server can look at and start. */
export interface AdminActions extends OperationActions {
  /** Null = there are no resources to change: every request for them is 503. */
  readonly resources: (SchemaActions & ResourceSetActions & KongActions) | null
  /** For the status page of Kong. */
  readonly traffic: () => KongTraffic
  readonly version: string
  /** Told of errors inside the server; never of a client's mistakes. */
  readonly log: (message: string) => void
}

export interface AdminServer {
  readonly address: SocketAddress
  close(): Promise<void>
}

/** The bound of the reference Admin API. */
const maxBodyBytes = 1_572_864
/** Of a whole configuration. */
const maxConfigBytes = 256 * 1_048_576
const configsPath = '/apisix/admin/configs'

const limits = { requestTimeout: 60_000, headersTimeout: 10_000, maxHeaderSize: 16_384 }

/** Starts listening. `keys` are those of `config`, or the one that was made. Rejects with UsageError when the address cannot be used. */
export async function startAdminServer(config: AdminConfig, actions: AdminActions, keys = config.keys): Promise<AdminServer> {
  const guard = new AdminGuard(config, keys)
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    answer(request, guard, actions)
      .catch((error: unknown): Answer => {
        actions.log(`admin server: ${request.method} ${pathOf(request)}: ${error instanceof Error ? error.message : String(error)}`)
        return refused(500, 'internal error; the process log says more')
      })
      .then((result) => send(request, response, result, guard, actions.version))
      .catch(() => response.destroy())
  }
  const server = config.tls === null ? createServer(limits, listener) : createTlsServer({ ...limits, ...tlsOptions(config.tls) }, listener)
  await listen(server, config)
  server.on('error', (error) => actions.log(`admin server: ${error.message}`))
  const bound = server.address() as AddressInfo
  return {
    address: { host: config.host, port: bound.port },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

function tlsOptions(tls: NonNullable<AdminConfig['tls']>) {
  const files = { cert: readFileSync(tls.certFile), key: readFileSync(tls.keyFile), minVersion: 'TLSv1.2' as const }
  return tls.clientCaFile === null ? files : { ...files, ca: readFileSync(tls.clientCaFile), requestCert: true, rejectUnauthorized: true }
}

function listen(server: Server, config: AdminConfig): Promise<void> {
  return new Promise((resolve, reject) => {
    const refuse = (error: NodeJS.ErrnoException) => {
      const reason = error.code === 'EADDRINUSE' ? 'the port is in use by another process' : error.message
      reject(new UsageError(`admin: cannot listen on ${config.host}:${config.port}: ${reason}`, error.code === 'EADDRINUSE' ? 1 : 2))
    }
    server.once('error', refuse)
    server.listen(config.port, config.host, () => {
      server.off('error', refuse)
      resolve()
    })
  })
}

async function answer(request: IncomingMessage, guard: AdminGuard, actions: AdminActions): Promise<Answer> {
  const { headers } = request
  const barred = guard.refusal(request.socket.remoteAddress ?? '', headers)
  if (barred !== null) return { ...barred, headers: { connection: 'close' } }
  if (request.method === 'OPTIONS') return { status: 200, body: null }
  const path = pathOf(request)
  const query = new URLSearchParams((request.url ?? '').slice(path.length + 1))
  const role = guard.authenticate(headers, query)
  if (typeof role !== 'string') return { ...role, headers: { connection: 'close' } }
  const isApi = path === '/apisix/admin' || path.startsWith('/apisix/admin/')
  const method = request.method ?? ''
  if (isApi && role === 'viewer' && method !== 'GET' && method !== 'HEAD') return unauthorized('invalid method for role viewer')
  if (isResourceSet(path) && role !== 'admin') return unauthorized(`invalid method for role ${role}`)
  const isWhole = path === resourcesPath || path === '/config' || path === configsPath || path.startsWith(`${configsPath}/`)
  const body = await readBody(request, isWhole ? maxConfigBytes : maxBodyBytes)
  if (typeof body !== 'string') return body
  const full: AdminRequest = { method, path, query, headers, body, role }
  const segments = decoded(path)
  if (segments !== null && isKongPath(segments)) return answerKongApi(full, segments, actions)
  if (isResourceSet(path)) return actions.resources === null ? notReady : answerResourceSet(full, actions.resources)
  return isApi ? answerApi(full, actions) : answerOperations(full, actions)
}

async function answerKongApi(request: AdminRequest, segments: readonly string[], actions: AdminActions): Promise<Answer> {
  const { resources, traffic } = actions
  if (resources === null) return notReady
  if (request.role !== 'admin' && request.method !== 'GET' && request.method !== 'HEAD')
    return unauthorized('invalid method for role viewer')
  const startMs = resources.clock.wallMs()
  const result = await answerKong(request, segments, resources, traffic)
  const latencyMs = Math.max(0, Math.round(resources.clock.wallMs() - startMs))
  return { ...result, headers: { ...result.headers, 'x-kong-admin-latency': String(latencyMs) } }
}

const notReady: Answer = refused(503, 'the configuration is not ready yet')

function answerApi(request: AdminRequest, { resources }: AdminActions): Promise<Answer> | Answer {
  if (resources === null) return notReady
  const segments = decoded(request.path.slice('/apisix/admin'.length))
  if (segments === null) return refused(400, 'malformed escape in the path')
  switch (segments[0]) {
    case 'schema':
    case 'plugins':
      return answerSchemas(request, segments, resources)
    case 'configs':
      return answerConfigs(request, segments, resources)
    default:
      return answerResources(request, segments, resources)
  }
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '/').replace(/\?.*$/s, '')
}

function decoded(path: string): string[] | null {
  try {
    return path
      .split('/')
      .filter((part) => part !== '')
      .map(decodeURIComponent)
  } catch {
    return null
  }
}

/** The whole body, or the refusal of one that is too large. */
async function readBody(request: IncomingMessage, most: number): Promise<string | Answer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    // Too much is read to its end and dropped: leaving the loop would close the connection before the answer.
    if (size <= most) chunks.push(chunk)
  }
  if (size > most) {
    return refused(400, `invalid request body: request size ${size} is greater than the maximum size ${most} allowed`)
  }
  return Buffer.concat(chunks).toString('utf8')
}

const methods = 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS'

function send(request: IncomingMessage, response: ServerResponse, result: Answer, guard: AdminGuard, version: string): void {
  const headers: { [name: string]: string } = {
    'content-type': typeof result.body === 'string' ? 'text/plain' : 'application/json',
    'cache-control': 'no-store',
    'x-api-version': 'v3',
    // Tools choose the dialect by the version of the reference gateway.
    server: `APISIX/3.11.0 sluice/${version}`,
    'x-content-type-options': 'nosniff',
    ...result.headers,
  }
  const origin = guard.allowedOrigin(request.headers.origin)
  if (origin !== null) {
    headers['access-control-allow-origin'] = origin
    headers['access-control-allow-methods'] = methods
    headers['access-control-allow-headers'] = 'content-type, x-api-key, x-digest'
    headers['access-control-expose-headers'] = 'x-sluice-epoch, x-sluice-needs-restart, x-digest, x-last-modified'
    headers['access-control-max-age'] = '3600'
    headers['vary'] = 'origin'
  }
  const text = typeof result.body === 'string' ? result.body : result.body === null ? '' : `${JSON.stringify(result.body)}\n`
  if (result.status !== 204) headers['content-length'] = String(Buffer.byteLength(text))
  response.writeHead(result.status, headers)
  response.end(request.method === 'HEAD' || result.status === 204 ? undefined : text)
}
