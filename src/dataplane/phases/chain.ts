/**
 * The plugin chain of a route, linked: for each phase the list of steps, global rules first. Empty lists cost one length check.
 *
 * A phase runs synchronously until a plugin returns a promise; only then does the rest of it become asynchronous.
 */

import type { AnyPlugin, Exchange, LinkKit, PhaseResult, PhaseReturn, PluginInstance, Predicate, Reply } from '../../plugins/plugin.js'
import type { CompiledPlugin, Json } from '../../schema/compiled.js'
import { LimitGroup, type QueuePlace } from '../limits/limit-group.js'

export interface Step {
  readonly name: string
  readonly instance: PluginInstance
  /** `_meta.filter`; null = always. */
  readonly filter: Predicate | null
  /** `_meta.error_response`, ready to send; null = the plugin's own. */
  readonly errorBody: string | null
}

/** A plugin, linked, before it is sorted into phases. */
export interface LinkedPlugin {
  readonly name: string
  readonly priority: number
  readonly step: Step
  /** Its steps in the access phase: its own, and that of its limit. */
  readonly access: readonly Step[]
}

/** A change to the head of an answer: header filters first, then those that choose a coding of the final body. */
export interface FilterStep {
  readonly name: string
  readonly filter: Predicate | null
  run(exchange: Exchange): void
}

export interface Chain {
  readonly rewrite: readonly Step[]
  readonly access: readonly Step[]
  readonly headerFilter: readonly FilterStep[]
  readonly encodingFilter: readonly FilterStep[]
  readonly log: readonly Step[]
  /** The groups of limits among the steps of `access` that keep decisions. */
  readonly limits: readonly LimitGroup[]
  /** Request phases leave nothing behind that the head for the upstream would have to be checked for. */
  readonly keepsHeadSafe: boolean
  /** Some step of `log` may read the client's address. */
  readonly logsAddress: boolean
}

export const noChain: Chain = Object.freeze({
  rewrite: [],
  access: [],
  headerFilter: [],
  encodingFilter: [],
  log: [],
  limits: [],
  keepsHeadSafe: true,
  logsAddress: false,
})

/** The steps of `first` before those of `second`, phase by phase. */
export function joinChains(first: Chain, second: Chain): Chain {
  return withGroups({
    rewrite: [...first.rewrite, ...second.rewrite],
    access: [...first.access, ...second.access],
    headerFilter: [...first.headerFilter, ...second.headerFilter],
    encodingFilter: [...first.encodingFilter, ...second.encodingFilter],
    log: [...first.log, ...second.log],
  })
}

/** Limits that stand next to each other in the access phase become one step, which is logged behind all others. */
function withGroups(chain: Omit<Chain, 'limits' | 'keepsHeadSafe' | 'logsAddress'>): Chain {
  const access: Step[] = []
  const limits: LimitGroup[] = []
  for (const step of chain.access) {
    const { instance } = step
    const last = access.at(-1)?.instance
    if (!(instance instanceof LimitGroup)) access.push(step)
    else if (last instanceof LimitGroup) {
      limits[limits.length - 1] = new LimitGroup([...last.members, ...instance.members], last.slot, last.queue)
      access[access.length - 1] = limitStep(limits.at(-1) ?? last)
    } else {
      // A new one each time: groups know the others of their chain.
      const group = new LimitGroup(instance.members, instance.slot, instance.queue)
      limits.push(group)
      access.push(limitStep(group))
    }
  }
  LimitGroup.connect(limits)
  const kept = limits.filter((group) => group.keepsDecisions)
  const log = [...chain.log.filter(({ instance }) => !(instance instanceof LimitGroup)), ...kept.map(limitStep)]
  const keepsHeadSafe = chain.rewrite.every(isSafe) && access.every(isSafe)
  const logsAddress = log.some(({ filter, instance }) => filter !== null || instance.logsNoAddress !== true)
  return { ...chain, access, log, limits: kept, keepsHeadSafe, logsAddress }
}

function isSafe({ instance }: Step): boolean {
  return instance.keepsHeadSafe === true
}

/** Filters and error bodies are those of the plugins in it. */
function limitStep(group: LimitGroup): Step {
  return { name: 'limits', instance: group, filter: null, errorBody: null }
}

export type RunPhase = 'rewrite' | 'access'

