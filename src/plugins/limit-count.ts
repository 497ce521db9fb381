/**
 * limit-count: so many requests per window, counted per key.
 *
 * Runs on workers: the limit is decided in access (at once for `local`, after one call for Redis), headerFilter shows the quota. Redis
 * fails → 500, or no limit with `allow_degradation`. A count or window that is taken from the request and is no positive whole number is
 * treated in the same way, except in `rules`, where that rule is left out; either is logged.
 */
import { linkRules, type PreparedRule, type RuleReader } from './limit-count/rules.js'
import {
  type BoundLimiter,
  Decision,
  definePlugin,
  type Exchange,
  fieldNameProblem,
  type Json,
  jsonReply,
  LIMIT_MAX,
  type LimiterSpec,
  type LimitQuestion,
  type LinkKit,
  NumberFields,
  ownerScope,
  PluginConfigError,
  type PluginInstance,
  type PluginProblem,
  type PrepareKit,
  policyOptions,
  policyProblems,
  policyStore,
  RETRY_SOON,
  type Reply,
  type RequestLimit,
  routeScope,
  type Static,
  Type,
  templateProblem,
  type UndecidableLimit,
  variableProblem,
  WINDOW_MAX_MS,
} from './plugin.js'

const secondsMax = Math.floor(WINDOW_MAX_MS / 1000)
const rulesMax = 16

const count = Type.Union([Type.Integer({ minimum: 1, maximum: LIMIT_MAX - 1 }), Type.String({ minLength: 1 })], {
  description: 'Requests per window: a whole number above 0, or a template such as `$http_x_quota` that gives one.',
})
const timeWindow = Type.Union([Type.Integer({ minimum: 1, maximum: secondsMax }), Type.String({ minLength: 1 })], {
  description: 'Length of the window in seconds: a whole number above 0, or a template that gives one.',
})

const schema = Type.Object({
  count: Type.Optional(count),
  time_window: Type.Optional(timeWindow),
  window_type: Type.Union([Type.Literal('fixed'), Type.Literal('sliding')], {
    description:
      '`fixed`: a window begins with the first request of a key. `sliding`: windows follow the clock, and the one before counts in proportion to what still overlaps.',
    default: 'fixed',
  }),
  key: Type.String({ description: 'What is counted by: see `key_type`.', default: 'remote_addr', minLength: 1 }),
  key_type: Type.Union([Type.Literal('var'), Type.Literal('var_combination'), Type.Literal('constant')], {
    description:
      '`var`: `key` is the name of a variable. `var_combination`: a template, `$remote_addr $consumer_name`. `constant`: one counter for all. A key without a value becomes the address of the client.',
    default: 'var',
  }),
  rules: Type.Optional(
    Type.Array(
      Type.Object({
        count,
        time_window: timeWindow,
        key: Type.String({ description: 'Template; a rule whose variables are all unset is left out.', minLength: 1 }),
        header_prefix: Type.Optional(
          Type.String({ description: 'Its headers are `X-<prefix>-RateLimit-…`; default: its number, from 1.', minLength: 1 }),
        ),
      }),
      { description: 'Several limits, decided together: a request refused by one uses up none.', minItems: 1, maxItems: rulesMax },
    ),
  ),
  rejected_code: Type.Integer({ description: 'Status of refusals.', default: 503, minimum: 200, maximum: 599 }),
  rejected_msg: Type.Optional(Type.String({ description: 'Text of refusals: `{"error_msg": …}`.', minLength: 1 })),
  show_limit_quota_header: Type.Boolean({ description: 'Show limit, remaining and reset in headers of every answer.', default: true }),
  group: Type.Optional(Type.String({ description: 'Confs of one group share their counters; they must be equal.', minLength: 1 })),
  sync_interval: Type.Number({
    description:
      'Policies in Redis. -1: every request asks Redis. From 0.1: requests are counted in batches that are taken from Redis ahead of being used, so that nothing is admitted beyond the limit; how often adapts to the traffic.',
    default: -1,
  }),
  ...policyOptions,
})

const metadataSchema = Type.Object({
  limit_header: Type.String({ description: 'Name of the header with the limit.', default: 'X-RateLimit-Limit', minLength: 1 }),
  remaining_header: Type.String({ description: 'Name of the header with what is left.', default: 'X-RateLimit-Remaining', minLength: 1 }),
  reset_header: Type.String({
    description: 'Name of the header with the seconds to the reset.',
    default: 'X-RateLimit-Reset',
    minLength: 1,
  }),
})

type Conf = Static<typeof schema>
type Metadata = Static<typeof metadataSchema>

interface HeaderNames {
  readonly limit: string
  readonly remaining: string
  readonly reset: string
}

interface Prepared {
  readonly spec: LimiterSpec
  readonly perRoute: boolean
  readonly rules: readonly PreparedRule[]
  /** Rules without a key are left out instead of counted by the address. */
  readonly isList: boolean
  /** One per rule; empty = none are shown. */
  readonly headers: readonly HeaderNames[]
  readonly rejectedCode: number
  readonly rejectedMessage: string | null
  readonly allowDegradation: boolean
}

