/** The answer of an exchange while plugins change it. */
import type { BodyTransform, ResponseView } from '../../plugins/plugin.js'
import { ResponseHeaders } from './response-headers.js'

export type CollectChange = (body: Buffer) => string | Uint8Array | Promise<string | Uint8Array>

/** Status, headers and body changes of the answer under construction. */
export class ResponseState implements ResponseView {
  status = 0
  readonly headers = new ResponseHeaders()
  source: 'upstream' | 'gateway' = 'gateway'
  bodyLength = -1
  replacement: string | Uint8Array | null = null
  collectMax = 0
  collect: CollectChange[] | null = null
  transforms: BodyTransform[] | null = null

  begin(): void {
    this.status = 0
    this.headers.reset()
    this.source = 'gateway'
    this.bodyLength = -1
    this.replacement = null
    this.collectMax = 0
    this.collect = null
    this.transforms = null
  }

  replaceBody(body: string | Uint8Array): void {
    this.replacement = body
    this.bodyLength = typeof body === 'string' ? Buffer.byteLength(body) : body.length
    this.collect = null
    this.dropBodyHeaders()
  }

  collectBody(maxBytes: number, change: CollectChange): void {
    this.collectMax = this.collect === null ? maxBytes : Math.min(this.collectMax, maxBytes)
    this.collect ??= []
    this.collect.push(change)
    this.bodyLength = -1
    this.dropBodyHeaders()
  }

  transformBody(transform: BodyTransform): void {
    this.transforms ??= []
    this.transforms.push(transform)
    this.bodyLength = -1
  }

  /** Validators and encodings of a body that is no longer sent. */
  private dropBodyHeaders(): void {
    this.headers.remove('content-encoding')
    this.headers.remove('etag')
    this.headers.remove('last-modified')
  }
}