/** What plugins of one chain are linked with: each gets the kit in its own name. */
export interface ChainKit extends Pick<LinkKit, 'expression'> {
  forPlugin(name: string): LinkKit
  /** A wait that a limit asks for. */
  queue(ms: number): QueuePlace
  /** A kit for one more chain that runs beside what was linked so far: its slots come behind. */
  fork(): ChainKit
}

/** Links plugins in the order given. A plugin that is not in the registry or whose `link` throws is a bug of the compile step. */
export function linkChain(
  plugins: readonly CompiledPlugin[],
  registry: { get(name: string): AnyPlugin | undefined },
  kit: ChainKit,
): Chain {
  return chainOf(linkPlugins(plugins, registry, kit))
}

/** As `linkChain`, before the steps are sorted into phases. */
export function linkPlugins(
  plugins: readonly CompiledPlugin[],
  registry: { get(name: string): AnyPlugin | undefined },
  kit: ChainKit,
): LinkedPlugin[] {
  return plugins.map((compiled) => {
    const plugin = registry.get(compiled.name)
    if (plugin === undefined) throw new Error(`plugin ${compiled.name} of ${compiled.owner} is not loaded in this worker`)
    const own = kit.forPlugin(compiled.name)
    const step: Step = {
      name: compiled.name,
      instance: plugin.link(compiled.prepared, own),
      filter: compiled.filter === null ? null : kit.expression(compiled.filter),
      errorBody: errorBody(compiled.errorResponse),
    }
    const access: Step[] = []
    const { limit } = step.instance
    if (step.instance.access !== undefined) access.push(step)
    if (limit !== undefined) {
      const member = { limit, filter: step.filter, reply: (reply: Reply) => withErrorBody(reply, step) }
      access.push(limitStep(new LimitGroup([member], own.slot(), kit.queue)))
    }
    return { name: compiled.name, priority: compiled.priority, step, access }
  })
}

/** The steps of these plugins by phase. */
export function chainOf(plugins: readonly LinkedPlugin[]): Chain {
  const steps = plugins.map((plugin) => plugin.step)
  return withGroups({
    rewrite: steps.filter((step) => step.instance.rewrite !== undefined),
    access: plugins.flatMap((plugin) => plugin.access),
    headerFilter: filterSteps(steps, (instance) => instance.headerFilter?.bind(instance)),
    encodingFilter: filterSteps(steps, (instance) => instance.encodingFilter?.bind(instance)),
    log: steps
      .filter((step) => step.instance.log !== undefined)
      .map((step) => (step.instance.alwaysLogs === true ? { ...step, filter: null } : step)),
  })
}

function filterSteps(
  steps: readonly Step[],
  select: (instance: PluginInstance) => ((exchange: Exchange) => void) | undefined,
): FilterStep[] {
  const found: FilterStep[] = []
  for (const { name, filter, instance } of steps) {
    const run = select(instance)
    if (run !== undefined) found.push({ name, filter, run })
  }
  return found
}

function errorBody(response: Json): string | null {
  if (response === null) return null
  return typeof response === 'string' ? response : `${JSON.stringify(response)}\n`
}

/** Runs one request phase from step `from` on. Returns a reply, nothing, or a promise of these. */
export function runSteps(steps: readonly Step[], phase: RunPhase, exchange: Exchange, from = 0): PhaseReturn {
  for (let index = from; index < steps.length; index++) {
    const step = steps[index] as Step
    if (step.filter !== null && !step.filter(exchange)) continue
    const instance = step.instance
    const result = phase === 'rewrite' ? instance.rewrite?.(exchange) : instance.access?.(exchange)
    if (result === undefined) continue
    if (result instanceof Promise) return continueLater(result, step, steps, phase, exchange, index + 1)
    return withErrorBody(result, step)
  }
  return undefined
}

async function continueLater(
  pending: Extract<PhaseReturn, Promise<unknown>>,
  step: Step,
  steps: readonly Step[],
  phase: RunPhase,
  exchange: Exchange,
  next: number,
): Promise<PhaseResult> {
  const result = await pending
  if (result !== undefined) return withErrorBody(result, step)
  if (exchange.aborted) return undefined
  return (await runSteps(steps, phase, exchange, next)) ?? undefined
}

function withErrorBody(reply: Reply, step: Step): Reply {
  return reply.status < 400 || step.errorBody === null ? reply : { ...reply, body: step.errorBody }
}
