/**
 * A snapshot as one worker uses it: handles into shared memory, with routes and upstreams linked on first use.
 *
 * Receiving a snapshot allocates a little per block of it and nothing per record, so a worker is not paused by the size of a
 * configuration. A snapshot that differs from the one before by some routes and upstreams shares everything else with it: global rules,
 * consumers, and what was linked. Pools of connections outlive both (see PoolRegistry).
 */
import { AddressSet } from '../base/address-set.js'
import type { Consumer, RouteInfo } from '../plugins/plugin.js'
import type { CompiledNode, CompiledPlugin, CompiledRoute, CompiledUpstream } from '../schema/compiled.js'
import type { RouteSeries, WorkerMetrics } from '../shared/metrics-slab.js'
import type { RouterBlocks, RouterTables } from '../shared/router-tables.js'
import { ConsumerDirectory } from './consumers/directory.js'
import { type GuardedFields, guardedFields } from './consumers/guarded-fields.js'
import { LinkedConsumer } from './consumers/linked-consumer.js'
import { type OverlaidChain, type OverlayBase, OverlayChains } from './consumers/overlays.js'
import type { ConsumerSource } from './link-kit.js'
import { LinkedRecords } from './linked-records.js'
import { LinkedUpstream, type UpstreamEnvironment } from './linked-upstream.js'
import { rankOf } from './overload.js'
import { type Chain, type ChainKit, chainOf, type FilterStep, joinChains, linkChain, linkPlugins } from './phases/chain.js'
import { RetryPolicy } from './retries/retry-policy.js'
import { type RouteConditions, Router } from './router/router.js'
import type { PluginSource, SnapshotChanges, SnapshotSource } from './snapshot-source.js'
import { compileExpression } from './vars/expression.js'

/** Series that a route keeps at hand, by node. */
const SERIES_KEPT_MAX = 4_096

export interface LinkEnvironment extends UpstreamEnvironment {
  readonly plugins: PluginSource
  readonly metrics: WorkerMetrics
  kitFor(route: RouteInfo | null, consumers: ConsumerSource): ChainKit
}

/** A route as the router needs it, and as requests need it; each made when first asked for. */
interface RouteRecord {
  readonly record: CompiledRoute
  conditions: RouteConditions | null | undefined
  linked: LinkedRoute | undefined
}

/** What snapshots share until something else than routes and upstreams changes. */
class SharedBySnapshots implements SharedByRoutes {
  readonly globals: readonly CompiledPlugin[]
  readonly consumers: ConsumerDirectory
  readonly overlays: OverlayChains
  readonly chain: Chain
  readonly responseFilters: readonly FilterStep[]
  readonly unmatchedSeries: RouteSeries
  readonly hasKongErrors: boolean
  private linkedRoutes = 0

  constructor(source: SnapshotSource, environment: LinkEnvironment) {
    this.hasKongErrors = source.router.errors === 'kong'
    this.globals = source.globals
    this.consumers = new ConsumerDirectory(source.consumers, environment.plugins)
    this.overlays = new OverlayChains(source.overlays, environment.plugins)
    this.chain = linkChain(this.globals, environment.plugins, environment.kitFor(null, this.consumers))
    this.responseFilters = [...this.chain.headerFilter, ...this.chain.encodingFilter]
    this.unmatchedSeries = environment.metrics.routeSeries({
      route: '',
      matchedUri: '',
      matchedHost: '',
      service: '',
      consumer: '',
      node: '',
    })
  }

  nextSerial(): number {
    return this.linkedRoutes++
  }
}

export class LinkedSnapshot {
  readonly router: Router
  /** Failures are answered in the form of Kong. */
  readonly hasKongErrors: boolean
  readonly globals: Chain
  /** What runs over answers that no route made. */
  readonly responseFilters: readonly FilterStep[]

