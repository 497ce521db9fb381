/** A configuration after every check, before merging: what `compile` works on. Types only. */
import type { PluginRegistry } from '../plugins/registry.js'
import type { PluginMeta } from '../schema/common.js'
import type { Json } from '../schema/compiled.js'
import type { ConsumerGroupResource } from '../schema/consumer.js'
import type { ProcessConfig } from '../schema/process.js'
import type { GlobalRuleResource, PluginConfigResource, RouteResource, ServiceResource } from '../schema/route.js'
import type { UpstreamResource } from '../schema/upstream.js'
import type { ConsumerBuilder } from '../shared/consumer-builder.js'
import type { ConfigIssue, DocumentPath } from './load-issue.js'
import type { SourceDocument } from './load-source.js'
import type { SecretResolver } from './secrets.js'

/** One plugin of one resource, checked, with its defaults filled in. */
export interface CheckedPlugin {
  readonly name: string
  readonly conf: Json
  readonly meta: PluginMeta
  readonly path: DocumentPath
}

/** One resource with its place in the file. */
export interface Entry<T> {
  /** Own id, or `arr_<n>`. */
  readonly id: string
  readonly path: DocumentPath
  readonly value: T
  readonly plugins: ReadonlyMap<string, CheckedPlugin>
}

/** Consumers, checked: a million of them are no million of entries. */
export interface LoadedConsumers {
  readonly builder: ConsumerBuilder
  /** Groups that consumers name, by the number that `groupOf` has. */
  readonly groups: readonly string[]
  /** Group of each consumer + 1; 0 = none. */
  readonly groupOf: Uint32Array
  /** Consumers that have plugins of their own, besides credentials. */
  readonly own: readonly { readonly consumer: number; readonly layer: PluginLayer }[]
}

/** Plugins of one resource. */
export interface PluginLayer {
  /** `routes/1`. */
  readonly owner: string
  readonly plugins: ReadonlyMap<string, CheckedPlugin>
}

export interface LoadedConfig {
  readonly file: string
  readonly source: SourceDocument
  readonly registry: PluginRegistry
  /** Names that the `plugins` list of the file allows; null = there is no list. */
  readonly enabled: ReadonlySet<string> | null
  readonly process: ProcessConfig
  readonly routes: readonly Entry<RouteResource>[]
  readonly services: ReadonlyMap<string, Entry<ServiceResource>>
  readonly upstreams: ReadonlyMap<string, Entry<UpstreamResource>>
  /** Ids that may be named although there is no such upstream: it was taken away by force. */
  readonly missingUpstreams: ReadonlySet<string>
  readonly pluginConfigs: ReadonlyMap<string, Entry<PluginConfigResource>>
  readonly globalRules: readonly Entry<GlobalRuleResource>[]
  readonly consumerGroups: ReadonlyMap<string, Entry<ConsumerGroupResource>>
  readonly consumers: LoadedConsumers
  readonly secrets: SecretResolver
  /** Metadata by plugin name, checked. */
  readonly metadata: ReadonlyMap<string, Json>
  /** `plugin_attr` by plugin name. */
  readonly attributes: ReadonlyMap<string, Json>
}

export type LoadResult =
  | { readonly ok: true; readonly config: LoadedConfig; readonly warnings: readonly ConfigIssue[] }
  | {
      readonly ok: false
      readonly errors: readonly ConfigIssue[]
      readonly warnings: readonly ConfigIssue[]
      /** What was right, without the entries that were wrong: good for finding further errors, never for running. */
      readonly partial?: LoadedConfig
    }
