/** Plugins of a snapshot: `prepare` runs here, once per plugin conf, however many routes share it. */
import type { DeclaredLimiter } from '../limits/declared.js'
import { specProblem } from '../limits/problem.js'
import { canonicalJson } from '../limits/scope.js'
import { PluginConfigError, type PrepareKit, type RedisDefaults } from '../plugins/plugin.js'
import type { CompiledPlugin, Json, KeySetSpec } from '../schema/compiled.js'
import { type UpstreamResource, upstreamSchema } from '../schema/upstream.js'
import { contentKey, type UpstreamTable } from './compile-upstreams.js'
import type { IssueList } from './load-issue.js'
import type { CheckedPlugin, LoadedConfig, PluginLayer } from './load-types.js'
import { mergePlugins, type OwnedPlugin } from './merge.js'
import { checkPlugins, optionPath } from './validate-plugins.js'
import { checkSchema } from './validate-schema.js'
import { checkUpstream } from './validate-upstreams.js'

/** Ends a `prepare` whose problem is already among the issues. */
class AlreadyReported extends Error {}

export class PluginCompiler {
  private readonly prepared = new Map<CheckedPlugin, CompiledPlugin | null>()
  private readonly chains = new Map<string, CompiledPlugin[]>()
  private readonly announced: DeclaredLimiter[] = []
  private readonly wantedKeys = new Map<string, KeySetSpec>()
  /** Names that confs of one plugin share: the first value of each, with its owner. */
  private readonly shared = new Map<string, { readonly owner: string; readonly text: string }>()

  constructor(
    private readonly config: LoadedConfig,
    private readonly upstreams: UpstreamTable,
    private readonly process: { readonly tlsPorts: readonly number[]; readonly redis: RedisDefaults | null; readonly gatewayNodes: number },
    private readonly issues: IssueList,
  ) {}

  /** Limits that the prepared plugins announced, in the order of the file. */
  get limiters(): readonly DeclaredLimiter[] {
    return this.announced
  }

  /** Published keys that the prepared plugins announced, each once. */
  get keySets(): KeySetSpec[] {
    return [...this.wantedKeys.values()]
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
      compiled = plugin.meta.disable === true ? null : this.prepare(owner, plugin)
      this.prepared.set(plugin, compiled)
    }
    return compiled
  }

  private prepare(owner: string, plugin: CheckedPlugin): CompiledPlugin | null {
    const definition = this.config.registry.get(plugin.name)
    if (definition === undefined) throw new Error(`plugin ${plugin.name} was checked but is not in the registry`)
    try {
      const prepared = definition.prepare(plugin.conf, this.kit(owner, plugin))
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

  private kit(owner: string, plugin: CheckedPlugin): PrepareKit {
    return {
      owner,
      metadata: this.config.metadata.get(plugin.name) ?? null,
      attributes: this.config.attributes.get(plugin.name) ?? null,
      tlsPorts: this.process.tlsPorts,
      redis: this.process.redis,
      limiter: (spec, { perRoute = false, oneKey = false, overridden } = {}) =>
        this.announce({ plugin: plugin.name, owner, spec, perRoute, oneKey, ...(overridden === undefined ? {} : { overridden }) }, plugin),
      keySet: (spec) => void this.wantedKeys.set(JSON.stringify(spec), spec),
      plugin: (name, conf, path) => this.inner(owner, plugin, name, conf, path),
      authenticates: (name) => this.config.registry.get(name)?.credential !== undefined,
      conflict: (name, value) => this.conflict(`${plugin.name} ${name}`, owner, canonicalJson(value)),
      upstream: (reference) =>
        'id' in reference ? this.namedUpstream(reference.id, plugin) : this.inlineUpstream(reference.inline, reference.path, plugin),
    }
  }

  private announce(limiter: DeclaredLimiter, plugin: CheckedPlugin): DeclaredLimiter['spec'] {
    const { spec } = limiter
    const problem = specProblem(spec)
    if (problem !== null) throw new PluginConfigError(problem)
    this.announced.push(limiter)
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

  private conflict(name: string, owner: string, text: string): string | null {
    const first = this.shared.get(name)
    if (first === undefined) this.shared.set(name, { owner, text })
    return first === undefined || first.text === text ? null : first.owner
  }

  /** A plugin that another plugin holds: checked and prepared as if it stood on its own. */
  private inner(owner: string, outer: CheckedPlugin, name: string, conf: Json, path: string): Json {
    const at = [...outer.path, ...optionPath(path)]
    const { issues } = this
    const { registry, enabled, secrets } = this.config
    const before = issues.errors.length
    const checked = checkPlugins({ [name]: conf }, at, { registry, enabled, issues, secrets }).get(name)
    if (checked === undefined || issues.errors.length > before) throw new AlreadyReported()
    if (Object.keys(checked.meta).length > 0) {
      throw new PluginConfigError(`_meta has no effect on a plugin that stands inside of ${outer.name}`, `${path}.${name}._meta`)
    }
    const compiled = this.prepare(owner, checked)
    if (compiled === null) throw new AlreadyReported()
    return compiled.prepared
  }

  private namedUpstream(id: string, plugin: CheckedPlugin): number {
    const index = this.upstreams.byId(id)
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