  private constructor(
    readonly epoch: number,
    private readonly shared: SharedBySnapshots,
    private readonly routes: LinkedRecords<CompiledRoute, RouteRecord>,
    private readonly upstreams: LinkedRecords<CompiledUpstream, LinkedUpstream>,
    /** Newer addresses of named nodes than the records have. */
    private readonly newerNodes: Map<number, CompiledNode[]>,
    tables: RouterTables | RouterBlocks,
    before: Router | null,
    private readonly environment: LinkEnvironment,
  ) {
    this.hasKongErrors = shared.hasKongErrors
    this.globals = shared.chain
    this.responseFilters = shared.responseFilters
    this.router = new Router(tables, (index) => conditionsOf(routes.get(index)), before)
  }

  static of(source: SnapshotSource, environment: LinkEnvironment): LinkedSnapshot {
    const shared = new SharedBySnapshots(source, environment)
    const newerNodes = new Map<number, CompiledNode[]>()
    const routes = LinkedRecords.of(source.routes, routeRecord)
    const upstreams = LinkedRecords.of(source.upstreams, upstreamLink(newerNodes, environment))
    return new LinkedSnapshot(source.epoch, shared, routes, upstreams, newerNodes, source.tables, null, environment)
  }

  /** The snapshot after `changes`. This one stays as it is, for the requests that began with it. */
  with(changes: SnapshotChanges): LinkedSnapshot {
    const { environment } = this
    const newerNodes = new Map(this.newerNodes)
    for (const place of changes.upstreams.places) newerNodes.delete(place)
    return new LinkedSnapshot(
      changes.epoch,
      this.shared,
      this.routes.with(changes.routes, routeRecord),
      this.upstreams.with(changes.upstreams, upstreamLink(newerNodes, environment)),
      newerNodes,
      this.router.tables.with(changes.tables),
      this.router,
      environment,
    )
  }

  route(index: number): LinkedRoute {
    const known = this.routes.get(index)
    if (known.linked !== undefined) return known.linked
    const created = new LinkedRoute(this.shared.nextSerial(), known.record, this.shared, this.environment)
    known.linked = created
    return created
  }

  /** The chain of a route with the plugins of the consumers that have this overlay. Throws when a plugin cannot be linked. */
  overlaid(route: LinkedRoute, overlay: number): OverlaidChain {
    return this.shared.overlays.get(route.base, overlay)
  }

  upstream(index: number): LinkedUpstream {
    return this.upstreams.get(index)
  }

  updateNodes(index: number, nodes: CompiledNode[]): void {
    this.newerNodes.set(index, nodes)
    this.upstreams.peek(index)?.setNodes(nodes)
  }

  /** Series of requests that no route matched. */
  get unmatched(): RouteSeries {
    return this.shared.unmatchedSeries
  }
}

function routeRecord(record: CompiledRoute): RouteRecord {
  return { record, conditions: undefined, linked: undefined }
}

function conditionsOf(route: RouteRecord): RouteConditions | null {
  if (route.conditions === undefined) {
    const { remoteAddrs, vars } = route.record
    route.conditions = {
      remote: remoteAddrs.length === 0 ? null : AddressSet.of(remoteAddrs),
      vars: vars === null ? null : compileExpression(vars),
    }
  }
  return route.conditions
}

function upstreamLink(newerNodes: ReadonlyMap<number, CompiledNode[]>, environment: LinkEnvironment) {
  return (record: CompiledUpstream, index: number): LinkedUpstream =>
    new LinkedUpstream(record, newerNodes.get(index) ?? record.nodes, environment)
}

/** What all routes of a snapshot share. */
export interface SharedByRoutes {
  /** Plugins of the global rules. */
  readonly globals: readonly CompiledPlugin[]
  readonly consumers: ConsumerSource
}

