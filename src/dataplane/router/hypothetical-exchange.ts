/** A request that nobody sent, for explaining what would happen to it. It has no response. */
import { HeaderList } from '../../base/headers.js'
import type { Exchange, ResponseView } from '../../plugins/plugin.js'

export interface HypotheticalRequest {
  readonly method: string
  /** Host field, port included if there is one. */
  readonly host: string
  readonly headers: Readonly<Record<string, string>>
  readonly remoteAddress: string
  readonly scheme: 'http' | 'https'
  /** Canonical path, its wire form, and the query without `?`. */
  readonly path: string
  readonly wirePath: string
  readonly query: string
}

export class HypotheticalExchange implements Exchange {
  readonly method: string
  readonly scheme: 'http' | 'https'
  readonly host: string
  readonly hostHeader: string
  readonly serverPort = 0
  readonly path: string
  readonly query: string
  readonly rawTarget: string
  readonly requestHeaders = new HeaderList()
  clientAddress: string
  clientPort = 0
  readonly peerAddress: string
  readonly requestBodyLength = 0
  maxRequestBodyBytes = 0
  upstreamPath: string
  upstreamQuery: string
  upstreamMethod: string
  upstreamHost = ''
  upstreamIndex = -1
  readonly route = null
  uriParams: ReadonlyMap<string, string> | null = null
  readonly consumerName = ''
  readonly consumerGroupId = ''
  readonly credentialId = ''
  readonly consumer = null
  readonly credential = null
  tokenClaims = null
  requestId = ''
  readonly aborted = false
  readonly response: ResponseView = new NoResponse()
  readonly startedAtMs = 0
  readonly upstreamAddress = ''
  readonly upstreamStatus = ''
  readonly upstreamLastStatus = 0
  readonly upstreamFailed = false
  readonly upstreamKey = ''
  readonly nodeGate = null
  readonly slowWatch = null
  readonly slowWatchMs = 0
  readonly upstreamResponseMs = -1
  readonly upstreamStandstillMs = 0
  readonly bodyBytesSent = 0

  constructor(request: HypotheticalRequest) {
    this.method = request.method
    this.scheme = request.scheme
    this.hostHeader = request.host
    this.host = request.host.toLowerCase().replace(/:\d*$/, '')
    this.path = request.path
    this.query = request.query
    this.rawTarget = request.query === '' ? request.wirePath : `${request.wirePath}?${request.query}`
    this.clientAddress = request.remoteAddress
    this.peerAddress = request.remoteAddress
    this.upstreamPath = request.wirePath
    this.upstreamQuery = request.query
    this.upstreamMethod = request.method
    for (const [name, value] of Object.entries(request.headers)) this.requestHeaders.add(name, value)
  }

  elapsedMs(): number {
    return 0
  }

  authenticate(): void {
    throw new Error('an explained request runs no plugins')
  }

  readRequestBody(): Promise<Buffer | null> {
    throw new Error('an explained request has no body')
  }

  replaceRequestBody(): void {
    throw new Error('an explained request has no body')
  }

  getSlot(): unknown {
    return undefined
  }

  setSlot(): void {
    throw new Error('an explained request runs no plugins')
  }
}

class NoResponse implements ResponseView {
  status = 0
  readonly headers = new HeaderList()
  readonly source = 'gateway'
  readonly bodyLength = 0

  replaceBody(): void {
    throw new Error('an explained request has no response')
  }

  collectBody(): void {
    throw new Error('an explained request has no response')
  }

  transformBody(): void {
    throw new Error('an explained request has no response')
  }
}
