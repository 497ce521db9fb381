/**
 * A configuration of the user as one that a sweep can run next to the gateway which serves it: the same routes, plugins and upstreams, but none of
 * its ports, files of state and logs, and the settings of the candidate on all upstreams.
 */
import { availableParallelism } from 'node:os'
import { dirname, resolve } from 'node:path'
import { UsageError } from '../../base/errors.js'
import { checkConfiguration } from '../../controlplane/check.js'
import { formatIssue } from '../../controlplane/load-issue.js'
import { settingDefaults, type TunedSettings } from './knobs.js'
import type { KeepalivePool } from './suites.js'

interface Document {
  readonly [name: string]: unknown
}

export interface OwnConfig {
  /** What the file says; where upstreams differ in a setting, its default. */
  readonly settings: TunedSettings
  /** The file with `keepalive` for all upstreams. */
  document(keepalive: KeepalivePool): object
}

/** Keys of `sluice` that say how requests are handled. All others are about the process: ports, state, logs, other gateways. */
const keptSluice = [
  'error_format',
  'gateway_nodes',
  'limits',
  'overload',
  'rate_limit_table',
  'real_ip',
  'redis',
  'router',
  'dns',
  'trust_identity_headers',
]
/** The same of sections under the names of the reference gateway: these hold ports, workers, keys and stores. */
const droppedSections = ['deployment']
const droppedApisix = ['node_listen', 'ssl']
const droppedNginx = ['worker_processes']

/** @throws UsageError (exit code 2) for a file that `sluice check` would refuse, or whose resources are in a store. */
export async function readOwnConfig(file: string): Promise<OwnConfig> {
  const result = await checkConfiguration(resolve(file), process.env)
  if (!result.ok) throw new UsageError(`--config: ${file} is not valid\n${result.errors.map(formatIssue).join('\n')}`)
  if (result.process.store.kind !== 'file') {
    throw new UsageError(
      `--config: the resources of ${file} are in a store that gateways share; give a file that has them itself (sluice export)`,
    )
  }
  const root = documentOf(result.config.source.value)
  const document = withoutProcess(root, resolve(file), result.process.plugins)
  const upstreams = upstreamsOf(document).map(({ keepalive_pool }) => documentOf(keepalive_pool))
  return {
    settings: {
      workers: result.process.workers === 0 ? availableParallelism() : result.process.workers,
      pipelining: agreed(upstreams, 'pipelining') ?? settingDefaults.pipelining,
      poolSize: agreed(upstreams, 'size') ?? settingDefaults.poolSize,
    },
    document: (keepalive) => withKeepalive(document, keepalive),
  }
}

function withoutProcess(root: Document, file: string, plugins: readonly string[]): Document {
  const sluice = documentOf(root['sluice'])
  const secrets = documentOf(sluice['secrets'])
  const directory = secrets['directory']
  return {
    ...without(root, [...droppedSections, 'sluice', 'apisix', 'nginx_config']),
    ...(root['apisix'] !== undefined && { apisix: without(documentOf(root['apisix']), droppedApisix) }),
    ...(root['nginx_config'] !== undefined && { nginx_config: without(documentOf(root['nginx_config']), droppedNginx) }),
    sluice: {
      ...Object.fromEntries(Object.entries(sluice).filter(([name]) => keptSluice.includes(name))),
      ...(plugins.length > 0 && { plugins }),
      // The copy is in another folder.
      ...(sluice['secrets'] !== undefined && {
        secrets: { ...secrets, ...(typeof directory === 'string' && { directory: resolve(dirname(file), directory) }) },
      }),
      log: { level: 'error', access: { format: 'off' } },
    },
  }
}

/** Every upstream of the file, also those that stand in a route or service. */
function upstreamsOf(document: Document): Document[] {
  const inline = [...listOf(document['routes']), ...listOf(document['services'])].map((holder) => holder['upstream'])
  return [
    ...listOf(document['upstreams']),
    ...inline.filter((upstream) => typeof upstream === 'object' && upstream !== null).map(documentOf),
  ]
}

function withKeepalive(document: Document, keepalive: KeepalivePool): Document {
  const set = (upstream: Document): Document => ({
    ...upstream,
    keepalive_pool: { ...documentOf(upstream['keepalive_pool']), ...keepalive },
  })
  const setInline = (holder: Document): Document =>
    typeof holder['upstream'] === 'object' && holder['upstream'] !== null
      ? { ...holder, upstream: set(documentOf(holder['upstream'])) }
      : holder
  return {
    ...document,
    ...(document['upstreams'] !== undefined && { upstreams: listOf(document['upstreams']).map(set) }),
    ...(document['services'] !== undefined && { services: listOf(document['services']).map(setInline) }),
    ...(document['routes'] !== undefined && { routes: listOf(document['routes']).map(setInline) }),
  }
}

/** The value that all have; null when they differ, or none has one. */
function agreed(pools: readonly Document[], name: string): number | null {
  const [value, ...others] = new Set(pools.map((pool) => pool[name]))
  return typeof value === 'number' && others.length === 0 ? value : null
}

function without(document: Document, names: readonly string[]): Document {
  return Object.fromEntries(Object.entries(document).filter(([name]) => !names.includes(name)))
}

/** What was checked to be a map; anything else is an empty one. */
function documentOf(value: unknown): Document {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}

function listOf(value: unknown): Document[] {
  return Array.isArray(value) ? value.map(documentOf) : []
}