export const limitCount = definePlugin<Conf, Prepared>({
  name: 'limit-count',
  priority: 1002,
  description: 'Limits the number of requests per window of time and key.',
  schema,
  metadataSchema,
  check,
  prepare,
  link: (prepared, kit) => {
    const spec = prepared.perRoute && kit.route !== null ? routeScope(prepared.spec, kit.route.id) : prepared.spec
    const limiter = kit.limiter(spec)
    return new LimitCount(prepared, limiter, linkRules(prepared.rules, prepared.isList, limiter, kit), kit)
  },
})

function check(conf: Conf): PluginProblem[] {
  const problems: PluginProblem[] = [...policyProblems(conf)]
  const { rules } = conf
  if (rules === undefined) {
    for (const name of ['count', 'time_window'] as const) {
      if (conf[name] === undefined) problems.push({ path: '', message: `property "${name}" is required` })
    }
    const keyProblem = conf.key_type === 'var' ? variableProblem(conf.key) : conf.key_type === 'constant' ? null : templateProblem(conf.key)
    if (keyProblem !== null) problems.push({ path: 'key', message: keyProblem })
    problems.push(...numberProblems(conf, ''))
  } else {
    for (const name of ['count', 'time_window', 'group'] as const) {
      if (conf[name] !== undefined) problems.push({ path: name, message: `${name} and rules exclude each other; expected one of them` })
    }
    for (const [index, rule] of rules.entries()) {
      if (rules.findIndex((other) => other.key === rule.key) < index)
        problems.push({ path: `rules.${index}.key`, message: `duplicate key '${rule.key}' in rules` })
      const problem = templateProblem(rule.key)
      if (problem !== null) problems.push({ path: `rules.${index}.key`, message: problem })
      const nameProblem = rule.header_prefix === undefined ? null : fieldNameProblem(rule.header_prefix)
      if (nameProblem !== null) problems.push({ path: `rules.${index}.header_prefix`, message: nameProblem })
      problems.push(...numberProblems(rule, `rules.${index}.`))
    }
  }
  return [...problems, ...syncProblems(conf)]
}

function numberProblems(rule: { readonly count?: number | string; readonly time_window?: number | string }, path: string): PluginProblem[] {
  return (['count', 'time_window'] as const).flatMap((name) => {
    const value = rule[name]
    const problem = typeof value === 'string' ? templateProblem(value) : null
    return problem === null ? [] : [{ path: `${path}${name}`, message: problem }]
  })
}

function syncProblems({ sync_interval: interval, policy, time_window: own, rules }: Conf): PluginProblem[] {
  if (interval === -1) return []
  const problem = (message: string): PluginProblem[] => [{ path: 'sync_interval', message }]
  if (policy === 'local') return problem('is only for policies in Redis; expected -1')
  if (interval < 0.1) return problem(`expected ${interval} to be -1 or at least 0.1`)
  const windows = rules === undefined ? [own] : rules.map((rule) => rule.time_window)
  const short = windows.find((window) => typeof window === 'number' && interval >= window)
  return short === undefined ? [] : problem(`${interval} must be smaller than time_window ${short}`)
}

function prepare(conf: Conf, kit: PrepareKit): Prepared {
  const isList = conf.rules !== undefined
  const rules = preparedRules(conf)
  const meaning: Json = { rules: rules.map(({ key, type, count, window }) => ({ key, type, count, window })), window: conf.window_type }
  const { group } = conf
  if (group !== undefined) {
    const other = kit.conflict(`group ${group}`, conf as Json)
    if (other !== null) throw new PluginConfigError(`group conf mismatched: ${other} uses the group "${group}" with other options`, 'group')
  }
  const store = policyStore(conf, kit.redis, conf.sync_interval === -1 ? 'exact' : 'lease')
  if ('missing' in store) throw new PluginConfigError(`property "${store.missing}" is required`)
  // What comes from the request replaces these per request; the values here are never used.
  const number = (value: number | string, fallback: number) => (typeof value === 'number' ? value : fallback)
  const perRoute = group === undefined && kit.owner.startsWith('plugin_configs/')
  const spec: LimiterSpec = {
    scope: group === undefined ? ownerScope('limit-count', kit.owner, meaning) : `limit-count|group|${group}`,
    rules: rules.map((rule) => {
      const limit = number(rule.count, 1)
      const windowMs = number(rule.window, 60) * 1000
      return conf.window_type === 'sliding'
        ? { algorithm: 'sliding-window', limit, windowMs, boundary: 'estimate-within' }
        : { algorithm: 'fixed-window', limit, windowMs, start: 'first-hit' }
    }),
    countRefused: false,
    dryRun: false,
    store,
    isOneForAll: !isList && (conf.key_type === 'constant' || (conf.key_type === 'var_combination' && !conf.key.includes('$'))),
  }
  return {
    spec: kit.limiter(spec, {
      perRoute,
      overridden: rules.map(({ count, window }) => ({ limit: typeof count === 'string', window: typeof window === 'string' })),
    }),
    perRoute,
    rules,
    isList,
    headers: conf.show_limit_quota_header ? headerNames(rules, isList, kit.metadata as Metadata | null) : [],
    rejectedCode: conf.rejected_code,
    rejectedMessage: conf.rejected_msg ?? null,
    allowDegradation: conf.allow_degradation,
  }
}

