/**
 * gzip: compresses answers for clients that accept it.
 *
 * Runs on workers in encodingFilter, after every plugin that changes headers or bodies. State: one zlib stream per compressed answer,
 * on the thread pool of libuv; while it is behind, the upstream is not read. Skipped: statuses other than 200, 403 and 404, answers
 * that are already encoded or forbid it (`no-transform`), HEAD.
 */
import { constants, createGzip, type Gzip } from 'node:zlib'
import { type BodyTransform, definePlugin, type Exchange, type ResponseView, type Static, Type } from './plugin.js'

const schema = Type.Object({
  types: Type.Union([Type.Array(Type.String({ minLength: 1 }), { minItems: 1 }), Type.Literal('*')], {
    description: 'Media types to compress, or `*` for all. Answers without Content-Type are never compressed.',
    default: ['text/html'],
  }),
  min_length: Type.Integer({
    description: 'Bodies that are known to be shorter, in bytes, are not compressed.',
    default: 20,
    minimum: 1,
  }),
  comp_level: Type.Integer({ description: 'Effort from 1 (fast) to 9 (small).', default: 1, minimum: 1, maximum: 9 }),
  http_version: Type.Union([Type.Literal(1.1), Type.Literal(1.0)], {
    description:
      'Lowest HTTP version of requests whose answers are compressed. The gateway accepts none below 1.1, so both values mean the same.',
    default: 1.1,
  }),
  buffers: Type.Object(
    {
      number: Type.Integer({
        description: 'Buffers that are filled before compressed bytes are sent on.',
        default: 32,
        minimum: 1,
        maximum: 1024,
      }),
      size: Type.Integer({ description: 'Bytes of one buffer.', default: 4096, minimum: 64, maximum: 1_048_576 }),
    },
    {
      description:
        'How much compressed output is gathered before it is sent. Bodies of unknown length are sent on after every piece, so that streams stay live.',
      default: {},
    },
  ),
  vary: Type.Boolean({ description: 'Add `Vary: Accept-Encoding` to answers that could be compressed.', default: false }),
})

type Conf = Static<typeof schema>

interface Prepared {
  /** Null = all. */
  readonly types: string[] | null
  readonly minLength: number
  readonly level: number
  readonly bufferNumber: number
  readonly bufferSize: number
  readonly vary: boolean
}

export const gzip = definePlugin<Conf, Prepared>({
  name: 'gzip',
  priority: 995,
  description: 'Compresses answers with gzip for clients that accept it.',
  schema,
  prepare: (conf) => ({
    types: conf.types === '*' ? null : conf.types.map((type) => type.toLowerCase()),
    minLength: conf.min_length,
    level: conf.comp_level,
    bufferNumber: conf.buffers.number,
    bufferSize: conf.buffers.size,
    vary: conf.vary,
  }),
  link: (prepared) => {
    const types = prepared.types === null ? null : new Set(prepared.types)
    return {
      encodingFilter(exchange) {
        const { response } = exchange
        if (!isCompressible(response, types, prepared.minLength)) return
        if (prepared.vary) addVary(response)
        if (exchange.method === 'HEAD' || !acceptsGzip(exchange)) return
        const isLive = response.bodyLength < 0
        response.headers.set('Content-Encoding', 'gzip')
        response.headers.remove('accept-ranges')
        weakenEtag(response)
        response.transformBody(new GzipTransform(prepared, isLive))
      },
    }
  },
})

function isCompressible(response: ResponseView, types: ReadonlySet<string> | null, minLength: number): boolean {
  const { status, headers, bodyLength } = response
  if (status !== 200 && status !== 403 && status !== 404) return false
  if (bodyLength >= 0 && bodyLength < minLength) return false
  const contentType = headers.get('content-type')
  if (contentType === undefined || headers.has('content-encoding')) return false
  if (types !== null && !types.has((contentType.split(';', 1)[0] ?? '').trim().toLowerCase())) return false
  return !headers.getAll('cache-control').some((value) => /(?:^|[\s,])no-transform(?:$|[\s,])/i.test(value))
}

