/**
 * The admin server, in the primary: status, reload, and (behind SLUICE_FAULTS=1) fault injection. A key is always required.
 *
 *   GET  /v1/status    any role
 *   POST /v1/reload    admin: 200 with the new epoch, 400 with every error of the refused configuration
 *   POST /v1/revocations  admin: revokes a token, a subject or a consumer (revocations.ts)
 *   *    /v1/breakers  see admin/breakers
 *   POST /v1/faults    admin, tests only: {"worker": 0, "kind": "throw" | "out-of-memory"}
 *   *    /apisix/admin 501
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { UsageError } from '../../base/errors.js'
import type { AdminConfig, SocketAddress } from '../../schema/process.js'
import type { ReloadOutcome } from '../reload.js'
import { isHostAllowed, roleOf } from './authorize.js'
import { answerBreakers, type BreakerActions } from './breakers.js'
import { answerRevocation, type RevocationOutcome, type RevocationRequest } from './revocations.js'

/** What the server can look at and start. */
export interface AdminActions {
  status(): object
  reload(): Promise<ReloadOutcome>
  revoke(request: RevocationRequest): Promise<RevocationOutcome>
  readonly breakers: BreakerActions
  /** null = the test hook is off. False when there is no such worker. */
  readonly fault: ((worker: number, kind: 'throw' | 'out-of-memory') => boolean) | null
}

export interface AdminServer {
  readonly address: SocketAddress
  close(): Promise<void>
}

/** The bound of the reference Admin API. */
const maxBodyBytes = 1_572_864

interface Answer {
  readonly status: number
  readonly body: object
}

/** Starts listening. Rejects with UsageError when the address cannot be used. */
export async function startAdminServer(config: AdminConfig, actions: AdminActions): Promise<AdminServer> {
  const server = createServer({ requestTimeout: 30_000, headersTimeout: 10_000, maxHeaderSize: 16_384 }, (request, response) => {
    answer(request, config, actions)
      .catch((error: unknown) => failed(error))
      .then((result) => send(response, result))
  })
  await listen(server, config)
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

function listen(server: Server, config: AdminConfig): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason = error.code === 'EADDRINUSE' ? 'the port is in use by another process' : error.message
      reject(new UsageError(`admin: cannot listen on ${config.host}:${config.port}: ${reason}`, error.code === 'EADDRINUSE' ? 1 : 2))
    })
    server.listen(config.port, config.host, resolve)
  })
}

async function answer(request: IncomingMessage, config: AdminConfig, actions: AdminActions): Promise<Answer> {
  if (!isHostAllowed(request.headers.host, config.host)) {
    return { status: 403, body: { error_msg: 'the Host header names another server; use the address, localhost or the configured name' } }
  }
  const header = request.headers['x-api-key']
  if (typeof header !== 'string' || header === '') return unauthorized('missing apikey')
  const role = roleOf(header, config.keys)
  if (role === null) return unauthorized('wrong apikey')
  const body = await readBody(request)
  if (body === null) {
    return {
      status: 400,
      body: { error_msg: `invalid request body: request size is greater than the maximum size ${maxBodyBytes} allowed` },
    }
  }
  const path = (request.url ?? '/').replace(/\?.*$/s, '')
  if (path === '/apisix/admin' || path.startsWith('/apisix/admin/')) {
    return { status: 501, body: { error_msg: 'the Admin API is not implemented yet; change the configuration file and POST /v1/reload' } }
  }
  const aboutBreakers = answerBreakers(request.method ?? '', path, role === 'admin', body, actions.breakers)
  if (aboutBreakers !== null) return aboutBreakers
  const route = `${request.method} ${path}`
  if (route === 'GET /v1/status') return { status: 200, body: actions.status() }
  const isWrite = route === 'POST /v1/reload' || route === 'POST /v1/revocations' || (route === 'POST /v1/faults' && actions.fault !== null)
  if (!isWrite) return unknown(path, actions)
  if (role !== 'admin') return unauthorized(`invalid method for role ${role}`)
  if (path === '/v1/revocations') return answerRevocation(body, actions)
  return path === '/v1/reload' ? reload(actions) : injectFault(body, actions)
}

function unauthorized(description: string): Answer {
  return { status: 401, body: { error_msg: 'failed to check token', description } }
}

function unknown(path: string, actions: AdminActions): Answer {
  const verbs = new Map([
    ['/v1/status', 'GET'],
    ['/v1/reload', 'POST'],
    ['/v1/revocations', 'POST'],
  ])
  if (actions.fault !== null) verbs.set('/v1/faults', 'POST')
  const verb = verbs.get(path)
  if (verb !== undefined) return { status: 405, body: { error_msg: `not supported: ${path} takes ${verb}` } }
  return { status: 404, body: { error_msg: 'not found' } }
}

async function reload(actions: AdminActions): Promise<Answer> {
  const outcome = await actions.reload()
  if (outcome.ok) return { status: 200, body: { epoch: outcome.epoch } }
  return { status: 400, body: { error_msg: outcome.errors[0] ?? 'the configuration was refused', errors: outcome.errors } }
}

function injectFault(body: string, actions: AdminActions): Answer {
  const expected = 'invalid request body: expected {"worker": number, "kind": "throw" | "out-of-memory"}'
  let fault: unknown
  try {
    fault = JSON.parse(body)
  } catch {
    return { status: 400, body: { error_msg: expected } }
  }
  if (typeof fault !== 'object' || fault === null || !('worker' in fault) || !('kind' in fault))
    return { status: 400, body: { error_msg: expected } }
  const { worker, kind } = fault
  if (typeof worker !== 'number' || (kind !== 'throw' && kind !== 'out-of-memory')) return { status: 400, body: { error_msg: expected } }
  if (actions.fault?.(worker, kind) !== true) return { status: 404, body: { error_msg: `there is no worker ${worker}` } }
  return { status: 202, body: { worker, kind } }
}

/** The whole body, or null when it is too large. */
async function readBody(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    // Too much is read to its end and dropped: leaving the loop would close the connection before the answer.
    if (size <= maxBodyBytes) chunks.push(chunk)
  }
  if (size > maxBodyBytes) return null
  return Buffer.concat(chunks).toString('utf8')
}

function failed(error: unknown): Answer {
  return { status: 500, body: { error_msg: error instanceof Error ? error.message : String(error) } }
}

function send(response: ServerResponse, result: Answer): void {
  const text = `${JSON.stringify(result.body)}\n`
  response.writeHead(result.status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  response.end(text)
}
