/**
 * The uWebSockets.js listener of one worker: copies what the binding lends, lets the guard decide framing, finds path and client,
 * and hands a filled exchange to the proxy. Everything refused here is refused before a byte reaches an upstream.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Failure, failures } from '../../base/errors.js'
import { CanonicalPath, canonicalPath } from '../../base/path.js'
import type { Reply } from '../../plugins/plugin.js'
import type { PathPolicy } from '../../schema/compiled.js'
import type { LimitsConfig, ListenerConfig, NamedCertificate, RealIpConfig } from '../../schema/process.js'
import type { Exchange } from '../exchange.js'
import type { RequestProxy } from '../proxy.js'
import type { Binding, ClientRequest, ClientResponse, ListenSocket, TlsFiles, UwsApp } from './binding.js'
import { AddressBook, TrustedProxies } from './client-address.js'
import { Guard } from './guard.js'
import { KnownRequest } from './known-request.js'

const LISTEN_DEFAULT = 0
/** The answer to `OPTIONS *` (RFC 9110 §9.3.7): the server is there. */
const serverOptions: Reply = { status: 200 }

export interface ListenerSettings {
  readonly listener: ListenerConfig
  readonly limits: LimitsConfig
  readonly realIp: RealIpConfig
  readonly trustIdentityHeaders: boolean
  /** Told about connections where the build reports them. */
  readonly connections: { connectionOpened(): void; connectionClosed(): void }
}

export class Listener {
  private readonly app: UwsApp
  private readonly guard: Guard
  private readonly addresses = new AddressBook()
  private readonly proxies: TrustedProxies
  private readonly path = new CanonicalPath()
  private socket: ListenSocket | null = null
  private readonly known = new KnownRequest()
  /** What `path` is the reading of, and under which rules; null = of nothing. */
  private lastPath = ''
  private lastPolicy: PathPolicy | null = null
  private lastHostHeader = ''
  private lastHost = ''
  private port: number
  private descriptor: unknown = null
  /** By server name. */
  private certificates: ReadonlyMap<string, NamedCertificate>

  constructor(
    private readonly binding: Binding,
    private readonly proxy: RequestProxy,
    private readonly settings: ListenerSettings,
    private readonly policy: () => PathPolicy,
  ) {
    const { listener, limits } = settings
    this.port = listener.port
    this.guard = new Guard(limits.maxHeaderBytes, limits.maxHeaderCount, settings.trustIdentityHeaders)
    this.proxies = new TrustedProxies(settings.realIp)
    this.app = createApp(binding, listener)
    this.app.filter?.(this.countConnection)
    this.serve(this.app)
    this.certificates = byName(listener.tls?.byServerName ?? [])
    // Each server name has routes of its own in the binding.
    for (const name of this.certificates.keys()) this.serve(this.app.domain(name))
  }

  /**
   * Serves certificates of further server names from the next handshake on. Names that are served already keep their certificate: when
   * one was replaced while it was in use, open connections were answered by the new handler, and a client whose connection was kept
   * alive was hung up on. Listeners of Node take all of it.
   */
  setCertificates(certificates: readonly NamedCertificate[]): void {
    const { tls, node } = this.settings.listener
    if (tls === null) return
    const next = byName(certificates)
    if (node !== undefined) for (const name of this.certificates.keys()) if (!next.has(name)) this.app.removeServerName?.(name)
    const changed = [...next].filter(([name]) => node !== undefined || !this.certificates.has(name))
    this.certificates = node === undefined ? new Map([...next, ...this.certificates]) : next
    if (changed.length === 0) return
    withFiles(
      changed.map(([, certificate]) => certificate),
      (files) => {
        for (const [index, [name]] of changed.entries()) {
          const own = files[index]
          if (own === undefined) continue
          this.app.addServerName(name, own)
          this.serve(this.app.domain(name))
        }
      },
    )
  }

  /** Starts accepting; resolves to the port, rejects with a one-line reason. `port` replaces the configured one. */
  listen(port = this.port): Promise<number> {
    const { host } = this.settings.listener
    return new Promise((resolve, reject) => {
      this.app.listen(host, port, LISTEN_DEFAULT, (socket) => {
        if (socket === false) {
          reject(new Error(`cannot listen on ${host}:${port}`))
          return
        }
        this.socket = socket
        this.port = this.binding.localPort(socket)
        resolve(this.port)
      })
    })
  }

