/**
 * limit-conn: so many requests at a time per key. Up to `burst` more are let in later, in steps of a delay that follows how long
 * requests take; the rest is refused.
 *
 * Runs on workers: access takes a place; the gateway gives it back when the request is over, whatever became of it (answered, aborted,
 * timed out). State: the delay of each binding, which log learns. A worker that dies gives its places back; a gateway that dies does so too, with a
 * policy in Redis after `key_ttl`. Redis fails → 500, or no limit with `allow_degradation`.
 */
import {
  addressKey,
  type BoundLimiter,
  type Decision,
  definePlugin,
  type Exchange,
  jsonReply,
  LIMIT_MAX,
  type LimiterSpec,
  type LimitKeys,
  type LimitOverrides,
  type LimitQuestion,
  type LinkKit,
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
  valueKey,
  variableProblem,
  WINDOW_MAX_MS,
} from './plugin.js'

const places = Type.Integer({ description: 'Requests at a time.', minimum: 1, maximum: 1_000_000_000 })
const extra = Type.Integer({
  description: 'Requests beyond `conn` that are delayed instead of refused.',
  minimum: 0,
  maximum: 1_000_000_000,
})

const schema = Type.Object({
  conn: Type.Optional(places),
  burst: Type.Optional(extra),
  default_conn_delay: Type.Number({
    description: 'Seconds, with fraction: the delay of the first `conn` requests beyond `conn`, until there is experience.',
    exclusiveMinimum: 0,
    maximum: 3600,
  }),
  only_use_default_delay: Type.Boolean({ description: 'Keep to `default_conn_delay`, whatever requests take.', default: false }),
  key: Type.Optional(Type.String({ description: 'What is counted by: see `key_type`.', minLength: 1 })),
  key_type: Type.Union([Type.Literal('var'), Type.Literal('var_combination')], {
    description:
      '`var`: `key` is the name of a variable. `var_combination`: a template, `$remote_addr $consumer_name`. A key without a value becomes the address of the client.',
    default: 'var',
  }),
  rules: Type.Optional(
    Type.Array(
      Type.Object({
        conn: places,
        burst: extra,
        key: Type.String({ description: 'Template; a rule whose variables are all unset is left out.', minLength: 1 }),
      }),
      { description: 'Several limits, decided together, instead of `conn`, `burst` and `key`.', minItems: 1, maxItems: 16 },
    ),
  ),
  key_ttl: Type.Integer({
    description: 'Policies in Redis: seconds after which a place is free even if its gateway never gave it back.',
    default: 3600,
    minimum: 1,
    maximum: Math.floor(WINDOW_MAX_MS / 1000),
  }),
  rejected_code: Type.Integer({ description: 'Status of refusals.', default: 503, minimum: 200, maximum: 599 }),
  rejected_msg: Type.Optional(Type.String({ description: 'Text of refusals: `{"error_msg": …}`.', minLength: 1 })),
  ...policyOptions,
})

type Conf = Static<typeof schema>

interface PreparedRule {
  readonly key: string
  readonly isTemplate: boolean
  readonly conn: number
}

interface Prepared {
  readonly spec: LimiterSpec
  readonly perRoute: boolean
  readonly rules: readonly PreparedRule[]
  readonly isList: boolean
  readonly delayMs: number
  readonly isDelayFixed: boolean
  readonly rejectedCode: number
  readonly rejectedMessage: string | null
  readonly allowDegradation: boolean
}

export const limitConn = definePlugin<Conf, Prepared>({
  name: 'limit-conn',
  priority: 1003,
  description: 'Limits the number of requests that are served at a time, per key.',
  schema,
  check,
  prepare,
  link: (prepared, kit) => {
    const spec = prepared.perRoute && kit.route !== null ? routeScope(prepared.spec, kit.route.id) : prepared.spec
    return new LimitConn(prepared, kit.limiter(spec), kit)
  },
})

function check(conf: Conf): PluginProblem[] {
  const problems: PluginProblem[] = [...policyProblems(conf)]
  const { rules, key } = conf
  if (rules === undefined) {
    for (const name of ['conn', 'burst', 'key'] as const) {
      if (conf[name] === undefined) problems.push({ path: '', message: `property "${name}" is required` })
    }
    const problem = key === undefined ? null : conf.key_type === 'var' ? variableProblem(key) : templateProblem(key)
    if (problem !== null) problems.push({ path: 'key', message: problem })
    return problems
  }
  for (const name of ['conn', 'burst', 'key'] as const) {
    if (conf[name] !== undefined) problems.push({ path: name, message: `${name} and rules exclude each other; expected one of them` })
  }
  for (const [index, rule] of rules.entries()) {
    if (rules.findIndex((other) => other.key === rule.key) < index)
      problems.push({ path: `rules.${index}.key`, message: `duplicate key '${rule.key}' in rules` })
    const problem = templateProblem(rule.key)
    if (problem !== null) problems.push({ path: `rules.${index}.key`, message: problem })
  }
  return problems
}

