/**
 * sliding-window-rate-limit: so many requests per window, counted in clock-aligned windows and weighted over the last two.
 *
 * Runs on workers, access phase. State: one counter per key in the store, changed by one atomic step per request. Refused requests are not
 * counted. If Redis fails: 500, or the request passes uncounted with `allow_degradation`.
 */
import {
  definePlugin,
  fieldNameProblem,
  nullable,
  nullableOneOf,
  type PluginProblem,
  type PrepareKit,
  type Static,
  Type,
} from './plugin.js'
import { missingHeader } from './rate-limiting/identity.js'
import { flatRedis, mergeRedis, redisStore } from './rate-limiting/redis-options.js'
import { ownScope } from './rate-limiting/scope.js'
import { linkSimple, type SimpleLimit, slidingRule } from './rate-limiting/simple-limit.js'

const REDIS_TIMEOUT_MS = 1000

const schema = Type.Object({
  rate: Type.Integer({ minimum: 1, maximum: 1_000_000_000, description: 'Requests that a window admits per key.' }),
  burst: nullable(Type.Integer({ minimum: 0, maximum: 1_000_000_000 }), {
    description: 'Added to `rate`: the limit of a window is `rate` + `burst`.',
    default: 0,
  }),
  window_size: nullable(Type.Integer({ minimum: 1, maximum: 31_622_400 }), { description: 'Length of a window, seconds.', default: 60 }),
  key_type: nullableOneOf(['remote_addr', 'consumer_name', 'header'], {
    description: 'Who is counted: the client address, the consumer, or the value of a header. Requests without one: the client address.',
    default: 'remote_addr',
  }),
  header_name: nullable(Type.String({ minLength: 1, maxLength: 256 }), {
    description: 'The header of `key_type: header`. Without it that type counts client addresses.',
  }),
  policy: nullableOneOf(['local', 'redis', 'redis-cluster'], {
    description: 'Where counters are kept: in this gateway, exact over all its threads, or in Redis, exact over all gateways.',
    default: 'local',
  }),
  allow_degradation: nullable(Type.Boolean(), {
    description: 'Let requests pass uncounted when Redis does not answer; otherwise they are answered with 500.',
    default: false,
  }),
  show_limit_quota_header: nullable(Type.Boolean(), {
    description: 'Send X-RateLimit-Limit, X-RateLimit-Remaining and X-RateLimit-Reset with every answer. Retry-After is always sent.',
    default: true,
  }),
  rejected_code: nullable(Type.Integer({ minimum: 200, maximum: 599 }), { description: 'Status of refusals.', default: 429 }),
  ...flatRedis,
})
type Conf = Static<typeof schema>

export const slidingWindowRateLimit = definePlugin<Conf, SimpleLimit>({
  name: 'sliding-window-rate-limit',
  priority: 1001,
  description: 'Limits requests per key with a sliding window counter.',
  schema,
  check,
  prepare,
  link: linkSimple,
})

function check(conf: Conf): PluginProblem[] {
  const name = conf.header_name ?? null
  if (name === null) return conf.key_type === 'header' ? [missingHeader('header_name')] : []
  const message = fieldNameProblem(name)
  return message === null ? [] : [{ path: 'header_name', message }]
}

function prepare(conf: Conf, kit: PrepareKit): SimpleLimit {
  const burst = conf.burst ?? 0
  const spec = {
    rules: [slidingRule(conf.rate, burst, conf.window_size ?? 60)],
    countRefused: false,
    dryRun: false,
    store: storeOf(conf, kit),
  }
  return {
    scoped: ownScope('sliding-window-rate-limit', spec, kit),
    key: { type: conf.key_type ?? 'remote_addr', key: '', headerName: conf.header_name ?? '' },
    shownLimit: conf.rate + burst,
    showHeaders: conf.show_limit_quota_header ?? true,
    code: conf.rejected_code ?? 429,
    message: 'Rate limit exceeded',
  }
}

function storeOf(conf: Conf, kit: PrepareKit) {
  const policy = conf.policy ?? 'local'
  if (policy === 'local') return { kind: 'local' } as const
  const onFailure = conf.allow_degradation === true ? 'allow' : 'refuse'
  return redisStore({ policy, options: mergeRedis(null, conf), mode: 'exact', onFailure, defaultTimeoutMs: REDIS_TIMEOUT_MS }, kit)
}