  /**
   * In place of listening: takes connections that the primary's app accepts on `port`. Returns what that app knows this one by, a raw
   * pointer: it must be taken back there before this listener closes.
   */
  adopt(port: number): unknown {
    this.port = port
    this.descriptor ??= this.app.getDescriptor?.()
    return this.descriptor
  }

  /** Stops accepting. The kernel resets connections that were not accepted yet: see quiet-turn.ts for when to call it. */
  stopListening(): void {
    if (this.socket === null) return
    this.binding.closeListenSocket(this.socket)
    this.socket = null
  }

  get isListening(): boolean {
    return this.socket !== null
  }

  /** Stops accepting for good, and tells connected clients so where the protocol has a word for it. */
  drain(): void {
    this.stopListening()
    this.app.drain?.()
  }

  /** Closes every connection at once. */
  close(): void {
    this.stopListening()
    this.app.close()
  }

  private readonly countConnection = (_client: ClientResponse, change: number): void => {
    if (change > 0) this.settings.connections.connectionOpened()
    else this.settings.connections.connectionClosed()
  }

  private serve(app: UwsApp): void {
    app.any('/*', this.handleAny)
    app.get?.('/*', this.handleGet)
  }

  private readonly handleAny = (client: ClientResponse, request: ClientRequest): void => {
    this.handle(client, request, request.getCaseSensitiveMethod())
  }

  /** What most requests are: the binding need not be asked for the method. */
  private readonly handleGet = (client: ClientResponse, request: ClientRequest): void => {
    this.handle(client, request, 'GET')
  }

  private handle(client: ClientResponse, request: ClientRequest, method: string): void {
    const exchange = this.proxy.begin(client)
    try {
      const failure = this.receive(exchange, client, request, method)
      if (failure !== null) this.proxy.refuse(exchange, failure)
      else if (exchange.path === '*') this.proxy.answerDirectly(exchange, serverOptions)
      else this.proxy.run(exchange)
    } catch (error) {
      // Nothing may be thrown into the binding; whatever was wrong concerns this exchange only.
      this.proxy.pluginFailed(exchange, 'request', error)
    }
    this.proxy.handled(exchange)
  }

  /** Copies the request into the exchange; a failure says why it is refused. */
  private receive(exchange: Exchange, client: ClientResponse, request: ClientRequest, method: string): Failure | null {
    const { guard, known } = this
    const { listener, limits } = this.settings
    exchange.scheme = listener.tls === null ? 'http' : 'https'
    exchange.serverPort = this.port
    exchange.serverAddress = listener.host
    exchange.addresses = this.addresses
    if (client.peerPort !== undefined) exchange.clientPort = client.peerPort()
    const policy = this.policy()
    if (known.is(request, policy)) {
      known.tell(exchange)
      return null
    }
    const raw = request.getUrl()
    const query = request.getQuery() ?? ''
    exchange.method = method
    exchange.upstreamMethod = method
    exchange.isHead = method === 'HEAD'
    exchange.query = query
    exchange.upstreamQuery = query
    exchange.rawTarget = query === '' ? raw : `${raw}?${query}`
    exchange.path = raw
    exchange.upstreamPath = raw

    guard.begin(exchange.requestHeaders)
    this.binding.forEachHeader(request, guard.line)
    const framing = request.refusal?.() ?? guard.finish()
    // Set before any refusal: whether the connection can be kept depends on it.
    exchange.requestBodyLength = guard.bodyLength
    exchange.clientCloses = guard.closes
    exchange.hostHeader = guard.hostHeader
    if (framing !== null) return framing
    if (!isKnownMethod(method)) return failures.METHOD_NOT_SUPPORTED
    if (exchange.rawTarget.length > limits.maxTargetBytes) return failures.TARGET_TOO_LONG
    if (!isQuery(query)) return failures.BAD_TARGET
    // About the server, not about anything that has a route.
    if (exchange.rawTarget === '*' && method === 'OPTIONS') return null
    if (raw !== this.lastPath || policy !== this.lastPolicy) {
      // Until it is read, and if it is refused, `path` says nothing about any target.
      this.lastPolicy = null
      if (!canonicalPath(raw, policy, this.path)) return failures.BAD_TARGET
      this.lastPath = raw
      this.lastPolicy = policy
    }
    if (guard.upgrade !== '' && method === 'GET') return failures.UPGRADE_NOT_SUPPORTED
    exchange.path = this.path.match
    exchange.upstreamPath = this.path.forward
    if (guard.hostHeader !== this.lastHostHeader) {
      this.lastHostHeader = guard.hostHeader
      this.lastHost = hostName(guard.hostHeader)
    }
    exchange.host = this.lastHost
    if (listener.proxyProtocol === true && !this.applyProxyHeader(exchange, client)) return failures.NO_PROXY_HEADER
    if (guard.sawForwarded) this.applyForwarded(exchange, exchange.peerAddress)
    // What forwarding fields mean depends on the peer.
    else if (request.isLasting === true && listener.proxyProtocol !== true) known.learn(request, policy, exchange)
    return null
  }

