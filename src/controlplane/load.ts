/** Loads a configuration file: read, parse with positions, substitute the environment, validate. Runs in the primary thread. */
import { readFileSync } from 'node:fs'
import { wallMs } from '../base/clock.js'
import type { PluginRegistry } from '../plugins/registry.js'
import type { Environment } from './environment.js'
import { importKong, isKongFile } from './import-kong/import-kong.js'
import { type ConfigIssue, IssueList, sortIssues } from './load-issue.js'
import { SourceDocument, type SourceResult } from './load-source.js'
import type { LoadResult } from './load-types.js'
import { type ValidateOptions, validateDocument } from './validate.js'

export { type ConfigIssue, formatIssue } from './load-issue.js'
export type { LoadedConfig, LoadResult } from './load-types.js'

export interface LoadOptions {
  /** Names of the plugins that come with the gateway; default: all of the registry. */
  readonly builtin?: ReadonlySet<string>
  /** `keepalive_pool` of the upstreams of a Kong file. */
  readonly keepalive?: { [name: string]: unknown } | null
  /** Wall clock, milliseconds since the epoch; default: now. */
  readonly nowMs?: number
  /** What references to secrets (`$env://NAME`) are resolved from; default: nothing. */
  readonly environment?: Environment
  /** See ValidateOptions. */
  readonly alsoKnown?: ValidateOptions['alsoKnown']
}

/** Reads and validates `file`. Never throws for what stands in the file, nor for a file that cannot be read. */
export function loadConfiguration(file: string, env: Environment, registry: PluginRegistry, options: LoadOptions = {}): LoadResult {
  const source = readSource(file, env)
  return source.ok
    ? loadSource(source.source, registry, { environment: env, ...options })
    : { ok: false, errors: sortIssues(source.errors), warnings: [] }
}

/** Validates a document that was read before; a Kong declarative file is translated first. */
export function loadSource(source: SourceDocument, registry: PluginRegistry, options: LoadOptions = {}): LoadResult {
  const translated = translateSource(source, registry, options.keepalive ?? null)
  if (!translated.ok) return translated
  const result = validateSource(translated.source, registry, options)
  return { ...result, warnings: sortIssues([...translated.warnings, ...result.warnings]) }
}

export type TranslateResult =
  | { readonly ok: true; readonly source: SourceDocument; readonly warnings: readonly ConfigIssue[] }
  | { readonly ok: false; readonly errors: readonly ConfigIssue[]; readonly warnings: readonly ConfigIssue[] }

/** The document in our own form: a Kong declarative file is translated, anything else is left as it is. */
export function translateSource(
  source: SourceDocument,
  registry: PluginRegistry,
  keepalive: { [name: string]: unknown } | null,
): TranslateResult {
  if (!isKongFile(source.value)) return { ok: true, source, warnings: [] }
  const issues = new IssueList(source)
  const { value, originOf } = importKong(source.value, registry, issues, keepalive)
  const warnings = sortIssues(issues.warnings)
  if (issues.errors.length > 0) return { ok: false, errors: sortIssues(issues.errors), warnings }
  return { ok: true, source: source.translated(value, originOf), warnings }
}

/** Validates a document of our own form. */
export function validateSource(source: SourceDocument, registry: PluginRegistry, options: LoadOptions = {}): LoadResult {
  return validateDocument(source, {
    registry,
    builtin: options.builtin ?? new Set(registry.names()),
    nowMs: options.nowMs ?? wallMs(),
    environment: options.environment ?? {},
    ...(options.alsoKnown !== undefined && { alsoKnown: options.alsoKnown }),
  })
}

/** Reads and parses `file`; a file that cannot be read is one issue without a line. */
export function readSource(file: string, env: Environment): SourceResult {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file))
  } catch (error) {
    return { ok: false, errors: [unreadable(file, error)] }
  }
  return SourceDocument.parse(file, text, env)
}

const reasons: { readonly [code: string]: string } = {
  ENOENT: 'the file does not exist',
  EACCES: 'no permission to read the file',
  EISDIR: 'it is a folder, not a file',
  ERR_ENCODING_INVALID_ENCODED_DATA: 'the file is not UTF-8 text',
}

function unreadable(file: string, error: unknown): ConfigIssue {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const message = reasons[code] ?? `the file cannot be read (${code === '' ? String(error) : code})`
  return { file, line: 0, col: 0, path: '', message, expected: 'a readable YAML or JSON file' }
}
