/**
 * rate-limit: everything that the rate-limit engine can do, in one plugin.
 *
 * Runs on workers: access (decide, wait in the queue of a leaky bucket), headerFilter (rate headers), log (records and places in flight
 * back). State: the counters of the store, changed in one atomic step per request for all limits together. If Redis fails,
 * `on_store_error` decides.
 */
import {
  type Decision,
  definePlugin,
  type Exchange,
  fieldValue,
  LIMIT_MAX,
  type LimitKeys,
  type LimitQuestion,
  type LimitRule,
  type LinkKit,
  type PluginInstance,
  type PluginProblem,
  type PrepareKit,
  RETRY_SOON,
  type Reply,
  type RequestLimit,
  requestIdOf,
  templateProblem,
} from './plugin.js'
import { type HeaderFamily, headerWriter, windowSeconds } from './rate-limit/headers.js'
import { limitName, limitProblems, ruleOf } from './rate-limit/rules.js'
import { type Conf, type LimitConf, schema } from './rate-limit/schema.js'
import { storeOf } from './rate-limit/store.js'
import { gatePhases, isUnknown, LimitGate, wholeSeconds } from './rate-limiting/gate.js'
import { chosenKey, type KeyOf } from './rate-limiting/identity.js'
import { bindScoped, ownScope, type ScopedSpec, sharedScope } from './rate-limiting/scope.js'

const NAME = 'rate-limit'

interface Limits {
  readonly scoped: ScopedSpec
  /** Of the rules, in their order. */
  readonly names: readonly string[]
  /** Templates of the rules, in their order. */
  readonly keys: readonly string[]
}

interface Answer {
  readonly code: number
  /** Template; null = JSON about the refusal. */
  readonly body: string | null
  readonly contentType: string
}

interface Prepared {
  readonly limits: Limits
  /** Template of the tier's name; empty = there are no tiers. */
  readonly select: string
  /** By name; null = unlimited. */
  readonly tiers: readonly (readonly [string, Limits | null])[]
  readonly cost: number | string
  readonly headers: HeaderFamily
  readonly dryRun: boolean
  readonly answer: Answer
}

const STORE_FAILED: Reply = { status: 503, body: '{"error_msg":"the rate limit could not be checked"}\n', headers: [RETRY_SOON] }

export const rateLimit = definePlugin<Conf, Prepared>({
  name: NAME,
  priority: 1000,
  description:
    'Limits requests by any algorithm, in several limits at once, by any key and cost, with other limits for some of the requests.',
  schema,
  check,
  prepare,
  link,
})

function check(conf: Conf): PluginProblem[] {
  const problems = limitProblems(conf.limits, conf, 'limits')
  const templates = [
    ['key', conf.key],
    ['cost', typeof conf.cost === 'string' ? conf.cost : ''],
    ['tiers.select', conf.tiers?.select ?? ''],
    ['rejected_body', conf.rejected_body ?? ''],
  ] as const
  for (const [path, text] of templates) {
    const message = templateProblem(text)
    if (message !== null) problems.push({ path, message })
  }
  if (conf.store === 'local' && conf.redis !== undefined) {
    problems.push({ path: 'redis', message: 'redis has no meaning with store local; expected another store, or no redis' })
  }
  for (const [name, tier] of Object.entries(conf.tiers?.table ?? {})) {
    const path = `tiers.table.${name}`
    if ((tier.limits !== undefined) === (tier.unlimited === true)) {
      problems.push({ path, message: 'expected either limits, or unlimited: true' })
    }
    problems.push(...limitProblems(tier.limits ?? [], conf, `${path}.limits`))
  }
  return problems
}

function prepare(conf: Conf, kit: PrepareKit): Prepared {
  const store = storeOf(conf, kit)
  const limitsOf = (limits: readonly LimitConf[]): Limits => {
    const rules = limits.map((limit) => ruleOf(limit, conf.algorithm))
    const keys = limits.map((limit) => limit.key ?? conf.key)
    const oneKey = keys.every((key) => key === keys[0])
    // Confs that share counters may differ in their templates: the names of these must not depend on them.
    const isOneForAll = conf.share === undefined && keys[0]?.includes('$') === false
    const spec = { rules, countRefused: conf.count_rejected, dryRun: conf.dry_run, store, isOneForAll }
    return {
      scoped: conf.share === undefined ? ownScope(NAME, spec, kit, oneKey) : sharedScope(NAME, conf.share, spec, kit, oneKey),
      names: limits.map((_limit, index) => limitName(limits, index)),
      keys,
    }
  }
  return {
    limits: limitsOf(conf.limits),
    select: conf.tiers?.select ?? '',
    tiers: Object.entries(conf.tiers?.table ?? {}).map(([name, tier]) => [name, tier.limits === undefined ? null : limitsOf(tier.limits)]),
    cost: conf.cost,
    headers: conf.dry_run ? 'none' : conf.headers,
    dryRun: conf.dry_run,
    answer: { code: conf.rejected_code, body: conf.rejected_body ?? null, contentType: conf.rejected_content_type },
  }
}

interface LinkedLimits {
  readonly gate: LimitGate
  readonly keysOf: (exchange: Exchange) => LimitKeys
}

