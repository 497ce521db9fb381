/** Plugins of a snapshot: `prepare` runs here, once per plugin conf, however many routes share it. */
import type { DeclaredLimiter } from '../limits/declared.js'
import { specProblem } from '../limits/problem.js'
import { canonicalJson } from '../limits/scope.js'
import { PluginConfigError, type PrepareKit, type RedisDefaults } from '../plugins/plugin.js'
import type { CompiledPlugin, Json, KeySetSpec } from '../schema/compiled.js'
import { type UpstreamResource, upstreamSchema } from '../schema/upstream.js'
import { contentKey, type UpstreamTable } from './compile-upstreams.js'
import { UndoLog } from './live/undo-log.js'
import type { IssueList } from './load-issue.js'
import type { CheckedPlugin, LoadedConfig, PluginLayer } from './load-types.js'
import { mergePlugins, type OwnedPlugin } from './merge.js'
import type { SecretResolver } from './secrets.js'
import { checkPlugins, optionPath } from './validate-plugins.js'
import { checkSchema } from './validate-schema.js'
import { checkUpstream } from './validate-upstreams.js'

/** Ends a `prepare` whose problem is already among the issues. */
class AlreadyReported extends Error {}

/** What the `prepare` of one plugin conf announced beside what it returned. */
export interface Announced {
  readonly limiters: DeclaredLimiter[]
  /** Published keys that it wants, as they are named in the compiler. */
  readonly keySets: string[]
  /** Names that it shares with other confs of the plugin. */
  readonly shared: string[]
  /** Upstreams that it sends requests to. */
  readonly upstreams: number[]
  /** Those of them that it names by their id. */
  readonly upstreamIds: string[]
}

/** Confs that were prepared anew, and those that are gone, since `begin`. */
export interface PluginChanges {
  readonly added: Announced[]
  readonly removed: Announced[]
}

type Settings = Pick<LoadedConfig, 'registry' | 'enabled' | 'metadata' | 'attributes'>

export class PluginCompiler {
  private readonly prepared = new Map<CheckedPlugin, CompiledPlugin | null>()
  private readonly chains = new Map<string, CompiledPlugin[]>()
  /** Only of confs that announced something. */
  private readonly announced = new Map<CheckedPlugin, Announced>()
  private readonly wantedKeys = new Map<string, { readonly spec: KeySetSpec; readonly count: number }>()
  /** Names that confs of one plugin share: the value, and the confs that have it. */
  private readonly shared = new Map<string, { readonly text: string; readonly by: Map<Announced, string> }>()
  private readonly config: Settings
  private undo = UndoLog.off()
  private changes: PluginChanges = { added: [], removed: [] }

  constructor(
    { registry, enabled, metadata, attributes }: Settings,
    private secrets: SecretResolver,
    private readonly upstreams: UpstreamTable,
    private readonly process: { readonly tlsPorts: readonly number[]; readonly redis: RedisDefaults | null; readonly gatewayNodes: number },
    private issues: IssueList,
  ) {
    this.config = { registry, enabled, metadata, attributes }
  }

  /** Everything that was compiled so far stays. */
  settle(): void {
    this.chains.clear()
    this.changes = { added: [], removed: [] }
  }

  /** From now on changes are noted in `undo`, and what they bring in what comes back. */
  begin(undo: UndoLog, issues: IssueList, secrets: SecretResolver): PluginChanges {
    this.undo = undo
    this.issues = issues
    this.secrets = secrets
    this.chains.clear()
    this.changes = { added: [], removed: [] }
    return this.changes
  }

  /** These confs are gone. */
  remove(plugins: Iterable<CheckedPlugin>): void {
    const { undo } = this
    for (const plugin of plugins) {
      undo.delete(this.prepared, plugin)
      const announced = this.announced.get(plugin)
      if (announced === undefined) continue
      undo.delete(this.announced, plugin)
      this.changes.removed.push(announced)
      for (const text of announced.keySets) {
        const wanted = this.wantedKeys.get(text)
        if (wanted !== undefined && wanted.count > 1) undo.set(this.wantedKeys, text, { ...wanted, count: wanted.count - 1 })
        else undo.delete(this.wantedKeys, text)
      }
      for (const name of announced.shared) {
        const one = this.shared.get(name)
        if (one === undefined) continue
        undo.delete(one.by, announced)
        if (one.by.size === 0) undo.delete(this.shared, name)
      }
    }
  }