function preparedRules(conf: Conf): PreparedRule[] {
  if (conf.rules === undefined)
    return [{ key: conf.key, type: conf.key_type, count: conf.count ?? 1, window: conf.time_window ?? 1, prefix: '' }]
  return conf.rules.map((rule, index) => ({
    key: rule.key,
    type: 'var_combination',
    count: rule.count,
    window: rule.time_window,
    prefix: rule.header_prefix ?? String(index + 1),
  }))
}

function headerNames(rules: readonly PreparedRule[], isList: boolean, metadata: Metadata | null): HeaderNames[] {
  const names = (limit: string, remaining: string, reset: string): HeaderNames => ({
    limit: headerName(limit),
    remaining: headerName(remaining),
    reset: headerName(reset),
  })
  if (isList)
    return rules.map(({ prefix }) => names(`X-${prefix}-RateLimit-Limit`, `X-${prefix}-RateLimit-Remaining`, `X-${prefix}-RateLimit-Reset`))
  return [
    names(
      metadata?.limit_header ?? 'X-RateLimit-Limit',
      metadata?.remaining_header ?? 'X-RateLimit-Remaining',
      metadata?.reset_header ?? 'X-RateLimit-Reset',
    ),
  ]
}

function headerName(name: string): string {
  const problem = fieldNameProblem(name)
  if (problem !== null) throw new PluginConfigError(`plugin_metadata limit-count: ${problem}`)
  return name
}

const CANNOT_COUNT = jsonReply(500, 'error_msg', 'failed to limit count')
const STORE_FAILED = jsonReply(500, 'error_msg', 'failed to limit count', [RETRY_SOON])

class LimitCount implements PluginInstance, RequestLimit {
  readonly limit = this
  readonly headerFilter?: (exchange: Exchange) => void
  private readonly slot: number
  private readonly undecidable: UndecidableLimit
  /** One per rule; empty = none are shown. */
  private readonly shown: readonly NumberFields[]
  readonly forgets?: BoundLimiter
  private lastWaitSeconds = 0
  private lastRefusal: Reply | null = null

  constructor(
    private readonly prepared: Prepared,
    limiter: BoundLimiter,
    private readonly rules: RuleReader,
    kit: LinkKit,
  ) {
    this.slot = kit.slot()
    this.undecidable = { limiter, undecidable: prepared.allowDegradation ? null : CANNOT_COUNT }
    this.shown = prepared.headers.map(({ limit, remaining, reset }) => new NumberFields([limit, remaining, reset], [false, false, true]))
    if (this.shown.length > 0) this.headerFilter = (exchange) => this.showQuota(exchange)
    else this.forgets = limiter
  }

  ask(exchange: Exchange): LimitQuestion | UndecidableLimit {
    return this.rules.read(exchange) ?? this.undecidable
  }

  conclude(exchange: Exchange, decision: Decision): Reply | undefined {
    if (decision.basis === 'allowed') return undefined
    if (decision.basis === 'refused') return STORE_FAILED
    if (this.shown.length > 0) exchange.setSlot(this.slot, decision)
    return decision.allowed ? undefined : this.refuse(decision)
  }

  private refuse(decision: Decision): Reply {
    const waitMs = decision.rules[decision.refusedBy]?.retryAfterMs ?? -1
    const seconds = Math.max(1, Math.ceil(waitMs / 1000))
    // Whoever is refused is mostly refused again within the second.
    if (seconds === this.lastWaitSeconds && this.lastRefusal !== null) return this.lastRefusal
    const headers: Reply['headers'] = [['Retry-After', String(seconds)]]
    const { rejectedCode, rejectedMessage } = this.prepared
    this.lastWaitSeconds = seconds
    this.lastRefusal =
      rejectedMessage === null ? { status: rejectedCode, headers } : jsonReply(rejectedCode, 'error_msg', rejectedMessage, headers)
    return this.lastRefusal
  }

  private showQuota(exchange: Exchange): void {
    const decision = exchange.getSlot(this.slot)
    if (!(decision instanceof Decision)) return
    const { headers } = exchange.response
    const { shown } = this
    for (let index = 0; index < shown.length; index++) {
      const fields = shown[index]
      const outcome = decision.rules[index]
      // A rule that was left out has no limit to show.
      if (fields === undefined || outcome === undefined || outcome.limit === LIMIT_MAX) continue
      const { numbers } = fields
      numbers[0] = outcome.limit
      numbers[1] = outcome.remaining
      // Seconds with up to two decimals, cut off.
      numbers[2] = Math.floor(outcome.resetMs / 10)
      headers.setNumbers(fields)
    }
  }
}
