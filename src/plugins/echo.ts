/**
 * echo: replaces the body of answers, or puts text around it, and sets headers.
 *
 * Runs on workers in headerFilter, on answers of the upstream and of the gateway. State: one transform per answer. Text is not put
 * around a body in a content coding (gzip, …), because the result could not be decoded.
 */
import { type BodyTransform, definePlugin, type Exchange, fieldNameProblem, fieldValue, type Static, Type } from './plugin.js'

const schema = Type.Object({
  before_body: Type.Optional(Type.String({ description: 'Text to send in front of the body.' })),
  body: Type.Optional(Type.String({ description: 'Text that replaces the body.' })),
  after_body: Type.Optional(Type.String({ description: 'Text to send behind the body.' })),
  headers: Type.Optional(
    Type.Record(Type.String(), Type.Union([Type.String(), Type.Number()]), { description: 'Headers to set in the answer.' }),
  ),
})

type Conf = Static<typeof schema>

interface Prepared {
  readonly before: string
  readonly body: string | null
  readonly after: string
  readonly headers: readonly (readonly [string, string])[]
}

export const echo = definePlugin<Conf, Prepared>({
  name: 'echo',
  priority: 412,
  description: 'Replaces or surrounds the body of answers with fixed text; meant for trying things out.',
  schema,
  check: (conf) => {
    const problems = Object.keys(conf.headers ?? {}).flatMap((name) => {
      const message = fieldNameProblem(name)
      return message === null ? [] : [{ path: `headers.${name}`, message }]
    })
    if (conf.before_body === undefined && conf.body === undefined && conf.after_body === undefined)
      problems.push({ path: '', message: 'nothing to send; expected at least one of before_body, body and after_body' })
    return problems
  },
  prepare: (conf) => ({
    before: conf.before_body ?? '',
    body: conf.body ?? null,
    after: conf.after_body ?? '',
    headers: Object.entries(conf.headers ?? {}).map(([name, value]) => [name, fieldValue(String(value))] as const),
  }),
  link: ({ before, body, after, headers }) => {
    const whole = body === null ? null : Buffer.from(before + body + after)
    const prefix = Buffer.from(before)
    const suffix = Buffer.from(after)
    return {
      headerFilter(exchange) {
        const { response } = exchange
        if (whole !== null) response.replaceBody(whole)
        else surround(exchange, prefix, suffix)
        for (const [name, value] of headers) response.headers.set(name, value)
      },
    }
  },
})

function surround({ response }: Exchange, prefix: Buffer, suffix: Buffer): void {
  if (prefix.length === 0 && suffix.length === 0) return
  const coding = response.headers.get('content-encoding')
  if (coding !== undefined && coding.toLowerCase() !== 'identity') return
  response.headers.remove('etag')
  response.headers.remove('last-modified')
  response.transformBody(new Surround(prefix, suffix))
}

class Surround implements BodyTransform {
  private started = false

  constructor(
    private readonly prefix: Buffer,
    private readonly suffix: Buffer,
  ) {}

  push(chunk: Uint8Array, isLast: boolean, emit: (bytes: Uint8Array, isLast: boolean) => void): void {
    const parts: Uint8Array[] = this.started ? [chunk] : [this.prefix, chunk]
    this.started = true
    if (isLast) parts.push(this.suffix)
    // concat copies: the chunk is only lent for this call.
    emit(Buffer.concat(parts), isLast)
  }

  destroy(): void {
    this.started = true
  }
}
