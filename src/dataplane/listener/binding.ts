/**
 * The only file that knows the uWebSockets.js binding. Its surface is also that of the strict listener (node-binding.ts).
 *
 * Three surfaces are accepted: the official package (`us_*` names, `forEach`, `getRemotePort`, `addChildAppDescriptor`), the registry
 * repack that is the default dependency (`closeSocket`, `forEachHeader`), and the unofficial build that tests load. What a surface
 * lacks is reported by `features`, never guessed later.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { Failure } from '../../base/errors.js'

/** A piece of text or bytes as the binding takes it. */
export type Bytes = string | Uint8Array | ArrayBuffer

/** The response half of a request; valid until it was ended or aborted. */
export interface ClientResponse {
  writeStatus(status: Bytes): ClientResponse
  writeHeader(key: Bytes, value: Bytes): ClientResponse
  write(chunk: Bytes): boolean
  end(body?: Bytes, closeConnection?: boolean): ClientResponse
  /**
   * A whole answer in one call, where the listener has it: `block` as for `writeStatus`, and as the body [start, end) of `source` (all of it if that is
   * text). `isLasting`: the block will never change.
   */
  answer?(block: Bytes, isLasting: boolean, source: Bytes, start: number, end: number, closeConnection: boolean): void
  endWithoutBody(reportedContentLength?: number, closeConnection?: boolean): ClientResponse
  /** Returns [taken, complete]. Builds without the third parameter ignore it. */
  tryEnd(chunk: Bytes, totalSize: number, closeConnection?: boolean): [boolean, boolean]
  close(): ClientResponse
  getWriteOffset(): number
  /** Where pieces are taken whole, and only their end is told: the client has taken some bytes of them lately. */
  isTaking?(): boolean
  onWritable(handler: (offset: number) => boolean): ClientResponse
  onAborted(handler: () => void): ClientResponse
  /** Pieces are lent for the call. */
  onData(handler: (chunk: ArrayBuffer | Uint8Array, isLast: boolean) => void): ClientResponse
  /** What is left of any request body behind its answer is read and dropped, within bounds. */
  readonly dropsBody?: boolean
  /** Where the text of the address is known, and the port. */
  peerAddress?(): string
  peerPort?(): number
  getRemoteAddress(): ArrayBuffer
  getProxiedRemoteAddress(): ArrayBuffer
  cork(callback: () => void): ClientResponse
  pause(): void
  resume(): void
}

/** The request half; only valid inside the handler. */
export interface ClientRequest {
  /** The same object may come again, for a request that is the same byte for byte. */
  readonly isLasting?: boolean
  getUrl(): string
  getQuery(): string | undefined
  getCaseSensitiveMethod(): string
  forEachHeader?(callback: (name: string, value: string) => void): void
  forEach?(callback: (name: string, value: string) => void): void
  /** Why the binding itself refuses the request, or null. */
  refusal?(): Failure | null
}

export type ListenSocket = object

export interface UwsApp {
  any(pattern: string, handler: (response: ClientResponse, request: ClientRequest) => void): UwsApp
  /** Requests whose method is exactly `GET`: they go here and not to `any`. */
  get?(pattern: string, handler: (response: ClientResponse, request: ClientRequest) => void): UwsApp
  listen(host: string, port: number, options: number, callback: (socket: ListenSocket | false) => void): UwsApp
  addServerName(hostname: string, options: TlsFiles): UwsApp
  /** Listeners of Node only: with the native build a client whose connection was kept alive was seen to be hung up on. */
  removeServerName?(hostname: string): UwsApp
  /** Selects the server name whose routes are registered next. */
  domain(hostname: string): UwsApp
  close(): UwsApp
  /** Tells clients that their connections end, where the protocol can say so without an answer. */
  drain?(): void
  /** Official builds: hands connections of this app to another thread's app, in turn with its other children. */
  addChildAppDescriptor?(descriptor: unknown): UwsApp
  removeChildAppDescriptor?(descriptor: unknown): UwsApp
  getDescriptor?(): unknown
  /** Official builds: +1 / -1 for each connection. */
  filter?(callback: (response: ClientResponse, count: number) => void): UwsApp
}

export interface TlsFiles {
  readonly key_file_name: string
  readonly cert_file_name: string
}

interface UwsModule {
  App(): UwsApp
  SSLApp(options: TlsFiles): UwsApp
  closeSocket?(socket: ListenSocket): void
  us_listen_socket_close?(socket: ListenSocket): void
  getSocketPort?(socket: ListenSocket): number
  us_socket_local_port?(socket: ListenSocket): number
}

export interface BindingFeatures {
  /** The build can hand accepted connections to other threads (`--accept primary`). */
  readonly childApps: boolean
  /** The build tells when connections open and close. */
  readonly connectionEvents: boolean
}

export interface Binding {
  readonly name: string
  readonly version: string
  readonly features: BindingFeatures
  createApp(tls: TlsFiles | null): UwsApp
  closeListenSocket(socket: ListenSocket): void
  localPort(socket: ListenSocket): number
  /** Calls back for each header line in order, names in lower case. */
  forEachHeader(request: ClientRequest, callback: (name: string, value: string) => void): void
}

const require = createRequire(import.meta.url)

/**
 * Loads the binding. `UWS_HTTP_MAX_HEADERS_SIZE` must be in the environment of the process before the first call.
 * Throws an Error with the way out when the build does not fit this Node.
 */
export function loadBinding(packageName: string): Binding {
  let uws: UwsModule
  try {
    uws = require(packageName) as UwsModule
  } catch (error) {
    throw new Error(
      `cannot load ${packageName} on Node ${process.versions.node} (${process.platform}/${process.arch}): ${firstLine(error)}. ` +
        'The bundled build fits Node 20; for other versions install the official one over it (README, "Node versions").',
    )
  }
  const close = uws.closeSocket ?? uws.us_listen_socket_close
  const port = uws.getSocketPort ?? uws.us_socket_local_port
  if (close === undefined || port === undefined) throw new Error(`${packageName} has neither of the known listen socket functions`)
  const sample = uws.App()
  const features = {
    childApps:
      typeof sample.addChildAppDescriptor === 'function' &&
      typeof sample.removeChildAppDescriptor === 'function' &&
      typeof sample.getDescriptor === 'function',
    connectionEvents: typeof sample.filter === 'function',
  }
  sample.close()
  return {
    name: packageName,
    version: packageVersion(packageName),
    features,
    createApp: (tls) => (tls === null ? uws.App() : uws.SSLApp(tls)),
    closeListenSocket: (socket) => close(socket),
    localPort: (socket) => port(socket),
    forEachHeader: (request, callback) => {
      if (request.forEachHeader !== undefined) request.forEachHeader(callback)
      else request.forEach?.(callback)
    },
  }
}

function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split('\n')[0] ?? ''
}

function packageVersion(packageName: string): string {
  let folder = dirname(require.resolve(packageName))
  for (let depth = 0; depth < 4; depth++) {
    try {
      const manifest: unknown = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
      if (typeof manifest === 'object' && manifest !== null && 'version' in manifest) return String(manifest.version)
    } catch {
      // The manifest may lie above the entry file.
    }
    folder = dirname(folder)
  }
  return 'unknown'
}
