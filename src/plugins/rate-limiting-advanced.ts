/**
 * rate-limiting-advanced: any number of windows of any length, sliding or fixed, decided together.
 *
 * Runs on workers, access phase. State: the counters of the store, changed in one atomic step per request. If Redis fails, requests are
 * counted in this gateway, with the limits divided by the number of living gateways.
 */
import {
  definePlugin,
  type Exchange,
  type LimitRule,
  type LinkKit,
  nullable,
  nullableOneOf,
  type PluginInstance,
  type PluginProblem,
  type PrepareKit,
  type Static,
  type StoreSpec,
  Type,
} from './plugin.js'
import { wholeSeconds } from './rate-limiting/gate.js'
import { compoundKey, identifierKey, type KongIdentifier, kongIdentifiers } from './rate-limiting/identity.js'
import { identifierOptions, identifierProblems, KONG_REDIS_TIMEOUT_MS, kongAnswer, syncRateProblem } from './rate-limiting/kong-options.js'
import { periodOf } from './rate-limiting/kong-periods.js'
import { linkPeriods, type PeriodLimit, type PeriodTimes } from './rate-limiting/period-limit.js'
import { kongRedis, redisStore } from './rate-limiting/redis-options.js'
import { ownScope, sharedScope } from './rate-limiting/scope.js'

const NAME = 'rate-limiting-advanced'
/** Windows are counted in steps of so many milliseconds. */
const WINDOW_GRAIN_MS = 100

const schema = Type.Object({
  limit: Type.Array(Type.Number({ exclusiveMinimum: 0, maximum: 1_000_000_000 }), {
    minItems: 1,
    maxItems: 16,
    description: 'Requests per window, one number for each window; fractions are rounded up.',
  }),
  window_size: Type.Array(Type.Number({ minimum: 0.1, maximum: 31_622_400 }), {
    minItems: 1,
    maxItems: 16,
    description: 'Lengths of the windows in seconds, in steps of 0.1.',
  }),
  window_type: nullableOneOf(['sliding', 'fixed'], {
    description: 'Sliding: the window before counts by the part of it that still overlaps. Fixed: it is forgotten.',
    default: 'sliding',
  }),
  identifier: nullableOneOf(kongIdentifiers, {
    description: 'Whose requests count together. What a request does not have: the client address.',
    default: 'consumer',
  }),
  compound_identifier: nullable(Type.Array(Type.Union(kongIdentifiers.map((one) => Type.Literal(one)))), {
    description: 'Several identifiers, which must all agree; unset or empty = `identifier` alone.',
  }),
  ...identifierOptions,
  strategy: nullableOneOf(['local', 'cluster', 'redis'], {
    description: 'Where counters are kept: in this gateway, exact over all its threads, or in Redis. `cluster` is refused.',
    default: 'local',
  }),
  sync_rate: nullable(Type.Number(), {
    description:
      'Required with Redis. 0: Redis decides on each request. 0.02 and above: requests are counted in batches taken from Redis beforehand, ' +
      'which never admits more than the limit; while refused requests are counted, Redis still decides on each. -1: each gateway counts for itself.',
  }),
  namespace: nullable(Type.String({ minLength: 1, maxLength: 256 }), {
    description: 'Confs with the same namespace share their counters. Unset: the counters of the resource.',
  }),
  disable_penalty: nullable(Type.Boolean(), {
    description: 'With sliding windows: do not count refused requests. Unset, who goes on while refused stays refused.',
    default: false,
  }),
  retry_after_jitter_max: nullable(Type.Number({ minimum: 0, maximum: 86_400 }), {
    description:
      'Upper bound in whole seconds of a random number that is added to Retry-After, so that clients do not all come back at once.',
    default: 0,
  }),
  ...kongAnswer,
  enforce_consumer_groups: nullable(Type.Boolean(), {
    description: 'Not supported: limits of consumer groups are refused.',
    default: false,
  }),
  consumer_groups: nullable(Type.Array(Type.String()), { description: 'Not supported: limits of consumer groups are refused.' }),
  throttling: nullable(Type.Object({ enabled: Type.Boolean({ default: false, description: 'Not supported: true is refused.' }) }), {
    description: 'Not supported: queues of refused requests are refused. `rate-limit` has them (`leaky-bucket`).',
  }),
  redis: kongRedis,
})
type Conf = Static<typeof schema>

interface Prepared {
  readonly limit: PeriodLimit
  readonly identifiers: readonly KongIdentifier[]
  readonly headerName: string
  readonly path: string
  readonly jitterMaxSeconds: number
}

/** `random` gives numbers from 0 up to, not including, 1. */
export function createRateLimitingAdvanced(random: () => number) {
  return definePlugin<Conf, Prepared>({
    name: NAME,
    priority: 910,
    description: 'Limits requests in several windows at once, sliding or fixed.',
    schema,
    check,
    prepare,
    link: (prepared, kit) => link(prepared, kit, random),
  })
}

export const rateLimitingAdvanced = createRateLimitingAdvanced(Math.random)

function check(conf: Conf): PluginProblem[] {
  return [
    ...windowProblems(conf),
    ...storeProblems(conf),
    ...identifierProblems('identifier', identifiersOf(conf), conf),
    ...unsupported(conf),
  ]
}