  /** The client that a PROXY header names, from peers that may name one; false if the header is missing. */
  private applyProxyHeader(exchange: Exchange, client: ClientResponse): boolean {
    const named = this.addresses.text(client.getProxiedRemoteAddress())
    if (named === '') return false
    if (this.proxies.isOff || this.proxies.trusts(exchange.peerAddress)) {
      // Whoever forwards bytes is no hop of HTTP: the client is the peer.
      exchange.clientAddress = named
      exchange.peerAddress = named
    }
    return true
  }

  /** Forwarding headers count when the peer is a trusted proxy; from anybody else they say what the client likes to be true. */
  private applyForwarded(exchange: Exchange, peer: string): void {
    const headers = exchange.requestHeaders
    const proxies = this.proxies
    if (proxies.trusts(peer)) {
      const lines = headers.getAll(proxies.header)
      if (lines.length === 0) return
      exchange.clientAddress = proxies.clientBehind(peer, lines)
      // The port is that of the proxy.
      exchange.clientPort = 0
      return
    }
    headers.remove('x-forwarded-proto')
    headers.remove('x-forwarded-host')
    headers.remove('x-forwarded-port')
    // With trusted proxies configured, a chain that comes from elsewhere is worth nothing; without any, it is passed on and extended.
    if (!proxies.isOff) headers.remove('x-forwarded-for')
  }
}

/** An app with the certificates of the listener, and no routes. */
export function createApp(binding: Binding, listener: ListenerConfig): UwsApp {
  const tls = listener.tls
  if (tls === null) return binding.createApp(null)
  return withFiles(tls.byServerName, (files) => {
    const first = files[0]
    const standard = tls.certFile === '' && first !== undefined ? first : { key_file_name: tls.keyFile, cert_file_name: tls.certFile }
    const app = binding.createApp(standard)
    for (const [index, { names }] of tls.byServerName.entries()) {
      const own = files[index]
      if (own !== undefined) for (const name of names) app.addServerName(name, own)
    }
    return app
  })
}

/** The binding reads files only: certificates from the configuration are lent to it as such. */
function withFiles<T>(certificates: readonly NamedCertificate[], use: (files: readonly TlsFiles[]) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-tls-'))
  try {
    const files = certificates.map((certificate, index) => {
      const pair = { key_file_name: join(folder, `${index}.key`), cert_file_name: join(folder, `${index}.crt`) }
      writeFileSync(pair.key_file_name, certificate.key, { mode: 0o600 })
      writeFileSync(pair.cert_file_name, certificate.cert, { mode: 0o600 })
      return pair
    })
    return use(files)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function byName(certificates: readonly NamedCertificate[]): Map<string, NamedCertificate> {
  return new Map(certificates.flatMap((certificate) => certificate.names.map((name) => [name, certificate] as const)))
}

function hostName(header: string): string {
  let lower = ''
  const colon = header.charCodeAt(0) === 91 ? header.indexOf(']:') + 1 : header.indexOf(':')
  let name = colon > 0 ? header.slice(0, colon) : header
  // The root's dot says nothing: `a.test.` is `a.test`.
  if (name.length > 1 && name.endsWith('.')) name = name.slice(0, -1)
  for (let index = 0; index < name.length; index++) {
    const code = name.charCodeAt(index)
    if (code >= 65 && code <= 90) {
      lower = name.toLowerCase()
      return lower
    }
  }
  return name
}

/** Queries pass through untouched; what would split or end the request line does not. */
function isQuery(query: string): boolean {
  for (let index = 0; index < query.length; index++) {
    const code = query.charCodeAt(index)
    if (code <= 32 || code >= 127 || code === 35 /* # */) return false
  }
  return true
}

function isKnownMethod(method: string): boolean {
  switch (method) {
    case 'GET':
    case 'HEAD':
    case 'POST':
    case 'PUT':
    case 'DELETE':
    case 'PATCH':
    case 'OPTIONS':
    case 'TRACE':
    case 'PURGE':
      return true
  }
  return false
}