export class LinkedRoute implements RouteInfo {
  readonly id: string
  readonly name: string
  readonly serviceId: string
  readonly serviceName: string
  readonly labels: { readonly [key: string]: string }
  /** How important it is when load is shed. */
  readonly rank: number
  readonly chain: Chain
  readonly responseFilters: readonly FilterStep[]
  /** Fields of clients that are removed before any plugin runs; null = none. */
  readonly guarded: GuardedFields | null
  /** What plugins of consumers are laid over. */
  readonly base: OverlayBase
  readonly upstream: number
  readonly connectMs: number
  readonly sendMs: number
  readonly readMs: number
  readonly perTryMs: number
  readonly totalMs: number
  readonly isTimed: boolean
  /** Null = the upstream's. */
  readonly retry: RetryPolicy | null
  readonly uris: readonly string[]
  readonly hosts: readonly string[]
  private readonly metrics: WorkerMetrics
  /** How metrics name the route and its service. */
  private readonly seriesRoute: string
  private readonly seriesService: string
  /** Of callers who are no consumers. */
  private readonly seriesByNode = new Map<string, RouteSeries>()
  private lastNode = '\u0000'
  private lastSeries: RouteSeries | null = null

  /** `serial`: its number among all routes that the worker has linked. */
  constructor(serial: number, record: CompiledRoute, shared: SharedByRoutes, environment: LinkEnvironment) {
    this.id = record.id
    this.name = record.name
    this.serviceId = record.serviceId
    this.serviceName = record.serviceName
    this.labels = record.labels
    this.rank = rankOf(record.labels)
    this.upstream = record.upstream
    // -1 = what the upstream says.
    this.connectMs = record.timeout?.connectMs ?? -1
    this.sendMs = record.timeout?.sendMs ?? -1
    this.readMs = record.timeout?.readMs ?? -1
    this.perTryMs = record.timeout?.perTryMs ?? -1
    this.totalMs = record.timeout?.totalMs ?? -1
    this.isTimed = this.perTryMs >= 0 || this.totalMs >= 0
    this.retry = record.retry === undefined ? null : new RetryPolicy(record.retry)
    this.uris = record.uris
    this.hosts = record.hosts
    this.metrics = environment.metrics
    const kit = environment.kitFor(this, shared.consumers)
    const plugins = linkPlugins(record.plugins, environment.plugins, kit)
    const names = new Set(record.plugins.map((plugin) => plugin.name))
    const effective = shared.globals.filter((plugin) => plugin.overridable !== true || !names.has(plugin.name))
    const linkedGlobals = linkPlugins(effective, environment.plugins, kit)
    const globals = chainOf(linkedGlobals)
    const instances = [...linkedGlobals, ...plugins].map(({ step }) => step.instance)
    this.guarded = guardedFields(instances)
    const isNamed = instances.some(({ namesSeries }) => namesSeries === true)
    this.seriesRoute = (isNamed && this.name) || this.id
    this.seriesService = (isNamed && this.serviceName) || this.serviceId
    this.chain = joinChains(globals, chainOf(plugins))
    this.base = { serial, plugins, globals, kit: () => kit.fork() }
    this.responseFilters = [...this.chain.headerFilter, ...this.chain.encodingFilter]
  }

  /** Metric cells for answers of this route by way of `node` (`address:port`, empty = none) to `consumer`. */
  series(node: string, consumer: Consumer | null): RouteSeries {
    if (consumer instanceof LinkedConsumer) {
      return consumer.seriesOf(this, node) ?? consumer.keepSeries(this, node, this.make(node, consumer))
    }
    if (consumer !== null) return this.make(node, consumer)
    if (node === this.lastNode && this.lastSeries !== null) return this.lastSeries
    let series = this.seriesByNode.get(node)
    if (series === undefined) {
      series = this.make(node, null)
      if (this.seriesByNode.size >= SERIES_KEPT_MAX) this.seriesByNode.clear()
      this.seriesByNode.set(node, series)
    }
    this.lastNode = node
    this.lastSeries = series
    return series
  }

  private make(node: string, consumer: Consumer | null): RouteSeries {
    return this.metrics.routeSeries({
      route: this.seriesRoute,
      matchedUri: this.uris[0] ?? '',
      matchedHost: this.hosts[0] ?? '',
      service: this.seriesService,
      consumer: consumer?.username ?? '',
      node,
    })
  }
}