function link(prepared: Prepared, kit: LinkKit): PluginInstance {
  const slot = kit.slot()
  const base = linkLimits(prepared.limits, prepared, slot, kit)
  const costOf = linkCost(prepared.cost, kit)
  const askOf = (exchange: Exchange, { gate, keysOf }: LinkedLimits): LimitQuestion => gate.ask(keysOf(exchange), costOf(exchange))
  if (prepared.select === '') return gatePhases(base.gate, (exchange) => askOf(exchange, base), prepared.headers !== 'none')
  const select = kit.template(prepared.select)
  const tiers = new Map(
    prepared.tiers.map(([name, limits]) => [name, limits === null ? null : linkLimits(limits, prepared, slot, kit)] as const),
  )
  // The same for the whole request: its header filters may run when what chose the tier has changed.
  const tierSlot = kit.slot()
  const chosen = (exchange: Exchange): LinkedLimits => {
    const linked = exchange.getSlot(tierSlot)
    return isLinked(linked) ? linked : base
  }
  const limit: RequestLimit = {
    ask(exchange) {
      const tier = tiers.get(select(exchange))
      if (tier === null) return undefined
      exchange.setSlot(tierSlot, tier ?? base)
      return askOf(exchange, tier ?? base)
    },
    conclude: (exchange, decision) => chosen(exchange).gate.conclude(exchange, decision),
  }
  return prepared.headers === 'none' ? { limit } : { limit, headerFilter: (exchange) => chosen(exchange).gate.filter(exchange) }
}

function isLinked(value: unknown): value is LinkedLimits {
  return typeof value === 'object' && value !== null && 'gate' in value && 'keysOf' in value
}

function linkLimits(limits: Limits, prepared: Prepared, slot: number, kit: LinkKit): LinkedLimits {
  const limiter = bindScoped(limits.scoped, kit)
  const refuse = linkRefusal(prepared.answer, limits, kit)
  const gate = new LimitGate({
    limiter,
    slot,
    conclude(exchange, decision) {
      if (!decision.allowed) return isUnknown(decision) ? STORE_FAILED : refuse(exchange, decision)
      if (prepared.dryRun) noteDryRun(decision, limits.names, kit)
      return decision.delayMs > 0 ? decision.delayMs : undefined
    },
    writeHeaders: headerWriter(prepared.headers, { names: limits.names, rules: limits.scoped.spec.rules }),
  })
  return { gate, keysOf: linkKeys(limits.keys, kit) }
}

/** Keys are never logged: they may be secrets of clients. */
function noteDryRun(decision: Decision, names: readonly string[], kit: LinkKit): void {
  if (decision.refusedBy < 0) return
  kit.log(
    'info',
    `rate-limit: dry run, limit "${names[decision.refusedBy] ?? ''}" would have refused a request of route ${kit.route?.id ?? '-'}`,
  )
}

function linkKeys(templates: readonly string[], kit: LinkKit): (exchange: Exchange) => LimitKeys {
  const keys = templates.map((template) => linkKey(template, kit))
  const [first] = keys
  if (first !== undefined && templates.every((template) => template === templates[0])) return first
  return (exchange) => keys.map((keyOf) => keyOf(exchange))
}

function linkKey(template: string, kit: LinkKit): KeyOf {
  const type = template === '$remote_addr' ? 'remote_addr' : template === '$consumer_name' ? 'consumer_name' : 'var_combination'
  return chosenKey({ type, key: template, headerName: '' }, kit)
}

function linkCost(cost: number | string, kit: LinkKit): (exchange: Exchange) => number {
  if (typeof cost === 'number') return () => cost
  const template = kit.template(cost)
  return (exchange) => {
    const value = Math.ceil(Number(template(exchange)))
    return value >= 1 ? Math.min(value, LIMIT_MAX) : 1
  }
}

function linkRefusal(answer: Answer, { names, scoped }: Limits, kit: LinkKit): (exchange: Exchange, decision: Decision) => Reply {
  const body = answer.body === null ? null : kit.template(answer.body)
  const contentType = fieldValue(answer.contentType)
  return (exchange, decision) => {
    const name = names[decision.refusedBy] ?? ''
    const rule = scoped.spec.rules[Math.max(0, decision.refusedBy)]
    const isHopeless = rule !== undefined && rule.algorithm !== 'concurrency' && decision.rules[decision.refusedBy]?.retryAfterMs === -1
    const seconds = isHopeless ? renewalSeconds(rule) : retryAfter(decision)
    const about = {
      error_msg: isHopeless ? 'the request costs more than the limit ever admits' : 'rate limit exceeded',
      limit: name,
      retry_after: seconds,
      request_id: requestIdOf(exchange),
    }
    return {
      status: answer.code,
      body: body === null ? `${JSON.stringify(about)}\n` : body(exchange),
      headers: [
        ['Content-Type', contentType],
        ['Retry-After', String(seconds)],
      ],
    }
  }
}

/** A limit in flight has no moment to name: one second. */
function retryAfter(decision: Decision): number {
  const outcome = decision.rules[Math.max(0, decision.refusedBy)]
  return outcome === undefined ? 1 : wholeSeconds(outcome.retryAfterMs)
}

/** For a cost that no wait makes possible: the time in which the whole limit comes anew, so that nobody tries again soon. */
function renewalSeconds(rule: Exclude<LimitRule, { readonly algorithm: 'concurrency' }>): number {
  return 'rate' in rule ? wholeSeconds(((rule.burst + 1) * 1000) / rule.rate) : wholeSeconds(windowSeconds(rule) * 1000)
}