function windowProblems(conf: Conf): PluginProblem[] {
  const problems: PluginProblem[] = []
  if (conf.limit.length !== conf.window_size.length) {
    problems.push({ path: 'window_size', message: 'You must provide the same number of windows and limits' })
  }
  for (const [index, seconds] of conf.window_size.entries()) {
    const steps = (seconds * 1000) / WINDOW_GRAIN_MS
    if (Math.abs(steps - Math.round(steps)) > 1e-6) {
      problems.push({ path: `window_size.${index}`, message: `a window of ${seconds} seconds is not possible; expected a multiple of 0.1` })
    }
    if (conf.window_size.indexOf(seconds) !== index) {
      problems.push({ path: `window_size.${index}`, message: `there are two windows of ${seconds} seconds; expected different lengths` })
    }
  }
  return problems
}

function storeProblems(conf: Conf): PluginProblem[] {
  const problems = syncRateProblem(conf.sync_rate)
  const strategy = conf.strategy ?? 'local'
  if (strategy === 'cluster') {
    problems.push({
      path: 'strategy',
      message: 'strategy cluster needs a database, which this gateway does not have; expected local or redis',
    })
  }
  const rate = conf.sync_rate ?? null
  if (strategy === 'redis' && rate === null) {
    problems.push({ path: 'sync_rate', message: 'sync_rate is required with strategy redis; expected 0, -1, or at least 0.02 seconds' })
  }
  if (strategy === 'local' && rate !== null && rate >= 0) {
    problems.push({
      path: 'sync_rate',
      message: 'sync_rate cannot be configured when using a local strategy; expected no sync_rate, or -1',
    })
  }
  return problems
}

function unsupported(conf: Conf): PluginProblem[] {
  const problems: PluginProblem[] = []
  const groups = 'limits of consumer groups are not supported here; use the plugin rate-limit with tiers by $consumer_group_id'
  if (conf.enforce_consumer_groups === true) problems.push({ path: 'enforce_consumer_groups', message: groups })
  if ((conf.consumer_groups ?? []).length > 0) problems.push({ path: 'consumer_groups', message: groups })
  if (conf.throttling?.enabled === true) {
    problems.push({
      path: 'throttling.enabled',
      message: 'throttling is not supported here; use the plugin rate-limit with algorithm leaky-bucket',
    })
  }
  return problems
}

function identifiersOf(conf: Conf): readonly KongIdentifier[] {
  const compound = conf.compound_identifier ?? []
  return compound.length > 0 ? compound : [conf.identifier ?? 'consumer']
}

function prepare(conf: Conf, kit: PrepareKit): Prepared {
  const windows = conf.limit
    .map((limit, index) => ({ limit: Math.ceil(limit), seconds: conf.window_size[index] ?? 1 }))
    .sort((a, b) => a.seconds - b.seconds)
  const isSliding = (conf.window_type ?? 'sliding') === 'sliding'
  const countRefused = isSliding && conf.disable_penalty !== true
  const spec = {
    rules: windows.map(({ limit, seconds }) => ruleOf(limit, Math.round(seconds * 1000), isSliding, countRefused)),
    countRefused,
    dryRun: false,
    store: storeOf(conf, countRefused, kit),
  }
  const namespace = conf.namespace ?? null
  return {
    limit: {
      scoped: namespace === null ? ownScope(NAME, spec, kit) : sharedScope(NAME, namespace, spec, kit),
      periods: windows.map(({ seconds }) => periodOf(seconds)),
      hideHeaders: conf.hide_client_headers ?? false,
      code: conf.error_code ?? 429,
      message: conf.error_message ?? 'API rate limit exceeded',
    },
    identifiers: identifiersOf(conf),
    headerName: conf.header_name ?? '',
    path: conf.path ?? '',
    jitterMaxSeconds: Math.floor(conf.retry_after_jitter_max ?? 0),
  }
}

function ruleOf(limit: number, windowMs: number, isSliding: boolean, countRefused: boolean): LimitRule {
  if (!isSliding) return { algorithm: 'fixed-window', limit, windowMs, start: 'clock' }
  // The penalty needs a previous window that may count more than the limit; without it, the estimate never exceeds the limit.
  return { algorithm: 'sliding-window', limit, windowMs, boundary: countRefused ? 'estimate-below' : 'estimate-within' }
}

function storeOf(conf: Conf, countRefused: boolean, kit: PrepareKit): StoreSpec {
  const rate = conf.sync_rate ?? -1
  if ((conf.strategy ?? 'local') !== 'redis' || rate < 0) return { kind: 'local' }
  const mode = rate > 0 && !countRefused ? 'lease' : 'exact'
  const options = conf.redis ?? {}
  return redisStore({ policy: 'redis', options, mode, onFailure: 'local', defaultTimeoutMs: KONG_REDIS_TIMEOUT_MS }, kit)
}

function link(prepared: Prepared, kit: LinkKit, random: () => number): PluginInstance {
  const { limit, identifiers, jitterMaxSeconds } = prepared
  const times: PeriodTimes = {
    resetOf: (_exchange, decision, index) => wholeSeconds(decision.rules[index]?.resetMs ?? 0),
    retryAfter(_exchange: Exchange, decision) {
      const refusing = decision.rules[Math.max(0, decision.refusedBy)]
      const waitMs = refusing === undefined ? 0 : refusing.retryAfterMs >= 0 ? refusing.retryAfterMs : refusing.resetMs
      return wholeSeconds(waitMs) + Math.floor(random() * (jitterMaxSeconds + 1))
    },
  }
  return linkPeriods(limit, times, compoundKey(identifiers.map((one) => identifierKey(one, prepared, kit))), kit)
}
