/** What is wrong with a configuration, and where: the one form in which problems travel from any check to the user. */
import type { SourceDocument } from './load-source.js'

export interface ConfigIssue {
  readonly file: string
  /** Counted from 1; 0 = the file as a whole. */
  readonly line: number
  readonly col: number
  /** Path in the document, `routes[0].plugins.cors.max_age`; empty = the whole document. */
  readonly path: string
  /** What was found. Never holds values of secret-like options. */
  readonly message: string
  /** What would be right. */
  readonly expected: string
  /** The name that was probably meant. */
  readonly suggestion?: string
}

export type DocumentPath = readonly (string | number)[]

/** One line: `file:line:col: path: message; expected …; did you mean …`. Parts that are empty are left out. */
export function formatIssue(issue: ConfigIssue): string {
  const place = issue.line > 0 ? `${issue.file}:${issue.line}:${issue.col}` : issue.file
  const path = issue.path === '' ? '' : ` ${issue.path}:`
  const expected = issue.expected === '' ? '' : `; expected ${issue.expected}`
  const suggestion = issue.suggestion === undefined ? '' : `; did you mean "${issue.suggestion}"?`
  return `${place}:${path} ${issue.message}${expected}${suggestion}`
}

export function formatPath(path: DocumentPath): string {
  let text = ''
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`
    else if (/^[\w-]+$/.test(part)) text += text === '' ? part : `.${part}`
    else text += `[${JSON.stringify(part)}]`
  }
  return text
}

/** The path that `formatPath` wrote. Names that are digits come back as numbers. */
export function parsePath(text: string): DocumentPath {
  const parts: (string | number)[] = []
  for (const [, index, quoted, name] of text.matchAll(/\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]|\.?([\w-]+)/g)) {
    if (index !== undefined) parts.push(Number(index))
    else parts.push(quoted === undefined ? (name ?? '') : String(JSON.parse(quoted)))
  }
  return parts
}

export interface IssueOptions {
  /** Point at the key instead of the value. */
  readonly atKey?: boolean
  readonly suggestion?: string | undefined
}

/** Errors and warnings kept, of each: more are of one kind, and finding the place of a million would take hours. */
const ISSUES_MAX = 1_000

/** Collects the issues of one document, with positions. */
export class IssueList {
  readonly errors: ConfigIssue[] = []
  readonly warnings: ConfigIssue[] = []

  constructor(private readonly source: SourceDocument) {}

  error(path: DocumentPath, message: string, expected: string, options: IssueOptions = {}): void {
    if (this.errors.length < ISSUES_MAX) this.errors.push(this.issue(path, message, expected, options))
  }

  warn(path: DocumentPath, message: string, expected: string, options: IssueOptions = {}): void {
    if (this.warnings.length < ISSUES_MAX) this.warnings.push(this.issue(path, message, expected, options))
  }

  private issue(path: DocumentPath, message: string, expected: string, options: IssueOptions): ConfigIssue {
    const { line, col } = this.source.locate(path, options.atKey === true)
    const issue = { file: this.source.file, line, col, path: formatPath(this.source.originOf(path)), message, expected }
    return options.suggestion === undefined ? issue : { ...issue, suggestion: options.suggestion }
  }
}

/** Issues in the order of the file; equal places keep the order of the checks. Repeated ones are left out. */
export function sortIssues(issues: readonly ConfigIssue[]): ConfigIssue[] {
  const seen = new Set<string>()
  return issues
    .filter((issue) => {
      const text = formatIssue(issue)
      return seen.has(text) ? false : seen.add(text)
    })
    .sort((a, b) => a.line - b.line || a.col - b.col)
}
