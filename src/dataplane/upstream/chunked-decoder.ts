/**
 * Strict incremental decoder of chunked bodies (RFC 9112 §7.1) from an upstream or a client.
 *
 * Feeds on slices of the read buffer; reports runs of body bytes in place, copying nothing. Chunk extensions are skipped up to a
 * bound; trailers are checked and dropped (the binding cannot send them). LF without CR, missing CRLF behind data, sizes beyond
 * 2^48, trailers that are no fields and everything else odd is an error.
 */
import { isTokenByte } from './response-head.js'

enum State {
  Size = 0,
  Extension = 1,
  SizeLf = 2,
  Data = 3,
  DataCr = 4,
  DataLf = 5,
  TrailerStart = 6,
  TrailerName = 7,
  TrailerValue = 8,
  TrailerLf = 9,
  EndLf = 10,
  Done = 11,
  /** Blanks behind a size: padding, or the way to an extension. */
  SizeBlank = 12,
}

const SEMICOLON = 59
const EXTENSION_BYTES_MAX = 4096
const TRAILER_BYTES_MAX = 16384
const SIZE_DIGITS_MAX = 12

export type BodyRun = (start: number, end: number) => void

export class ChunkedDecoder {
  private state: State = State.Size
  private remaining = 0
  private digits = 0
  private overhead = 0
  /** What is wrong, after `decode` returned -1. */
  problem = ''

  /** `allowsPadding`: blanks behind a size without an extension, as some servers write; two readers of a request may not agree on them. */
  constructor(private readonly allowsPadding = true) {}

  reset(): void {
    this.state = State.Size
    this.remaining = 0
    this.digits = 0
    this.overhead = 0
    this.problem = ''
  }

  get isDone(): boolean {
    return this.state === State.Done
  }

  /**
   * Consumes bytes in [start, end), calling `run` for each stretch of body. Returns the index behind the last byte consumed (less
   * than `end` only when the body is complete), or -1 on an error.
   */
  decode(bytes: Buffer, start: number, end: number, run: BodyRun): number {
    let index = start
    while (index < end) {
      if (this.state === State.Data) {
        const length = Math.min(this.remaining, end - index)
        run(index, index + length)
        index += length
        this.remaining -= length
        if (this.remaining === 0) this.state = State.DataCr
        continue
      }
      const byte = bytes[index++] as number
      switch (this.state) {
        case State.Size: {
          const digit = hexDigit(byte)
          if (digit >= 0) {
            if (++this.digits > SIZE_DIGITS_MAX) return this.fail('chunk size too large')
            this.remaining = this.remaining * 16 + digit
          } else if (this.digits === 0) return this.fail('chunk size missing')
          else if (byte === 13) this.state = State.SizeLf
          else if (byte === SEMICOLON || byte === 32 || byte === 9) {
            this.overhead = 0
            this.state = byte === SEMICOLON ? State.Extension : State.SizeBlank
          } else return this.fail('malformed chunk size')
          break
        }
        case State.SizeBlank:
          if (byte === 13 && this.allowsPadding) this.state = State.SizeLf
          else if (byte === SEMICOLON) this.state = State.Extension
          else if (byte !== 32 && byte !== 9) return this.fail('malformed chunk size')
          else if (++this.overhead > EXTENSION_BYTES_MAX) return this.fail('chunk extension too long')
          break
        case State.Extension:
          if (byte === 13) this.state = State.SizeLf
          else if ((byte < 32 && byte !== 9) || byte === 127) return this.fail('control byte in a chunk extension')
          else if (++this.overhead > EXTENSION_BYTES_MAX) return this.fail('chunk extension too long')
          break
        case State.SizeLf:
          if (byte !== 10) return this.fail('chunk size line not ended by CRLF')
          this.overhead = 0
          this.state = this.remaining === 0 ? State.TrailerStart : State.Data
          break
        case State.DataCr:
          if (byte !== 13) return this.fail('chunk data longer than its size')
          this.state = State.DataLf
          break
        case State.DataLf:
          if (byte !== 10) return this.fail('chunk data not ended by CRLF')
          this.digits = 0
          this.state = State.Size
          break
        case State.TrailerStart:
          if (byte === 13) {
            this.state = State.EndLf
            break
          }
          if (isTokenByte[byte] !== 1) return this.fail('malformed trailer name')
          if (++this.overhead > TRAILER_BYTES_MAX) return this.fail('trailers too long')
          this.state = State.TrailerName
          break
        case State.TrailerName:
          if (++this.overhead > TRAILER_BYTES_MAX) return this.fail('trailers too long')
          if (byte === 58) this.state = State.TrailerValue
          else if (isTokenByte[byte] !== 1) return this.fail('malformed trailer name')
          break
        case State.TrailerValue:
          if (++this.overhead > TRAILER_BYTES_MAX) return this.fail('trailers too long')
          if (byte === 13) this.state = State.TrailerLf
          else if ((byte < 32 && byte !== 9) || byte === 127) return this.fail('control byte in a trailer')
          break
        case State.TrailerLf:
          if (byte !== 10) return this.fail('trailer not ended by CRLF')
          this.state = State.TrailerStart
          break
        case State.EndLf:
          if (byte !== 10) return this.fail('chunked body not ended by CRLF')
          this.state = State.Done
          return index
        default:
          return this.fail('bytes behind the last chunk')
      }
    }
    return index
  }

  private fail(problem: string): -1 {
    this.problem = problem
    return -1
  }
}

function hexDigit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48
  const lower = byte | 0x20
  return lower >= 97 && lower <= 102 ? lower - 87 : -1
}
