/**
 * Checks of plugin confs: the plugin exists, its options fit its schema and its own rules, `_meta` is well-formed. A plugin that is
 * wrong is never left out: that is how a route would lose its protection unseen.
 */
import type { TObject } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { AnyPlugin } from '../plugins/plugin.js'
import type { PluginRegistry } from '../plugins/registry.js'
import { type PluginMeta, pluginMetaSchema } from '../schema/common.js'
import type { Json } from '../schema/compiled.js'
import { expressionProblem } from '../schema/expression.js'
import { knownPlugins } from '../schema/known-plugins.js'
import type { DocumentPath, IssueList, IssueOptions } from './load-issue.js'
import type { CheckedPlugin } from './load-types.js'
import { holdsReference, type ResolvedConf, type SecretResolver } from './secrets.js'
import { suggest } from './suggest.js'
import { checkSchema, schemaProblems } from './validate-schema.js'
import { unknownOptions } from './validate-unknown.js'

const none: ReadonlyMap<string, CheckedPlugin> = new Map()

export interface PluginChecks {
  readonly registry: PluginRegistry
  /** Names that the `plugins` list of the file allows; null = there is no list. */
  readonly enabled: ReadonlySet<string> | null
  readonly issues: IssueList
  readonly secrets: SecretResolver
}

/** Checks `plugins` of one resource. Confs that are wrong are reported and left out of the answer. */
export function checkPlugins(plugins: object | undefined, path: DocumentPath, checks: PluginChecks): ReadonlyMap<string, CheckedPlugin> {
  if (plugins === undefined) return none
  const checked = new Map<string, CheckedPlugin>()
  for (const [name, conf] of Object.entries(plugins)) {
    const at = [...path, name]
    const plugin = findPlugin(name, at, checks)
    if (plugin === null) continue
    const result = checkConf(plugin, plugin.name, asRecord(conf), at, checks)
    if (result !== null) checked.set(name, result)
  }
  return checked
}

/** The plugin of this name, or null with an issue that says why there is none. `atKey`: the name stands as a key of a map, not as a value. */
export function findPlugin(name: string, path: DocumentPath, checks: PluginChecks, atKey = true): AnyPlugin | null {
  const { registry, enabled, issues } = checks
  const plugin = registry.get(name)
  if (plugin !== undefined) {
    if (enabled === null || enabled.has(name)) return plugin
    issues.error(path, `plugin ${name} is not enabled`, 'its name in the top-level list `plugins`, or no such list', { atKey })
  } else if (knownPlugins.has(name)) {
    issues.error(path, `plugin ${name} is not supported yet`, `one of ${registry.names().join(', ')}`, { atKey })
  } else {
    const suggestion = suggest(name, [...registry.names(), ...knownPlugins])
    issues.error(path, `unknown plugin [${name}]`, 'the name of a plugin', { atKey, suggestion })
  }
  return null
}

/**
 * Checks one conf: references, schema, own rules of `definition` (of a plugin, or of its credentials), `_meta`. Null when there were
 * errors.
 */
export function checkConf(
  definition: Pick<AnyPlugin, 'schema' | 'check'>,
  name: string,
  raw: { readonly [name: string]: Json },
  path: DocumentPath,
  checks: PluginChecks,
): CheckedPlugin | null {
  const { _meta: rawMeta, ...own } = raw
  if (!holdsReference(own)) return checkResolved(definition, name, own, rawMeta, path, checks.issues)
  const resolved = checks.secrets.resolve(own)
  for (const problem of resolved.problems) checks.issues.error([...path, ...problem.path], problem.message, problem.expected)
  if (resolved.problems.length > 0) return null
  return checkResolved(definition, name, resolved.conf, rawMeta, path, new GuardedIssues(checks.issues, path, resolved.references))
}

/** A copy of plain data, all the way down. */
function copyOf<T extends { readonly [name: string]: Json }>(fields: T): { [name: string]: Json } {
  const copy: { [name: string]: Json } = {}
  for (const name in fields) {
    const value: Json | undefined = fields[name]
    // Also for the name `__proto__`, which assignment would not set.
    if (name === '__proto__') Object.defineProperty(copy, name, { value, enumerable: true, writable: true, configurable: true })
    else if (value !== undefined) copy[name] = copyOfValue(value)
  }
  return copy
}

function copyOfValue(value: Json): Json {
  if (typeof value !== 'object' || value === null) return value
  return Array.isArray(value) ? value.map(copyOfValue) : copyOf(asRecord(value))
}

