/**
 * traffic-split: sends shares of a route's traffic to other upstreams, by conditions and weights (canary, blue-green).
 *
 * Runs on workers, access phase; sets `upstreamIndex`. State: one weighted rotor per rule in each worker, begun anew with each
 * configuration; exact over every cycle of the weights in each worker. Failure: none at run time. An `upstream_id` that does not
 * exist is refused with the configuration, instead of answering every request of the route with 500 as the reference gateway does.
 */
import {
  type Accessor,
  definePlugin,
  type Exchange,
  expressionProblem,
  type Json,
  type LinkKit,
  type PluginInstance,
  type PluginProblem,
  type Predicate,
  type PrepareKit,
  type Static,
  Type,
  variableProblem,
} from './plugin.js'

const stickyKey = Type.Optional(
  Type.String({
    minLength: 1,
    maxLength: 256,
    description:
      'Variable, such as `cookie_user` or `http_x_user`, whose value decides: requests with the same value go to the same entry as ' +
      'long as the weights stay, on all workers and gateways. Requests without a value go by weighted round robin.',
  }),
)

const weightedUpstream = Type.Object({
  upstream_id: Type.Optional(
    Type.Union([Type.String({ minLength: 1 }), Type.Integer({ minimum: 1 })], { description: 'Id of an entry of `upstreams`.' }),
  ),
  upstream: Type.Optional(
    Type.Record(Type.String(), Type.Unknown(), {
      description: 'An upstream written in place. Without it and `upstream_id`: the upstream of the route.',
    }),
  ),
  weight: Type.Integer({ minimum: 0, maximum: 1_000_000, default: 1, description: 'Share of this entry; 0 = never picked.' }),
})

const rule = Type.Object({
  match: Type.Optional(
    Type.Array(
      Type.Object({
        vars: Type.Array(Type.Unknown(), { description: 'Expression, written as `vars` of a route.' }),
      }),
      { description: 'The rule applies when one of these holds. Unset or empty: always.' },
    ),
  ),
  weighted_upstreams: Type.Array(weightedUpstream, {
    minItems: 1,
    maxItems: 20,
    default: [{ weight: 1 }],
    description: 'Where requests of this rule go, in proportion to the weights.',
  }),
  sticky_key: stickyKey,
})

const schema = Type.Object({
  rules: Type.Array(rule, {
    minItems: 1,
    description: 'Tried in order; the first that applies decides. If none does: the upstream of the route.',
  }),
  sticky_key: stickyKey,
})
type Conf = Static<typeof schema>
type Rule = Static<typeof rule>
type WeightedUpstream = Static<typeof weightedUpstream>

interface PreparedRule {
  /** Expressions of which one must hold; null = always. */
  readonly match: Json[] | null
  /** Upstream index of each entry; -1 = the route's own. */
  readonly upstreams: number[]
  readonly weights: number[]
  /** Name of a variable, or empty. */
  readonly stickyKey: string
}

export const trafficSplit = definePlugin<Conf, PreparedRule[]>({
  name: 'traffic-split',
  priority: 966,
  description: 'Splits the traffic of a route between upstreams by conditions and weights.',
  schema,
  check,
  prepare,
  link,
})

function check(conf: Conf): PluginProblem[] {
  return [...stickyProblems(conf.sticky_key, 'sticky_key'), ...conf.rules.flatMap((item, index) => ruleProblems(item, `rules.${index}`))]
}

function stickyProblems(key: string | undefined, path: string): PluginProblem[] {
  const message = key === undefined ? null : variableProblem(variableName(key))
  return message === null ? [] : [{ path, message }]
}

/** Variables may be written with the dollar of templates. */
function variableName(key: string): string {
  return key.startsWith('$') ? key.slice(1) : key
}

function ruleProblems(item: Rule, path: string): PluginProblem[] {
  const problems = stickyProblems(item.sticky_key, `${path}.sticky_key`)
  for (const [index, { vars }] of (item.match ?? []).entries()) {
    const message = expressionProblem(asJson(vars))
    if (message !== null) problems.push({ path: `${path}.match.${index}.vars`, message })
  }
  for (const [index, entry] of item.weighted_upstreams.entries()) {
    if (entry.upstream_id === undefined || entry.upstream === undefined) continue
    problems.push({
      path: `${path}.weighted_upstreams.${index}`,
      message: 'upstream_id and upstream exclude each other; expected one of them',
    })
  }
  if (item.weighted_upstreams.every((entry) => entry.weight === 0)) {
    problems.push({ path: `${path}.weighted_upstreams`, message: 'all weights are 0; expected at least one weight above 0' })
  }
  return problems
}

