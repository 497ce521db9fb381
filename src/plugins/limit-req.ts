/**
 * limit-req: a leaky bucket. `rate` requests per second go through; up to `burst` more wait for their turn, the rest is refused.
 *
 * Runs on workers in the access phase: at once for `local`, after one call for Redis; waiting requests hold nothing but their place. No
 * state of its own, no headers but Retry-After. Redis fails → 500, or no limit with `allow_degradation`.
 */
import {
  addressKey,
  type BoundLimiter,
  type Decision,
  definePlugin,
  type Exchange,
  jsonReply,
  type LimiterSpec,
  type LinkKit,
  ownerScope,
  PluginConfigError,
  type PluginInstance,
  type PluginProblem,
  type PrepareKit,
  policyOptions,
  policyProblems,
  policyStore,
  RATE_MAX,
  RETRY_SOON,
  type Reply,
  routeScope,
  type Static,
  Type,
  templateProblem,
  valueKey,
  variableProblem,
} from './plugin.js'

const schema = Type.Object({
  rate: Type.Number({ description: 'Requests per second, fractions allowed.', exclusiveMinimum: 0, maximum: RATE_MAX }),
  burst: Type.Integer({ description: 'Requests beyond the rate that wait instead of being refused.', minimum: 0, maximum: 1_000_000 }),
  key: Type.String({ description: 'What is counted by: see `key_type`.', minLength: 1 }),
  key_type: Type.Union([Type.Literal('var'), Type.Literal('var_combination')], {
    description:
      '`var`: `key` is the name of a variable. `var_combination`: a template, `$remote_addr $consumer_name`. A key without a value becomes the address of the client.',
    default: 'var',
  }),
  nodelay: Type.Boolean({
    description: 'Requests beyond the rate go through at once, as long as there is room in `burst`.',
    default: false,
  }),
  rejected_code: Type.Integer({ description: 'Status of refusals.', default: 503, minimum: 200, maximum: 599 }),
  rejected_msg: Type.Optional(Type.String({ description: 'Text of refusals: `{"error_msg": …}`.', minLength: 1 })),
  ...policyOptions,
})

type Conf = Static<typeof schema>

interface Prepared {
  readonly spec: LimiterSpec
  readonly perRoute: boolean
  readonly key: string
  readonly isTemplate: boolean
  readonly nodelay: boolean
  readonly rejectedCode: number
  readonly rejectedMessage: string | null
}

export const limitReq = definePlugin<Conf, Prepared>({
  name: 'limit-req',
  priority: 1001,
  description: 'Limits the rate of requests per key; short bursts wait for their turn.',
  schema,
  check,
  prepare,
  link,
})

function check(conf: Conf): PluginProblem[] {
  const problem = conf.key_type === 'var' ? variableProblem(conf.key) : templateProblem(conf.key)
  return [...policyProblems(conf), ...(problem === null ? [] : [{ path: 'key', message: problem }])]
}

function prepare(conf: Conf, kit: PrepareKit): Prepared {
  const store = policyStore(conf, kit.redis, 'exact')
  if ('missing' in store) throw new PluginConfigError(`property "${store.missing}" is required`)
  const { rate, burst, key, key_type } = conf
  const perRoute = kit.owner.startsWith('plugin_configs/')
  const spec: LimiterSpec = {
    scope: ownerScope('limit-req', kit.owner, { rate, burst, key, key_type }),
    rules: [{ algorithm: 'leaky-bucket', rate, burst }],
    countRefused: false,
    dryRun: false,
    store,
    isOneForAll: key_type === 'var_combination' && !key.includes('$'),
  }
  return {
    spec: kit.limiter(spec, { perRoute }),
    perRoute,
    key,
    isTemplate: key_type === 'var_combination',
    nodelay: conf.nodelay,
    rejectedCode: conf.rejected_code,
    rejectedMessage: conf.rejected_msg ?? null,
  }
}

const STORE_FAILED: Reply = { status: 500, headers: [RETRY_SOON] }

function link(prepared: Prepared, kit: LinkKit): PluginInstance {
  const { nodelay, rejectedCode, rejectedMessage } = prepared
  const spec = prepared.perRoute && kit.route !== null ? routeScope(prepared.spec, kit.route.id) : prepared.spec
  const limiter: BoundLimiter = kit.limiter(spec)
  const keyOf = prepared.isTemplate ? kit.keyTemplate(prepared.key) : kit.variable(prepared.key)
  const question = { limiter, keys: '', cost: 1 }
  let hasWarned = false

  function fallback(exchange: Exchange): string {
    if (!hasWarned) kit.log('warn', `limit-req: key "${prepared.key}" has no value; such requests are counted by the address of the client`)
    hasWarned = true
    return addressKey(exchange.clientAddress)
  }

  function conclude(decision: Decision): Reply | number | undefined {
    const { basis, delayMs } = decision
    if (basis === 'allowed') return undefined
    if (basis === 'refused') return STORE_FAILED
    if (!decision.allowed) return refuse(decision)
    return delayMs >= 1 && !nodelay ? delayMs : undefined
  }

  function refuse(decision: Decision): Reply {
    const seconds = Math.max(1, Math.ceil((decision.rules[0]?.retryAfterMs ?? 0) / 1000))
    const headers: Reply['headers'] = [['Retry-After', String(seconds)]]
    return rejectedMessage === null ? { status: rejectedCode, headers } : jsonReply(rejectedCode, 'error_msg', rejectedMessage, headers)
  }

  return {
    limit: {
      ask(exchange) {
        question.keys = valueKey(keyOf(exchange)) ?? fallback(exchange)
        return question
      },
      conclude: (_exchange, decision) => conclude(decision),
    },
  }
}