/** Where the value came from a reference, what is wrong with it is said without it. */
class GuardedIssues {
  constructor(
    private readonly issues: IssueList,
    private readonly base: DocumentPath,
    private readonly references: ResolvedConf['references'],
  ) {}

  error(path: DocumentPath, message: string, expected: string, options: IssueOptions = {}): void {
    this.issues.error(path, this.guarded(path, message), expected, options)
  }

  warn(path: DocumentPath, message: string, expected: string, options: IssueOptions = {}): void {
    this.issues.warn(path, this.guarded(path, message), expected, options)
  }

  private guarded(path: DocumentPath, message: string): string {
    const below = path.slice(this.base.length)
    const reference = this.references.find(
      (one) => one.path.every((part, index) => part === below[index]) || message.includes(one.value.slice(0, SHOWN_LENGTH)),
    )
    return reference === undefined ? message : `the value of ${reference.text} does not fit`
  }
}

/** Texts of problems repeat no more of a value than this. */
const SHOWN_LENGTH = 40

type Issues = Pick<IssueList, 'error' | 'warn'>

function checkResolved(
  plugin: Pick<AnyPlugin, 'schema' | 'check'>,
  name: string,
  options: { [name: string]: Json },
  rawMeta: Json | undefined,
  path: DocumentPath,
  issues: Issues,
): CheckedPlugin | null {
  const meta = checkMeta(rawMeta, [...path, '_meta'], issues)
  const conf = checkOptions(plugin.schema, options, `plugin ${name}`, path, issues)
  if (conf === null) return null
  const problems = plugin.check(conf)
  for (const problem of problems) {
    const at = [...path, ...optionPath(problem.path)]
    if (problem.isWarning === true) issues.warn(at, problem.message, '', { atKey: true })
    else issues.error(at, problem.message, '')
  }
  if (meta === null || problems.some((problem) => problem.isWarning !== true)) return null
  return { name, conf, meta, path }
}

/** Checks options against the schema of a plugin: wrong ones are errors, unknown ones warnings. Null when there were errors. */
export function checkOptions(
  schema: TObject,
  given: { readonly [name: string]: Json },
  owner: string,
  path: DocumentPath,
  issues: Issues,
): Json | null {
  // Defaults are filled in: what was read stays as it was, because it is shown, stored and compared.
  const options = copyOf(given)
  for (const unknown of unknownOptions(schema, options)) {
    const at = [...path, ...unknown.path]
    issues.warn(at, `unknown option "${unknown.name}" of ${owner}, it has no effect`, unknown.expected, {
      atKey: true,
      suggestion: unknown.suggestion,
    })
  }
  // Unknown names are warnings whatever the schema says about additional properties.
  const problems = schemaProblems(schema, options, true).filter((problem) => problem.unknownName === undefined)
  for (const problem of problems) {
    issues.error([...path, ...problem.path], problem.message, problem.expected, { atKey: problem.atKey, suggestion: problem.suggestion })
  }
  if (problems.length > 0) return null
  // Ajv leaves defaults inside of unions alone.
  return Value.Default(schema, options) as Json
}

function checkMeta(raw: Json | undefined, path: DocumentPath, issues: Issues): PluginMeta | null {
  if (raw === undefined) return {}
  const record = asRecord(raw)
  if (record['pre_function'] !== undefined) {
    issues.error([...path, 'pre_function'], '_meta.pre_function (a Lua function) is not supported', 'no pre_function', { atKey: true })
    return null
  }
  if (!checkSchema<PluginMeta>(pluginMetaSchema, raw, path, issues)) return null
  if (raw.overridable === true && path[0] !== 'global_rules') {
    issues.error([...path, 'overridable'], 'overridable is for global rules', 'no overridable here', { atKey: true })
    return null
  }
  if (raw.filter === undefined) return raw
  const problem = expressionProblem(raw.filter as Json)
  if (problem === null) return raw
  issues.error([...path, 'filter'], problem, 'an expression such as [["arg_name", "==", "json"]]')
  return null
}

/** `headers.set[0]` or `rules.0.match` as path parts. */
export function optionPath(path: string): (string | number)[] {
  if (path === '') return []
  return path
    .replaceAll(/\[(\d+)\]/g, '.$1')
    .split('.')
    .map((part) => (/^\d+$/.test(part) ? Number(part) : part))
}

export function asRecord(value: unknown): { readonly [name: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as { [name: string]: Json }) : {}
}
