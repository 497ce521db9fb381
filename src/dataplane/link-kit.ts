/** The toolkit that plugins are linked with in a worker. */
import type { TokenKit } from '../auth/contract.js'
import { AddressSet } from '../base/address-set.js'
import { compilePattern } from '../base/pattern.js'
import type { BreakerSet, BreakerSpec, PathBreakerSettings, PathBreakers } from '../breakers/contract.js'
import type { BoundLimiter, LimiterSpec } from '../limits/contract.js'
import type { Consumer, CredentialIndex, HttpClient, HttpSettings, LinkKit, RouteInfo } from '../plugins/plugin.js'
import { limitAlone, type QueuePlace } from './limits/limit-group.js'
import type { ChainKit } from './phases/chain.js'
import type { PluginSource } from './snapshot-source.js'
import { compileExpression } from './vars/expression.js'
import { compileKeyTemplate } from './vars/key-template.js'
import { compileTemplate } from './vars/template.js'
import { compileVariable } from './vars/variables.js'

export interface KitEnvironment {
  delay(ms: number): Promise<void>
  log(level: 'info' | 'warn' | 'error', message: string): void
  readonly limits: LimiterSource
  /** State of plugins by their names: lives as long as the worker. */
  readonly states: Map<string, unknown>
  readonly breakers: BreakerSource
  readonly http: { client(settings: HttpSettings): HttpClient }
  readonly tokens: TokenKit
  readonly plugins: PluginSource
  readonly consumers: ConsumerSource
}

/** Consumers and credentials of one snapshot. */
export interface ConsumerSource {
  /** The credentials of a plugin. */
  credentials(plugin: string): CredentialIndex
  consumer(username: string): Consumer | null
}

/** Where plugins get their circuit breakers from, in the name of a plugin on a route (empty = no route). */
export interface BreakerSource {
  bind(plugin: string, routeId: string, spec: BreakerSpec): BreakerSet
  bindPaths(plugin: string, routeId: string, settings: PathBreakerSettings): PathBreakers
}

/** Where plugins get their limiters from. */
export interface LimiterSource {
  /** A limiter in the name of a plugin on a route (empty = no route). Throws RangeError when its store cannot do the spec. */
  bind(plugin: string, routeId: string, spec: LimiterSpec): BoundLimiter
  /** A delay that a limit asks for: counted as a place in a queue until it is over, or the place is left. */
  queue(ms: number): QueuePlace
}

export function createLinkKit(route: RouteInfo | null, environment: KitEnvironment, firstSlot = 0): ChainKit {
  let slots = firstSlot
  const { limits, consumers } = environment
  const shared = {
    route,
    variable: compileVariable,
    template: compileTemplate,
    keyTemplate: compileKeyTemplate,
    expression: compileExpression,
    pattern: compilePattern,
    addressSet: (items: readonly string[]) => AddressSet.of(items),
    slot: () => slots++,
    http: (settings: HttpSettings) => environment.http.client(settings),
    tokens: environment.tokens,
    log: environment.log,
    consumer: (username: string) => consumers.consumer(username),
  } satisfies Partial<LinkKit>
  const kit: ChainKit = {
    expression: compileExpression,
    queue: (ms) => limits.queue(ms),
    fork: () => createLinkKit(route, environment, slots),
    forPlugin(name) {
      return {
        ...shared,
        breakers: (spec) => environment.breakers.bind(name, route?.id ?? '', spec),
        pathBreakers: (settings) => environment.breakers.bindPaths(name, route?.id ?? '', settings),
        limiter: (spec) => limits.bind(name, route?.id ?? '', spec),
        delay: (ms) => environment.delay(ms),
        workerState: <State>(create: () => State) => {
          if (!environment.states.has(name)) environment.states.set(name, create())
          return environment.states.get(name) as State
        },
        // What the index holds is what `credential.link` of this very plugin returned.
        credentials: <Linked>() => consumers.credentials(name) as CredentialIndex<Linked>,
        plugin(inner, prepared) {
          const plugin = environment.plugins.get(inner)
          if (plugin === undefined) throw new Error(`plugin ${inner}, which ${name} holds, is not loaded in this worker`)
          return limitAlone(plugin.link(prepared, kit.forPlugin(inner)), shared.slot(), kit.queue)
        },
      }
    },
  }
  return kit
}