  /** What all confs announced. */
  all(): Iterable<Announced> {
    return this.announced.values()
  }

  /** Limits that the prepared plugins announced, in the order of the file. */
  get limiters(): readonly DeclaredLimiter[] {
    return [...this.announced.values()].flatMap(({ limiters }) => limiters)
  }

  /** Published keys that the prepared plugins announced, each once. */
  get keySets(): KeySetSpec[] {
    return [...this.wantedKeys.values()].map(({ spec }) => spec)
  }

  /** The plugins of these layers that are switched on, in run order. Equal layers give the same array. */
  chain(layers: readonly PluginLayer[]): CompiledPlugin[] {
    const key = layers.map((layer) => layer.owner).join(' ')
    let chain = this.chains.get(key)
    if (chain === undefined) {
      chain = this.order(mergePlugins(layers))
      this.chains.set(key, chain)
    }
    return chain
  }

  /** Plugins of independent resources together (global rules): no merging, one order. */
  order(plugins: readonly OwnedPlugin[]): CompiledPlugin[] {
    const { registry } = this.config
    return plugins
      .map((item) => this.compile(item))
      .filter((plugin) => plugin !== null)
      .sort((a, b) => b.priority - a.priority || registry.position(a.name) - registry.position(b.name))
  }

  private compile({ owner, plugin }: OwnedPlugin): CompiledPlugin | null {
    let compiled = this.prepared.get(plugin)
    if (compiled === undefined) {
      const announced: Announced = { limiters: [], keySets: [], shared: [], upstreams: [], upstreamIds: [] }
      compiled = plugin.meta.disable === true ? null : this.prepare(owner, plugin, announced)
      this.undo.set(this.prepared, plugin, compiled)
      if (Object.values(announced).some((list) => list.length > 0)) {
        this.undo.set(this.announced, plugin, announced)
        this.changes.added.push(announced)
      }
    }
    return compiled
  }

  /** `announced`: of the conf that stands in a resource, also when it holds others. */
  private prepare(owner: string, plugin: CheckedPlugin, announced: Announced): CompiledPlugin | null {
    const definition = this.config.registry.get(plugin.name)
    if (definition === undefined) throw new Error(`plugin ${plugin.name} was checked but is not in the registry`)
    try {
      const prepared = definition.prepare(plugin.conf, this.kit(owner, plugin, announced))
      if (JSON.stringify(prepared) === undefined) throw new Error('prepare returned nothing that JSON can hold')
      return {
        name: plugin.name,
        priority: plugin.meta.priority ?? definition.priority,
        prepared,
        filter: (plugin.meta.filter as Json | undefined) ?? null,
        errorResponse: (plugin.meta.error_response as Json | undefined) ?? null,
        ...(plugin.meta.overridable === true && { overridable: true as const }),
        owner,
      }
    } catch (error) {
      this.report(plugin, error)
      return null
    }
  }

  private report(plugin: CheckedPlugin, error: unknown): void {
    if (error instanceof AlreadyReported) return
    if (isConfigError(error)) this.issues.error([...plugin.path, ...optionPath(error.path)], error.message, '')
    else {
      const reason = error instanceof Error ? error.message : String(error)
      this.issues.error(plugin.path, `plugin ${plugin.name} could not be prepared: ${reason}`, 'a configuration that its prepare accepts', {
        atKey: true,
      })
    }
  }

