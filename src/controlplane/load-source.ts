/**
 * A configuration file as a plain value that remembers where each part of it stood.
 *
 * YAML 1.2 (JSON is a part of it) by the `yaml` package. Positions are looked up in its document only when an issue needs one, so a
 * file without problems pays for parsing alone. Runs in the primary thread; reads nothing but the text it is given.
 */
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, Scalar, visit } from 'yaml'
import { type Environment, retype, substitute } from './environment.js'
import type { ConfigIssue, DocumentPath } from './load-issue.js'

export interface Position {
  readonly line: number
  readonly col: number
}

/** Expansions of aliases in one file; more is taken for an attack on memory. */
const maxAliasCount = 1_000

export type SourceResult =
  | { readonly ok: true; readonly source: SourceDocument }
  | { readonly ok: false; readonly errors: readonly ConfigIssue[] }

export class SourceDocument {
  private constructor(
    readonly file: string,
    /** The document as plain data, after substitution. */
    readonly value: unknown,
    private readonly document: Document,
    private readonly lines: LineCounter,
  ) {}

  /** Parses `text`. Syntax errors, repeated keys, alias bombs and unset environment variables come back as issues, all of them. */
  static parse(file: string, text: string, env: Environment): SourceResult {
    try {
      return SourceDocument.parseText(file, text, env)
    } catch (error) {
      // The parser recurses: nesting of some thousand levels ends its stack.
      const reason = error instanceof RangeError ? 'it is nested too deeply' : String(error)
      return {
        ok: false,
        errors: [{ file, line: 0, col: 0, path: '', message: `the file cannot be parsed: ${reason}`, expected: 'valid YAML or JSON' }],
      }
    }
  }

  private static parseText(file: string, text: string, env: Environment): SourceResult {
    const lines = new LineCounter()
    const errors: ConfigIssue[] = []
    const at = (offset: number, message: string, expected: string, path = ''): void => {
      const { line, col } = lines.linePos(offset)
      errors.push({ file, line, col, path, message, expected })
    }
    const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true, merge: true, logLevel: 'error' })
    for (const problem of document.errors) at(problem.pos[0], syntaxMessage(problem.code, problem.message), syntaxAdvice(problem.code))
    if (errors.length > 0) return { ok: false, errors }
    substituteAll(document, text, env, at)
    if (errors.length > 0) return { ok: false, errors }
    try {
      const value: unknown = document.toJS({ maxAliasCount })
      return { ok: true, source: new SourceDocument(file, value, document, lines) }
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      at(0, `aliases cannot be resolved: ${reason}`, `at most ${maxAliasCount} expansions of aliases that point backwards`)
      return { ok: false, errors }
    }
  }

  /** Place of the value at `path`, or of its key; when a part is not there, the place of the nearest part above it. */
  locate(path: DocumentPath, atKey = false): Position {
    let node: unknown = this.document.contents
    let offset = startOf(node)
    for (const [index, part] of path.entries()) {
      const step = this.step(node, part)
      if (step === null) break
      const last = index === path.length - 1
      offset = (last && atKey ? startOf(step.key) : startOf(step.value)) ?? startOf(step.key) ?? offset
      node = step.value
    }
    return this.lines.linePos(offset ?? 0)
  }

  private step(from: unknown, part: string | number): { key: unknown; value: unknown } | null {
    const node = isAlias(from) ? from.resolve(this.document) : from
    if (isSeq(node)) {
      const value = node.items[Number(part)]
      return value === undefined ? null : { key: value, value }
    }
    if (!isMap(node)) return null
    for (const pair of node.items) {
      const key = isScalar(pair.key) ? pair.key.value : pair.key
      if (String(key) === String(part)) return { key: pair.key, value: pair.value ?? pair.key }
    }
    return null
  }
}

function startOf(node: unknown): number | undefined {
  const range = (isScalar(node) || isMap(node) || isSeq(node) || isAlias(node)) && node.range
  return range ? range[0] : undefined
}

type Report = (offset: number, message: string, expected: string, path?: string) => void

/**
 * Substitutes in keys and values. Unquoted values that look like a number or a boolean afterwards become one; so do whole references
 * in JSON, where every text is quoted. Quoted YAML texts stay texts, which is how a numeric password is written.
 */
function substituteAll(document: Document, text: string, env: Environment, at: Report): void {
  if (!text.includes('${{')) return
  const isJson = /^\s*[{[]/.test(text)
  visit(document, {
    Scalar(key, node) {
      if (typeof node.value !== 'string' || !node.value.includes('${{')) return
      const filled = substitute(node.value, env)
      for (const problem of filled.problems) at(startOf(node) ?? 0, problem.message, problem.expected)
      const bare = node.type === Scalar.PLAIN || (isJson && /^\$\{\{[^}]*\}\}$/.test(node.value))
      node.value = bare && key !== 'key' ? retype(filled.text) : filled.text
    },
  })
}

function syntaxMessage(code: string, message: string): string {
  if (code === 'DUPLICATE_KEY') return 'the key is there twice'
  if (code === 'TAB_AS_INDENT') return 'a tab is used as indentation'
  if (code === 'MULTIPLE_DOCS') return 'the file holds several YAML documents'
  return `YAML syntax error: ${message.replace(/\s+/g, ' ').trim()}`
}

function syntaxAdvice(code: string): string {
  if (code === 'DUPLICATE_KEY') return 'every key once per map'
  if (code === 'TAB_AS_INDENT') return 'spaces'
  if (code === 'MULTIPLE_DOCS') return 'one document per file'
  return 'valid YAML or JSON'
}
