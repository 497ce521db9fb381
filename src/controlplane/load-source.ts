/**
 * A configuration file as a plain value that remembers where each part of it stood.
 *
 * YAML 1.2 (JSON is a part of it) by the `yaml` package. That package is exact but slow, so there are two quicker ways to the same value
 * and the same places: `JSON.parse` for JSON (load-json), and parsing in parts for large YAML (load-yaml). Whatever is wrong with a file
 * is found and said by the one way that reads it whole. Runs in the primary thread; reads nothing but the text it is given.
 */
import type { Environment } from './environment.js'
import type { ConfigIssue, DocumentPath } from './load-issue.js'
import { parseJson } from './load-json.js'
import { LineIndex, type Position, type Positions, YamlPositions } from './load-positions.js'
import { parseYaml, parseYamlInParts, substituteAll } from './load-yaml.js'

export type { Position } from './load-positions.js'

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
    private readonly positions: Positions,
    private readonly lines: LineIndex,
    /** Path in the file of a path in `value`; they differ when the value was translated. */
    readonly originOf: (path: DocumentPath) => DocumentPath = (path) => path,
  ) {}

  /** The same file read as another value. `originOf` says where in the file a part of the new value comes from. */
  translated(value: unknown, originOf: (path: DocumentPath) => DocumentPath): SourceDocument {
    return new SourceDocument(this.file, value, this.positions, this.lines, (path) => this.originOf(originOf(path)))
  }

  /** Parses `text`. Syntax errors, repeated keys, alias bombs and unset environment variables come back as issues, all of them. */
  static parse(file: string, text: string, env: Environment): SourceResult {
    try {
      const quick = parseJson(text, env) ?? parseYamlInParts(text, env)
      if (quick !== null) return { ok: true, source: new SourceDocument(file, quick.value, quick.positions, new LineIndex(text)) }
      return SourceDocument.parseWhole(file, text, env)
    } catch (error) {
      // The parser recurses: nesting of some thousand levels ends its stack.
      const reason = error instanceof RangeError ? 'it is nested too deeply' : String(error)
      return {
        ok: false,
        errors: [{ file, line: 0, col: 0, path: '', message: `the file cannot be parsed: ${reason}`, expected: 'valid YAML or JSON' }],
      }
    }
  }

  /** The same by the exact way alone: what the quicker ways are compared with. */
  static parseWhole(file: string, text: string, env: Environment): SourceResult {
    const lines = new LineIndex(text)
    const errors: ConfigIssue[] = []
    const at = (offset: number, message: string, expected: string): void => {
      const { line, col } = lines.position(offset)
      errors.push({ file, line, col, path: '', message, expected })
    }
    const document = parseYaml(text)
    for (const problem of document.errors) at(problem.pos[0], syntaxMessage(problem.code, problem.message), syntaxAdvice(problem.code))
    if (errors.length > 0) return { ok: false, errors }
    substituteAll(document, text, env, at)
    if (errors.length > 0) return { ok: false, errors }
    try {
      const value: unknown = document.toJS({ maxAliasCount })
      return { ok: true, source: new SourceDocument(file, value, new YamlPositions(document), lines) }
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      at(0, `aliases cannot be resolved: ${reason}`, `at most ${maxAliasCount} expansions of aliases that point backwards`)
      return { ok: false, errors }
    }
  }

  /** Place of the value at `path`, or of its key; when a part is not there, the place of the nearest part above it. */
  locate(path: DocumentPath, atKey = false): Position {
    return this.lines.position(this.positions.offsetOf(this.originOf(path), atKey))
  }
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
