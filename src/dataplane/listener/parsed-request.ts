/** A request of a `tcp` listener as its parser read it. */
import type { Failure } from '../../base/errors.js'
import type { ClientRequest } from './binding.js'

/** A request head that was read, or why it could not be. Immutable: the same object may stand for many requests. */
export class ParsedRequest implements ClientRequest {
  readonly isLasting = true

  constructor(
    readonly method: string,
    private readonly path: string,
    private readonly query: string,
    /** In lower case. */
    private readonly names: readonly string[],
    private readonly values: readonly string[],
    /** What the framing of it says; after a failure the connection ends. */
    readonly failure: Failure | null,
    /** Bytes of body that follow: -1 = chunked. */
    readonly bodyLength: number,
    /** The client wants to use the connection again. */
    readonly keepsAlive: boolean,
    readonly isHttp10: boolean,
    readonly expectsContinue: boolean,
  ) {}

  /** Bytes that are no request. */
  static refused(failure: Failure): ParsedRequest {
    return new ParsedRequest('-', '', '', [], [], failure, 0, false, false, false)
  }

  getUrl(): string {
    return this.path
  }

  getQuery(): string {
    return this.query
  }

  getCaseSensitiveMethod(): string {
    return this.method
  }

  forEachHeader(callback: (name: string, value: string) => void): void {
    const { names, values } = this
    for (let index = 0; index < names.length; index++) callback(names[index] as string, values[index] as string)
  }

  refusal(): Failure | null {
    return this.failure
  }
}
