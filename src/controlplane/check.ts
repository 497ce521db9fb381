/**
 * The one way from a configuration file to something that can run: `start`, a reload and `sluice check` all call this, so what one of
 * them accepts the others accept. Nothing outside changes; user plugins named in the file are loaded.
 */
import { UsageError } from '../base/errors.js'
import type { DeclaredLimiter } from '../limits/declared.js'
import { builtinPlugins } from '../plugins/index.js'
import { PluginRegistry } from '../plugins/registry.js'
import { loadUserPlugins } from '../plugins/user-plugins.js'
import type { CompiledConfig } from '../schema/compiled.js'
import type { ProcessConfig } from '../schema/process.js'
import { type CompiledState, compileConfiguration } from './compile.js'
import type { CompiledConsumers } from './compile-consumers.js'
import type { Environment } from './environment.js'
import { isKongFile } from './import-kong/import-kong.js'
import { type KongEnvironment, kongVariables, overlaySluice, readKongEnvironment } from './import-kong/kong-environment.js'
import { readSource, translateSource, validateSource } from './load.js'
import { type ConfigIssue, IssueList, sortIssues } from './load-issue.js'
import type { SourceDocument } from './load-source.js'
import type { LoadedConfig, LoadResult } from './load-types.js'
import { userPluginFiles } from './validate-process.js'

export interface CheckOptions {
  /** See CompileOptions; default: every upstream gets slot 0, which is enough for checking. */
  readonly rotorSlot?: (key: string) => number
  /** Lays command line flags over the settings of the file. May throw UsageError. */
  readonly adjust?: (process: ProcessConfig) => ProcessConfig
  /** See ValidateOptions. */
  readonly alsoKnown?: (kind: string) => ReadonlySet<string>
}

export type CheckResult =
  | {
      readonly ok: true
      readonly config: LoadedConfig
      /** After `adjust`. */
      readonly process: ProcessConfig
      readonly compiled: CompiledConfig
      readonly consumers: CompiledConsumers
      readonly limiters: readonly DeclaredLimiter[]
      /** See live/live-configuration. */
      readonly state: CompiledState
      readonly warnings: readonly ConfigIssue[]
    }
  | { readonly ok: false; readonly errors: readonly ConfigIssue[]; readonly warnings: readonly ConfigIssue[] }

/** A configuration file that was read and is in our form, with the plugins that it names; nothing of it has been validated. */
export interface OpenedConfiguration {
  readonly source: SourceDocument
  readonly registry: PluginRegistry
  /** The document as it stands in a Kong declarative file; null = the file has our form. */
  readonly kong: { readonly [name: string]: unknown } | null
  /** What was found so far. Errors here do not keep the rest from being checked. */
  readonly errors: readonly ConfigIssue[]
  readonly warnings: readonly ConfigIssue[]
}

export type OpenResult = { readonly ok: true; readonly opened: OpenedConfiguration } | Extract<CheckResult, { ok: false }>

/** Loads, validates, merges and compiles `file`. Everything wrong with the file comes back as issues, sorted by place. */
export async function checkConfiguration(file: string, env: Environment, options: CheckOptions = {}): Promise<CheckResult> {
  const result = await openConfiguration(file, env)
  return result.ok ? checkOpened(result.opened, env, options) : result
}

/** Reads `file`, translates it if need be, loads its user plugins. */
export async function openConfiguration(file: string, env: Environment): Promise<OpenResult> {
  const read = readSource(file, env)
  if (!read.ok) return { ok: false, errors: sortIssues(read.errors), warnings: [] }
  const issues = new IssueList(read.source)
  const { source, keepalive } = withKongEnvironment(read.source, env, issues)
  const registry = await buildRegistry(source, issues)
  const translated = translateSource(source, registry, keepalive)
  const warnings = [...issues.warnings, ...translated.warnings]
  if (!translated.ok) return { ok: false, errors: sortIssues([...issues.errors, ...translated.errors]), warnings: sortIssues(warnings) }
  const kong = isKongFile(source.value) ? source.value : null
  return { ok: true, opened: { source: translated.source, registry, kong, errors: issues.errors, warnings } }
}