function prepare(conf: Conf, kit: PrepareKit): PreparedRule[] {
  return conf.rules.map((item, ruleIndex) => ({
    match: item.match === undefined || item.match.length === 0 ? null : item.match.map(({ vars }) => asJson(vars)),
    upstreams: item.weighted_upstreams.map((entry, index) => upstreamOf(entry, `rules.${ruleIndex}.weighted_upstreams.${index}`, kit)),
    weights: item.weighted_upstreams.map((entry) => entry.weight),
    stickyKey: variableName(item.sticky_key ?? conf.sticky_key ?? ''),
  }))
}

function upstreamOf(entry: WeightedUpstream, path: string, kit: PrepareKit): number {
  if (entry.upstream_id !== undefined) return kit.upstream({ id: String(entry.upstream_id), path: `${path}.upstream_id` })
  if (entry.upstream !== undefined) return kit.upstream({ inline: asJson(entry.upstream), path: `${path}.upstream` })
  return -1
}

/** Configuration comes out of a YAML or JSON document, so parts whose shape the schema leaves open are JSON. */
function asJson(value: unknown): Json {
  return value as Json
}

interface LinkedRule {
  readonly match: readonly Predicate[] | null
  readonly upstreams: readonly number[]
  readonly weights: readonly number[]
  readonly sticky: Accessor | null
  readonly rotor: WeightedRotor
}

function link(rules: PreparedRule[], kit: LinkKit): PluginInstance {
  const linked = rules.map(
    (item): LinkedRule => ({
      match: item.match?.map((vars) => kit.expression(vars)) ?? null,
      upstreams: item.upstreams,
      weights: item.weights,
      sticky: item.stickyKey === '' ? null : kit.variable(item.stickyKey),
      rotor: new WeightedRotor(item.weights),
    }),
  )
  return {
    access(exchange: Exchange): void {
      for (const item of linked) {
        if (!applies(item.match, exchange)) continue
        const upstream = item.upstreams[pick(item, exchange)] ?? -1
        if (upstream >= 0) exchange.upstreamIndex = upstream
        return
      }
    },
  }
}

function applies(match: readonly Predicate[] | null, exchange: Exchange): boolean {
  if (match === null) return true
  for (const holds of match) if (holds(exchange)) return true
  return false
}

function pick(item: LinkedRule, exchange: Exchange): number {
  const value = item.sticky === null ? undefined : item.sticky(exchange)
  return value === undefined || value === '' ? item.rotor.next() : pickByHash(value, item.weights)
}

/** Smooth weighted round robin: over a cycle (sum of the weights) each entry is picked exactly as often as its weight says. */
class WeightedRotor {
  private readonly current: Float64Array
  private readonly total: number

  constructor(private readonly weights: readonly number[]) {
    this.current = new Float64Array(weights.length)
    this.total = weights.reduce((sum, weight) => sum + weight, 0)
  }

  next(): number {
    const { current, weights } = this
    let best = -1
    let highest = Number.NEGATIVE_INFINITY
    for (let index = 0; index < weights.length; index++) {
      const weight = weights[index] ?? 0
      if (weight === 0) continue
      const value = (current[index] ?? 0) + weight
      current[index] = value
      if (value <= highest) continue
      highest = value
      best = index
    }
    current[best] = highest - this.total
    return best
  }
}

/**
 * Weighted rendezvous hashing: each entry draws a number from the value and its place, scaled by its weight, and the highest wins.
 * Raising one weight therefore only moves requests towards that entry: a user who saw the canary keeps seeing it.
 */
function pickByHash(value: string, weights: readonly number[]): number {
  const hash = hashText(value)
  let best = -1
  let highest = -1
  for (let index = 0; index < weights.length; index++) {
    const weight = weights[index] ?? 0
    if (weight === 0) continue
    const uniform = (mix(hash ^ Math.imul(index + 1, 0x9e3779b1)) + 0.5) / 0x1_0000_0000
    const score = weight / -Math.log(uniform)
    if (score <= highest) continue
    highest = score
    best = index
  }
  return best
}

/** FNV-1a over UTF-16 code units. */
function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  return hash
}

/** The finalizer of MurmurHash3: spreads every input bit over all 32 output bits. */
function mix(value: number): number {
  let hash = value
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
