/**
 * An in-memory Exchange for plugin unit tests: a request is described in one object, `respond` stands for the upstream or the
 * gateway, and `body()` runs the arranged body changes in their order, as the response writer does.
 *
 *   const exchange = fakeExchange({ method: 'GET', target: '/a%20b?x=1', headers: { 'X-A': '1' } })
 *   exchange.respond({ status: 200, headers: { ETag: '"1"' }, body: 'hello' })
 *   instance.headerFilter?.(exchange)
 *   const sent = await exchange.body()
 */
import { HeaderList } from '../../src/base/headers.js'
import { identityOf, setIdentityHeaders } from '../../src/dataplane/identity-headers.js'
import type {
  BodyTransform,
  Consumer,
  Credential,
  Exchange,
  NodeGate,
  ResponseView,
  RouteInfo,
  SlowWatch,
} from '../../src/plugins/plugin.js'

export type FakeHeaders = { readonly [name: string]: string | readonly string[] }

export interface FakeRequest {
  readonly method?: string
  readonly scheme?: 'http' | 'https'
  /** The Host field as received; `host` is derived from it. */
  readonly host?: string
  readonly serverPort?: number
  /** Path and query as on the wire; path, query and upstream values are derived from it. */
  readonly target?: string
  readonly headers?: FakeHeaders
  readonly clientAddress?: string
  readonly clientPort?: number
  readonly peerAddress?: string
  readonly bodyLength?: number
  /** The request body; sets its length too. */
  readonly requestBody?: string | Buffer
  readonly route?: Partial<RouteInfo> | null
  readonly uriParams?: { readonly [name: string]: string }
  readonly consumerName?: string
  readonly consumerGroupId?: string
  /** Authenticated by something that runs before the plugin. */
  readonly consumer?: Consumer
  readonly credential?: Credential
  readonly requestId?: string
  readonly startedAtMs?: number
}

export interface FakeAnswer {
  readonly status?: number
  readonly headers?: FakeHeaders
  readonly source?: 'upstream' | 'gateway'
  /** Whole body, or the chunks in which it arrives. */
  readonly body?: string | Uint8Array | readonly (string | Uint8Array)[]
  /** The body's length is not announced: `bodyLength` is -1. */
  readonly chunked?: boolean
}

export function fakeExchange(request: FakeRequest = {}): FakeExchange {
  return new FakeExchange(request)
}

export class FakeExchange implements Exchange {
  readonly method: string
  readonly scheme: 'http' | 'https'
  readonly host: string
  readonly hostHeader: string
  readonly serverPort: number
  readonly path: string
  readonly query: string
  readonly rawTarget: string
  readonly requestHeaders: HeaderList
  clientAddress: string
  clientPort: number
  readonly peerAddress: string
  requestBodyLength: number
  maxRequestBodyBytes = 0
  /** What the upstream would get. */
  requestBody: Buffer
  upstreamPath: string
  upstreamQuery: string
  upstreamMethod: string
  upstreamHost = ''
  upstreamIndex = -1
  readonly route: RouteInfo | null
  readonly uriParams: ReadonlyMap<string, string> | null
  consumerName: string
  consumerGroupId: string
  credentialId = ''
  consumer: Consumer | null = null
  credential: Credential | null = null
  tokenClaims: Exchange['tokenClaims'] = null
  requestId: string
  aborted = false
  response: FakeResponse
  readonly startedAtMs: number
  elapsed = 0
  upstreamAddress = ''
  upstreamStatus = ''
  upstreamLastStatus = 0
  upstreamFailed = false
  upstreamKey = ''
  nodeGate: NodeGate | null = null
  slowWatch: SlowWatch | null = null
  slowWatchMs = 0
  upstreamResponseMs = -1
  upstreamStandstillMs = 0
  bodyBytesSent = 0
  private readonly slots: unknown[] = []

  constructor(request: FakeRequest) {
    const target = request.target ?? '/'
    const mark = target.indexOf('?')
    this.method = request.method ?? 'GET'
    this.scheme = request.scheme ?? 'http'
    this.hostHeader = request.host ?? 'example.test'
    this.host = this.hostHeader.replace(/:\d+$/, '').toLowerCase()
    this.serverPort = request.serverPort ?? (this.scheme === 'https' ? 9443 : 9080)
    this.rawTarget = target
    this.upstreamPath = mark < 0 ? target : target.slice(0, mark)
    this.path = decodePath(this.upstreamPath)
    this.query = mark < 0 ? '' : target.slice(mark + 1)
    this.upstreamQuery = this.query
    this.upstreamMethod = this.method
    this.requestHeaders = headerList({ Host: this.hostHeader, ...request.headers })
    this.clientAddress = request.clientAddress ?? '127.0.0.1'
    this.clientPort = request.clientPort ?? 50000
    this.peerAddress = request.peerAddress ?? this.clientAddress
    this.requestBody = Buffer.from(request.requestBody ?? '')
    this.requestBodyLength = request.bodyLength ?? this.requestBody.length
    this.route = request.route === null ? null : { id: '1', name: '', serviceId: '', serviceName: '', labels: {}, ...request.route }
    this.uriParams = request.uriParams === undefined ? null : new Map(Object.entries(request.uriParams))
    this.consumerName = request.consumerName ?? ''
    this.consumerGroupId = request.consumerGroupId ?? ''
    this.requestId = request.requestId ?? ''
    this.startedAtMs = request.startedAtMs ?? 1_700_000_000_000
    this.response = new FakeResponse({})
    if (request.consumer !== undefined) this.authenticate(request.consumer, request.credential ?? null)
  }

