/**
 * What the listener made of the last request that its parser may show it again: clients that keep their connection repeat themselves, and
 * the same bytes under the same rules for paths mean the same.
 */
import { HeaderList } from '../../base/headers.js'
import type { PathPolicy } from '../../schema/compiled.js'
import type { Exchange } from '../exchange.js'
import type { ClientRequest } from './binding.js'

export class KnownRequest {
  private request: ClientRequest | null = null
  /** One that came once: whether it comes again is to be seen. */
  private candidate: ClientRequest | null = null
  private policy: PathPolicy | null = null
  private readonly headers = new HeaderList()
  private method = ''
  private isHead = false
  private query = ''
  private rawTarget = ''
  private path = ''
  private upstreamPath = ''
  private bodyLength = 0
  private hostHeader = ''
  private host = ''

  is(request: ClientRequest, policy: PathPolicy): boolean {
    return this.request === request && this.policy === policy
  }

  /** Takes what an exchange says that was just filled from this request, if it is seen for the second time. */
  learn(request: ClientRequest, policy: PathPolicy, exchange: Exchange): void {
    if (this.candidate !== request) {
      this.candidate = request
      return
    }
    exchange.requestHeaders.origin = request
    this.request = request
    this.policy = policy
    this.headers.copyFrom(exchange.requestHeaders)
    this.method = exchange.method
    this.isHead = exchange.isHead
    this.query = exchange.query
    this.rawTarget = exchange.rawTarget
    this.path = exchange.path
    this.upstreamPath = exchange.upstreamPath
    this.bodyLength = exchange.requestBodyLength
    this.hostHeader = exchange.hostHeader
    this.host = exchange.host
  }

  /** Fills an exchange. */
  tell(exchange: Exchange): void {
    exchange.requestHeaders.copyFrom(this.headers)
    exchange.method = this.method
    exchange.upstreamMethod = this.method
    exchange.isHead = this.isHead
    exchange.query = this.query
    exchange.upstreamQuery = this.query
    exchange.rawTarget = this.rawTarget
    exchange.path = this.path
    exchange.upstreamPath = this.upstreamPath
    exchange.requestBodyLength = this.bodyLength
    exchange.hostHeader = this.hostHeader
    exchange.host = this.host
  }
}