function prepare(conf: Conf, kit: PrepareKit): Prepared {
  const store = policyStore(conf, kit.redis, 'exact')
  if ('missing' in store) throw new PluginConfigError(`property "${store.missing}" is required`)
  const own = { conn: conf.conn ?? 1, burst: conf.burst ?? 0, key: conf.key ?? '' }
  const rules = conf.rules ?? [own]
  const isList = conf.rules !== undefined
  const perRoute = kit.owner.startsWith('plugin_configs/')
  const spec: LimiterSpec = {
    scope: ownerScope(
      'limit-conn',
      kit.owner,
      rules.map(({ conn, burst, key }) => ({ conn, burst, key, type: isList ? '' : conf.key_type })),
    ),
    rules: rules.map(({ conn, burst }) => ({ algorithm: 'concurrency', limit: conn + burst, ttlMs: conf.key_ttl * 1000 })),
    countRefused: false,
    dryRun: false,
    store,
    isOneForAll: !isList && conf.key_type === 'var_combination' && !own.key.includes('$'),
  }
  return {
    spec: kit.limiter(spec, { perRoute }),
    perRoute,
    rules: rules.map(({ key, conn }) => ({ key, conn, isTemplate: isList || conf.key_type === 'var_combination' })),
    isList,
    delayMs: conf.default_conn_delay * 1000,
    isDelayFixed: conf.only_use_default_delay,
    rejectedCode: conf.rejected_code,
    rejectedMessage: conf.rejected_msg ?? null,
    allowDegradation: conf.allow_degradation,
  }
}

const UNDECIDABLE: Reply = { status: 500 }
const STORE_FAILED: Reply = { status: 500, headers: [RETRY_SOON] }

/** A rule that is left out counts under this key, without a limit: the number of rules of a limiter is fixed. */
const leftOutKey = '\u0000'

class LimitConn implements PluginInstance, RequestLimit {
  readonly limit = this
  readonly alwaysLogs = true
  readonly logsNoAddress = true
  /** How long each request was made to wait for its place. */
  private readonly slot: number
  private readonly undecidable: UndecidableLimit
  private readonly keyOf: readonly ((exchange: Exchange) => string | undefined)[]
  /** Follows what requests take; of this binding on this worker. */
  private unitMs: number
  private hasWarned = false

  constructor(
    private readonly prepared: Prepared,
    private readonly limiter: BoundLimiter,
    private readonly kit: LinkKit,
  ) {
    this.slot = kit.slot()
    this.unitMs = prepared.delayMs
    this.undecidable = { limiter, undecidable: prepared.allowDegradation ? null : UNDECIDABLE }
    this.keyOf = prepared.rules.map(({ key, isTemplate }) => (isTemplate ? kit.keyTemplate(key) : kit.variable(key)))
  }

  ask(exchange: Exchange): LimitQuestion | UndecidableLimit {
    const { limiter } = this
    const keys = this.prepared.isList ? this.listKeys(exchange) : this.onlyKey(exchange)
    if (keys === null) return this.undecidable
    return { limiter, keys, cost: 1, overrides: typeof keys === 'string' || !keys.includes(leftOutKey) ? undefined : withoutLimits(keys) }
  }

  private onlyKey(exchange: Exchange): string {
    const key = valueKey(this.keyOf[0]?.(exchange))
    if (key !== undefined) return key
    if (!this.hasWarned) {
      const name = this.prepared.rules[0]?.key
      this.kit.log('warn', `limit-conn: key "${name}" has no value; such requests are counted by the address of the client`)
    }
    this.hasWarned = true
    return addressKey(exchange.clientAddress)
  }

  private listKeys(exchange: Exchange): string[] | null {
    const keys = this.keyOf.map((read) => valueKey(read(exchange)) ?? leftOutKey)
    return keys.every((key) => key === leftOutKey) ? null : keys
  }

  conclude(exchange: Exchange, decision: Decision): Reply | number | undefined {
    if (decision.basis === 'allowed') return undefined
    if (decision.basis === 'refused') return STORE_FAILED
    if (!decision.allowed) return this.refuse()
    const delayMs = this.delayOf(decision)
    exchange.setSlot(this.slot, delayMs)
    return delayMs >= 1 ? delayMs : undefined
  }

  private delayOf(decision: Decision): number {
    let steps = 0
    for (const [index, { conn }] of this.prepared.rules.entries()) {
      const outcome = decision.rules[index]
      if (outcome === undefined || outcome.limit === LIMIT_MAX || outcome.used <= conn) continue
      steps = Math.max(steps, Math.floor((outcome.used - 1) / conn))
    }
    return steps * this.unitMs
  }

  private refuse(): Reply {
    const { rejectedCode, rejectedMessage } = this.prepared
    const headers: Reply['headers'] = [['Retry-After', String(Math.max(1, Math.ceil(this.unitMs / 1000)))]]
    return rejectedMessage === null ? { status: rejectedCode, headers } : jsonReply(rejectedCode, 'error_msg', rejectedMessage, headers)
  }

  log(exchange: Exchange): void {
    const delayMs = exchange.getSlot(this.slot)
    if (this.prepared.isDelayFixed || typeof delayMs !== 'number') return
    const tookMs = exchange.upstreamResponseMs >= 0 ? exchange.upstreamResponseMs : Math.max(0, exchange.elapsedMs() - delayMs)
    this.unitMs = (this.unitMs + tookMs) / 2
  }
}

function withoutLimits(keys: LimitKeys): LimitOverrides {
  return { limits: Array.from(keys, (key) => (key === leftOutKey ? LIMIT_MAX : undefined)) }
}