/** Validates, merges and compiles what was opened. */
export function checkOpened(opened: OpenedConfiguration, env: Environment, options: CheckOptions = {}): CheckResult {
  const loaded = validateSource(opened.source, opened.registry, {
    builtin: builtinNames,
    environment: env,
    ...(options.alsoKnown !== undefined && { alsoKnown: options.alsoKnown }),
  })
  const warnings = sortIssues([...opened.warnings, ...loaded.warnings])
  if (!loaded.ok) {
    const errors = sortIssues([...opened.errors, ...loaded.errors, ...furtherErrors(loaded)])
    return { ok: false, errors, warnings }
  }
  const { config } = loaded
  if (opened.errors.length > 0) return { ok: false, errors: sortIssues(opened.errors), warnings }
  const settings = options.adjust === undefined ? config.process : options.adjust(config.process)
  const compiled = compileConfiguration(config, { rotorSlot: options.rotorSlot ?? (() => 0), process: settings })
  if (!compiled.ok) return { ok: false, errors: compiled.errors, warnings }
  return {
    ok: true,
    config,
    process: settings,
    compiled: compiled.compiled,
    consumers: compiled.consumers,
    limiters: compiled.limiters,
    state: compiled.state,
    warnings: sortIssues([...warnings, ...compiled.warnings]),
  }
}

const builtinNames: ReadonlySet<string> = new Set(builtinPlugins.map((plugin) => plugin.name))

/** The file with the variables of a Kong process laid over it; they count for files of our own form too. */
function withKongEnvironment(
  source: SourceDocument,
  env: Environment,
  issues: IssueList,
): { source: SourceDocument; keepalive: KongEnvironment['keepalive'] } {
  const root = source.value
  if (!Object.keys(kongVariables).some((name) => env[name] !== undefined)) return { source, keepalive: null }
  if (typeof root !== 'object' || root === null || Array.isArray(root)) return { source, keepalive: null }
  const section: unknown = Reflect.get(root, 'sluice')
  const admin: unknown = typeof section === 'object' && section !== null ? Reflect.get(section, 'admin') : undefined
  const { sluice, keepalive } = readKongEnvironment(env, admin !== undefined || Boolean(env['SLUICE_ADMIN_KEY']), issues)
  if (keepalive !== null && !isKongFile(root)) {
    issues.warn([], 'KONG_UPSTREAM_KEEPALIVE_* have no effect on a file that is not in the form of Kong', 'keepalive_pool of the upstreams')
  }
  if (Object.keys(sluice).length === 0) return { source, keepalive }
  const value = { ...root, sluice: overlaySluice(section, sluice) }
  return { source: source.translated(value, (path) => path), keepalive }
}

/**
 * What plugins would refuse in the parts that are right, so that one check shows all errors. Not tried when upstreams are wrong:
 * plugins that refer to them would be blamed for it.
 */
function furtherErrors(loaded: LoadResult): readonly ConfigIssue[] {
  if (loaded.ok || loaded.partial === undefined || loaded.errors.some((issue) => issue.path.startsWith('upstreams'))) return []
  const result = compileConfiguration(loaded.partial, { rotorSlot: () => 0 })
  return result.ok ? [] : result.errors
}

/** Built-in plugins and those of the file. A user plugin that does not load is an issue at its entry; the rest is checked all the same. */
async function buildRegistry(source: SourceDocument, issues: IssueList): Promise<PluginRegistry> {
  const user: Awaited<ReturnType<typeof loadUserPlugins>> = []
  for (const { index, file } of userPluginFiles(source.value, source.file)) {
    try {
      const [plugin] = await loadUserPlugins([file])
      const twice = user.some((other) => other.name === plugin?.name)
      if (twice) throw new UsageError(`${file}: the name "${plugin?.name}" is taken by another entry; expected a name of its own`)
      if (plugin !== undefined) user.push(plugin)
    } catch (error) {
      if (!(error instanceof UsageError)) throw error
      const [message = error.message, expected = ''] = error.message.split('; expected ')
      issues.error(['sluice', 'plugins', index], message, expected)
    }
  }
  return PluginRegistry.of([...builtinPlugins, ...user])
}
