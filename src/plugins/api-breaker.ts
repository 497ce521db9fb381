/**
 * api-breaker: the breaker of the reference gateway, count for count. Failures are counted by host and path; every `failures` of them
 * break that path for 2, 4, 8, … seconds; `successes` healthy answers in a row forget everything. There is no half-open state, and
 * failures need not be consecutive: `circuit-breaker` is what new configurations want.
 *
 * Runs on workers: access looks, log counts. State: shared/path-breakers, one for all threads, kept over reloads.
 */
import {
  definePlugin,
  type Exchange,
  type LinkKit,
  type PathBreakerSettings,
  type PathBreakers,
  type PluginInstance,
  type Reply,
  type Static,
  type Template,
  Type,
  templateProblem,
} from './plugin.js'

/** The cells count so far. */
const COUNT_MAX = 1000

const statuses = (minimum: number, maximum: number, fallback: number, description: string) =>
  Type.Array(Type.Integer({ minimum, maximum }), { minItems: 1, uniqueItems: true, default: [fallback], description })

const schema = Type.Object({
  break_response_code: Type.Integer({ minimum: 200, maximum: 599, description: 'Status of answers while a path is broken.' }),
  break_response_body: Type.Optional(Type.String({ description: 'Their body.' })),
  break_response_headers: Type.Optional(
    Type.Array(
      Type.Object({
        key: Type.String({ minLength: 1, description: 'Name.' }),
        value: Type.String({ minLength: 1, description: 'Value; may hold `$variables`.' }),
      }),
      { description: 'Their headers; sent only with `break_response_body`, as the reference gateway does.' },
    ),
  ),
  max_breaker_sec: Type.Integer({ minimum: 3, maximum: 31_536_000, default: 300, description: 'Longest break, seconds.' }),
  unhealthy: Type.Object(
    {
      http_statuses: statuses(500, 599, 500, 'Statuses that count as failures.'),
      failures: Type.Integer({ minimum: 1, maximum: COUNT_MAX, default: 3, description: 'Failures that break the path.' }),
    },
    { default: {}, description: 'When a path is broken.' },
  ),
  healthy: Type.Object(
    {
      http_statuses: statuses(200, 499, 200, 'Statuses that count as successes.'),
      successes: Type.Integer({ minimum: 1, maximum: COUNT_MAX, default: 3, description: 'Successes that forget all failures.' }),
    },
    { default: {}, description: 'When failures are forgotten.' },
  ),
})

type Conf = Static<typeof schema>

interface Prepared {
  readonly code: number
  readonly body: string | null
  readonly headers: readonly { readonly key: string; readonly value: string }[]
  readonly settings: PathBreakerSettings
  readonly unhealthy: readonly number[]
  readonly healthy: readonly number[]
}

export const apiBreaker = definePlugin<Conf, Prepared>({
  name: 'api-breaker',
  priority: 1005,
  description: 'Breaks a path for a growing time when its upstream answers with failures: the breaker of the reference gateway.',
  schema,
  check: (conf) =>
    (conf.break_response_headers ?? []).flatMap(({ value }, index) => {
      const message = templateProblem(value)
      return message === null ? [] : [{ path: `break_response_headers.${index}.value`, message }]
    }),
  prepare: (conf) => ({
    code: conf.break_response_code,
    body: conf.break_response_body ?? null,
    headers: conf.break_response_headers ?? [],
    settings: { failures: conf.unhealthy.failures, successes: conf.healthy.successes, maxBreakerSec: conf.max_breaker_sec },
    unhealthy: conf.unhealthy.http_statuses,
    healthy: conf.healthy.http_statuses,
  }),
  link: (prepared, kit) => new ApiBreaker(prepared, kit),
})

class ApiBreaker implements PluginInstance {
  readonly keepsHeadSafe = true
  readonly logsNoAddress = true
  private readonly breakers: PathBreakers
  private readonly headers: readonly (readonly [string, Template])[]
  /** When no header has to be made per request. */
  private readonly fixedReply: Reply | null
  private readonly unhealthy: ReadonlySet<number>
  private readonly healthy: ReadonlySet<number>

  constructor(
    private readonly prepared: Prepared,
    private readonly kit: LinkKit,
  ) {
    const { code, body, headers } = prepared
    this.breakers = kit.pathBreakers(prepared.settings)
    this.headers = body === null ? [] : headers.map(({ key, value }) => [key, kit.template(value)] as const)
    this.fixedReply = this.headers.length > 0 ? null : { status: code, body: body ?? '' }
    this.unhealthy = new Set(prepared.unhealthy)
    this.healthy = new Set(prepared.healthy)
  }

  access(exchange: Exchange): Reply | undefined {
    if (!this.breakers.isOpen(exchange.host, exchange.path)) return undefined
    if (this.fixedReply !== null) return this.fixedReply
    const headers = this.headers.map(([name, value]) => [name, value(exchange)] as const)
    return { status: this.prepared.code, body: this.prepared.body ?? '', headers }
  }

  log(exchange: Exchange): void {
    const status = exchange.upstreamLastStatus
    if (this.healthy.has(status)) {
      this.breakers.succeeded(exchange.host, exchange.path)
      return
    }
    if (!this.unhealthy.has(status)) return
    const seconds = this.breakers.failed(exchange.host, exchange.path)
    if (seconds > 0) this.kit.log('warn', `api-breaker: ${exchange.host}${exchange.path} is broken for ${seconds} s`)
  }
}