/** True when a field names gzip and does not forbid it with `q=0`. */
function acceptsGzip(exchange: Exchange): boolean {
  for (const value of exchange.requestHeaders.getAll('accept-encoding'))
    for (const item of value.split(',')) {
      const [coding = '', ...parameters] = item.split(';')
      if (!/^(?:x-)?gzip$/i.test(coding.trim())) continue
      return !parameters.some((parameter) => /^\s*q\s*=\s*0(?:\.0*)?\s*$/i.test(parameter))
    }
  return false
}

function addVary(response: ResponseView): void {
  const names = response.headers.getAll('vary').flatMap((value) => value.split(',').map((name) => name.trim().toLowerCase()))
  if (!names.includes('accept-encoding') && !names.includes('*')) response.headers.add('Vary', 'Accept-Encoding')
}

/** The compressed form is another representation: equal in meaning, not in bytes. */
function weakenEtag(response: ResponseView): void {
  const etag = response.headers.get('etag')
  if (etag?.startsWith('"')) response.headers.set('ETag', `W/${etag}`)
}

type Emit = Parameters<BodyTransform['push']>[2]

/**
 * One compressed answer. Output gathers up to `number × size` bytes; a live body is flushed and sent on after every piece. If zlib
 * fails, the coded body ends short, which a client notices by its missing trailer.
 */
class GzipTransform implements BodyTransform {
  private readonly zlib: Gzip
  private readonly gatherBytes: number
  private gathered: Buffer[] = []
  private gatheredBytes = 0
  private emit: Emit | null = null
  /** Callers of push that wait for zlib, in order of their chunks. */
  private readonly waiting: (() => void)[] = []
  private ended = false

  constructor(
    options: Prepared,
    private readonly isLive: boolean,
  ) {
    this.zlib = createGzip({ level: options.level, chunkSize: options.bufferSize })
    this.gatherBytes = options.bufferNumber * options.bufferSize
    this.zlib.on('data', (bytes: Buffer) => this.gather(bytes))
    this.zlib.on('end', () => this.send(true))
    this.zlib.on('error', () => {
      this.send(true)
      this.release()
    })
  }

  push(chunk: Uint8Array, isLast: boolean, emit: Emit): undefined | Promise<void> {
    this.emit = emit
    // zlib works later, on another thread, but the chunk is only lent for this call.
    if (isLast) this.zlib.end(Buffer.from(chunk))
    if (isLast || this.ended || chunk.length === 0) return undefined
    this.zlib.write(Buffer.from(chunk), () => {
      if (this.isLive && !this.ended) this.zlib.flush(constants.Z_SYNC_FLUSH, () => this.worked())
      else this.worked()
    })
    return new Promise((resolve) => {
      this.waiting.push(resolve)
    })
  }

  destroy(): void {
    this.ended = true
    this.emit = null
    this.gathered = []
    this.zlib.destroy()
    this.release()
  }

  private worked(): void {
    if (this.isLive) this.send(false)
    this.waiting.shift()?.()
  }

  private release(): void {
    for (const resolve of this.waiting.splice(0)) resolve()
  }

  private gather(bytes: Buffer): void {
    this.gathered.push(bytes)
    this.gatheredBytes += bytes.length
    const isIdle = this.isLive && this.waiting.length === 0
    if (isIdle || this.gatheredBytes >= this.gatherBytes) this.send(false)
  }

  private send(isLast: boolean): void {
    if (this.ended || this.emit === null || (this.gatheredBytes === 0 && !isLast)) return
    this.ended = isLast
    const bytes = Buffer.concat(this.gathered)
    this.gathered = []
    this.gatheredBytes = 0
    this.emit(bytes, isLast)
  }
}