  private kit(owner: string, plugin: CheckedPlugin, announced: Announced): PrepareKit {
    return {
      owner,
      metadata: this.config.metadata.get(plugin.name) ?? null,
      attributes: this.config.attributes.get(plugin.name) ?? null,
      tlsPorts: this.process.tlsPorts,
      redis: this.process.redis,
      limiter: (spec, { perRoute = false, oneKey = false, overridden } = {}) => {
        const limiter = { plugin: plugin.name, owner, spec, perRoute, oneKey, ...(overridden === undefined ? {} : { overridden }) }
        return this.announceLimiter(limiter, plugin, announced)
      },
      keySet: (spec) => this.announceKeys(spec, announced),
      plugin: (name, conf, path) => this.inner(owner, plugin, name, conf, path, announced),
      authenticates: (name) => this.config.registry.get(name)?.credential !== undefined,
      conflict: (name, value) => this.conflict(`${plugin.name} ${name}`, owner, canonicalJson(value), announced),
      upstream: (reference) => {
        const index =
          'id' in reference ? this.namedUpstream(reference.id, plugin) : this.inlineUpstream(reference.inline, reference.path, plugin)
        announced.upstreams.push(index)
        if ('id' in reference) announced.upstreamIds.push(reference.id)
        return index
      },
    }
  }

  private announceLimiter(limiter: DeclaredLimiter, plugin: CheckedPlugin, announced: Announced): DeclaredLimiter['spec'] {
    const { spec } = limiter
    const problem = specProblem(spec)
    if (problem !== null) throw new PluginConfigError(problem)
    announced.limiters.push(limiter)
    const nodes = this.process.gatewayNodes
    if (spec.store.kind === 'local' && nodes > 1) {
      this.issues.warn(
        plugin.path,
        `plugin ${plugin.name} counts locally, but sluice.gateway_nodes says that ${nodes} gateways serve: together they admit up to ${nodes} times the limit`,
        'a redis policy, or gateway_nodes: 1',
        { atKey: true },
      )
    }
    return spec
  }

  private announceKeys(spec: KeySetSpec, announced: Announced): void {
    const text = JSON.stringify(spec)
    announced.keySets.push(text)
    this.undo.set(this.wantedKeys, text, { spec, count: (this.wantedKeys.get(text)?.count ?? 0) + 1 })
  }

  private conflict(name: string, owner: string, text: string, announced: Announced): string | null {
    const first = this.shared.get(name)
    if (first !== undefined && first.text !== text) return first.by.values().next().value ?? ''
    if (first === undefined) this.undo.set(this.shared, name, { text, by: new Map([[announced, owner]]) })
    else this.undo.set(first.by, announced, owner)
    announced.shared.push(name)
    return null
  }

  /** A plugin that another plugin holds: checked and prepared as if it stood on its own. */
  private inner(owner: string, outer: CheckedPlugin, name: string, conf: Json, path: string, announced: Announced): Json {
    const at = [...outer.path, ...optionPath(path)]
    const { issues, secrets } = this
    const { registry, enabled } = this.config
    const before = issues.errors.length
    const checked = checkPlugins({ [name]: conf }, at, { registry, enabled, issues, secrets }).get(name)
    if (checked === undefined || issues.errors.length > before) throw new AlreadyReported()
    if (Object.keys(checked.meta).length > 0) {
      throw new PluginConfigError(`_meta has no effect on a plugin that stands inside of ${outer.name}`, `${path}.${name}._meta`)
    }
    const compiled = this.prepare(owner, checked, announced)
    if (compiled === null) throw new AlreadyReported()
    return compiled.prepared
  }

  private namedUpstream(id: string, plugin: CheckedPlugin): number {
    const index = this.upstreams.ofPlugin(id)
    if (index >= 0) return index
    this.issues.error(plugin.path, `failed to fetch upstream info by upstream id [${id}]`, 'the id of an entry of upstreams', {
      atKey: true,
    })
    throw new AlreadyReported()
  }

  private inlineUpstream(value: Json, path: string, plugin: CheckedPlugin): number {
    const at = [...plugin.path, ...optionPath(path)]
    const before = this.issues.errors.length
    if (checkSchema<UpstreamResource>(upstreamSchema, value, at, this.issues)) checkUpstream(value, at, this.issues)
    if (this.issues.errors.length > before) throw new AlreadyReported()
    return this.upstreams.inline(contentKey(plugin.name, value), value as UpstreamResource)
  }
}

/** By name, not by class: a user plugin may have loaded its own copy of the contract. */
function isConfigError(error: unknown): error is PluginConfigError {
  return error instanceof Error && error.name === 'PluginConfigError' && 'path' in error && typeof error.path === 'string'
}
