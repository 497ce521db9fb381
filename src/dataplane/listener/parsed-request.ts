/** A request of a `tcp` listener as its parser read it. */
import type { Failure } from '../../base/errors.js'
import type { ClientRequest } from './binding.js'
import { type FieldName, hostName } from './field-names.js'

/** The lines of a head, number 0 being the request line. Used again for a later head: good until the parser has read another. */
export class HeadLines {
  /** So many lines. */
  count = 0
  /** Where each ends, from the start of the head. */
  readonly ends: number[] = []
  /** Where the value of each begins. */
  readonly valueStarts: number[] = []
  readonly names: FieldName[] = []
  readonly values: string[] = []

  /** Begins with a request line that ends there. */
  begin(end: number): void {
    this.ends[0] = end
    this.valueStarts[0] = 0
    this.names[0] = hostName
    this.values[0] = ''
    this.count = 1
  }

  /** Begins with the first `count` lines of another head. */
  beginAs(other: HeadLines, count: number): void {
    for (let line = 0; line < count; line++) {
      this.ends[line] = other.ends[line] as number
      this.valueStarts[line] = other.valueStarts[line] as number
      this.names[line] = other.names[line] as FieldName
      this.values[line] = other.values[line] as string
    }
    this.count = count
  }

  add(name: FieldName, value: string, valueStart: number, end: number): void {
    const line = this.count++
    this.ends[line] = end
    this.valueStarts[line] = valueStart
    this.names[line] = name
    this.values[line] = value
  }
}

const noLines = new HeadLines()

/** A request head that was read, or why it could not be. Immutable but for its lines: the same object may stand for many requests. */
export class ParsedRequest implements ClientRequest {
  readonly isLasting = true

  constructor(
    readonly method: string,
    private readonly path: string,
    private readonly query: string,
    private readonly lines: HeadLines,
    /** Lines of fields end in front of this one. */
    private readonly fieldLines: number,
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
    return new ParsedRequest('-', '', '', noLines, 0, failure, 0, false, false, false)
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

  /** Only while the request is handled: later its lines may be those of another. */
  forEachHeader(callback: (name: string, value: string) => void): void {
    const { lines, fieldLines } = this
    for (let line = 1; line < fieldLines; line++) callback((lines.names[line] as FieldName).text, lines.values[line] as string)
  }

  refusal(): Failure | null {
    return this.failure
  }
}