  elapsedMs(): number {
    return this.elapsed
  }

  authenticate(consumer: Consumer | null, credential: Credential | null, identifier = credential?.id ?? ''): void {
    this.consumer = consumer
    this.credential = credential
    this.consumerName = consumer?.username ?? ''
    this.consumerGroupId = consumer?.groupId ?? ''
    this.credentialId = identifier
    setIdentityHeaders(this.requestHeaders, identityOf(consumer, identifier))
  }

  readRequestBody(maxBytes: number): Promise<Buffer | null> {
    return Promise.resolve(this.requestBody.length > maxBytes ? null : this.requestBody)
  }

  replaceRequestBody(body: Buffer): void {
    this.requestBody = body
    this.requestBodyLength = body.length
  }

  getSlot(slot: number): unknown {
    return this.slots[slot]
  }

  setSlot(slot: number, value: unknown): void {
    this.slots[slot] = value
  }

  /** The answer that the response phases will see. */
  respond(answer: FakeAnswer): this {
    this.response = new FakeResponse(answer)
    return this
  }

  /** Runs the arranged body changes; the bytes that the client gets. */
  body(): Promise<Buffer> {
    return this.response.deliver()
  }
}

type CollectChange = Parameters<ResponseView['collectBody']>[1]

export class FakeResponse implements ResponseView {
  status: number
  readonly headers: HeaderList
  readonly source: 'upstream' | 'gateway'
  bodyLength: number
  private readonly chunks: readonly Buffer[]
  private replacement: Buffer | null = null
  private collectMax = Number.POSITIVE_INFINITY
  private changes: CollectChange[] = []
  private readonly transforms: BodyTransform[] = []

  constructor(answer: FakeAnswer) {
    this.status = answer.status ?? 200
    this.headers = headerList(answer.headers ?? {})
    this.source = answer.source ?? 'upstream'
    const body = answer.body ?? ''
    const parts = typeof body === 'string' || body instanceof Uint8Array ? [body] : body
    this.chunks = parts.map((part) => Buffer.from(part))
    this.bodyLength = answer.chunked === true ? -1 : this.chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  }

  /** True when a plugin arranged a change of the body. */
  get bodyChanged(): boolean {
    return this.replacement !== null || this.changes.length > 0 || this.transforms.length > 0
  }

  replaceBody(body: string | Uint8Array): void {
    this.replacement = Buffer.from(body)
    this.bodyLength = this.replacement.length
    this.changes = []
    this.forgetEntity()
  }

  collectBody(maxBytes: number, change: CollectChange): void {
    this.collectMax = Math.min(this.collectMax, maxBytes)
    this.changes.push(change)
    this.bodyLength = -1
    this.forgetEntity()
  }

  transformBody(transform: BodyTransform): void {
    this.transforms.push(transform)
    this.bodyLength = -1
  }

  /** Replaced, then collected, then transformed; rejects when a change throws or a collected body is larger than its bound. */
  async deliver(): Promise<Buffer> {
    let chunks: readonly Buffer[] = this.replacement === null ? this.chunks : [this.replacement]
    if (this.changes.length > 0) {
      let whole = Buffer.concat(chunks)
      if (whole.length > this.collectMax) throw new Error('RESPONSE_TOO_LARGE')
      for (const change of this.changes) whole = Buffer.from(await change(whole))
      chunks = [whole]
    }
    for (const transform of this.transforms) chunks = await stream(transform, chunks)
    return Buffer.concat(chunks)
  }

  private forgetEntity(): void {
    this.headers.remove('content-encoding')
    this.headers.remove('etag')
    this.headers.remove('last-modified')
  }
}

/** Feeds the chunks one by one, each in a buffer that is overwritten after the call, as socket reads are. */
async function stream(transform: BodyTransform, chunks: readonly Buffer[]): Promise<Buffer[]> {
  const out: Buffer[] = []
  let ended = false
  let finish = (): void => undefined
  const finished = new Promise<void>((resolve) => {
    finish = resolve
  })
  const emit = (bytes: Uint8Array, isLast: boolean): void => {
    if (ended) throw new Error('the transform emitted after its last chunk')
    out.push(Buffer.from(bytes))
    if (!isLast) return
    ended = true
    finish()
  }
  const input = chunks.length === 0 ? [Buffer.alloc(0)] : chunks
  for (const [index, chunk] of input.entries()) {
    const lent = Buffer.from(chunk)
    const wait = transform.push(lent, index === input.length - 1, emit)
    lent.fill(0)
    await wait
  }
  await finished
  return out
}

export function headerList(fields: FakeHeaders): HeaderList {
  const list = new HeaderList()
  for (const [name, value] of Object.entries(fields)) {
    if (typeof value === 'string') list.add(name, value)
    else for (const line of value) list.add(name, line)
  }
  return list
}

/** Canonical form for tests: percent-decoded once; `%2F` and `%25` stay, as the default path policy keeps them. */
function decodePath(path: string): string {
  return path.replace(/(?:%[0-9a-f]{2})+/gi, (run) =>
    decodeURIComponent(run.replace(/%(2f|25)/gi, (_all, code: string) => `%25${code.toUpperCase()}`)),
  )
}
