/**
 * YAML in two ways that give the same: the text as one document, and, for large files, in parts.
 *
 * A document is parsed to tokens, then nodes, then values, and all of them live until the end: with 100,000 routes that is over a
 * gigabyte, and most of the time goes into collecting it. In parts, the long lists at the top of the file (`routes:` with its items)
 * are read some items at a time and forgotten: by the quick reader of load-simple where that is sure of them, else by the YAML parser.
 * An issue parses its item again to find its place.
 *
 *   routes:            ┐ frame: the text without the items,
 *     - id: a   ┐      │ in which `routes` is null
 *     - id: b   ┘ part │
 *   upstreams:         ┘
 *
 * Parts are only used where they must mean the same as the whole: no anchors, aliases or document markers anywhere, no error in any
 * part. Otherwise the result is null, and the whole document decides and reports.
 */
import { type Document, isMap, isScalar, isSeq, type ParsedNode, parseDocument, Scalar, visit } from 'yaml'
import { type Environment, retype, substitute } from './environment.js'
import type { DocumentPath } from './load-issue.js'
import { isWholeReference, type ParsedText } from './load-json.js'
import { offsetBelow, type Positions, startOf } from './load-positions.js'
import { notSimple, readSimpleList } from './load-simple.js'

/** Text of one part, about: so small that few other items share the fate of one that is not simple, and garbage stays young. */
const partLength = 4_096
/** Shorter texts are parsed whole. */
const splitFrom = 65_536

export type ReportAt = (offset: number, message: string, expected: string) => void

/** Parses one YAML document; errors are in its `errors`, as offsets. */
export function parseYaml(text: string): Document.Parsed {
  return parseDocument(text, { prettyErrors: false, uniqueKeys: true, merge: true, logLevel: 'error' })
}

/**
 * Substitutes in keys and values. Unquoted values that look like a number or a boolean afterwards become one; so do whole references
 * in JSON, where every text is quoted. Quoted YAML texts stay texts, which is how a numeric password is written.
 */
export function substituteAll(document: Document, text: string, env: Environment, report: ReportAt): void {
  if (!text.includes('${{')) return
  const isJson = /^\s*[{[]/.test(text)
  visit(document, {
    Scalar(key, node) {
      if (typeof node.value !== 'string' || !node.value.includes('${{')) return
      const filled = substitute(node.value, env)
      for (const problem of filled.problems) report(startOf(node) ?? 0, problem.message, problem.expected)
      const bare = node.type === Scalar.PLAIN || (isJson && isWholeReference(node.value))
      node.value = bare && key !== 'key' ? retype(filled.text) : filled.text
    },
  })
}

/** The items of a list at the top of the file. */
interface Section {
  readonly key: string
  /** Offset of the first line of each item, and where the last item ends. */
  readonly bounds: readonly number[]
}

/** The value of a large text and where its parts stand; null = parse it whole. `options` are for tests. */
export function parseYamlInParts(
  text: string,
  env: Environment,
  options: { readonly splitFrom: number; readonly partLength: number } = { splitFrom, partLength },
): ParsedText | null {
  if (text.length < options.splitFrom || mayNotBeSplit.test(text)) return null
  const sections = findSections(text)
  if (sections.length === 0) return null
  const frame = new Frame(text, sections)
  const document = parsePart(frame.text, env)
  if (document === null || !isMap(document.contents)) return null
  const value: unknown = document.toJS()
  for (const section of sections) {
    if (!holdsNull(document.contents, section.key)) return null
    const items = parseItems(text, section, env, options.partLength)
    if (items === null) return null
    Object.assign(value as object, { [section.key]: items })
  }
  return { value, positions: new PartPositions(text, env, frame, document, sections) }
}

/** Anchors, aliases (or what looks like one), merge keys, directives and document markers: what reaches over the borders of a part. */
const mayNotBeSplit = /(?:^|[\s,[{:?-])(?:[&*][^\s,[\]{}]|<<)|^(?:---|\.\.\.|%)/m

const sectionHead = /^([A-Za-z_][\w-]*):[ \t]*(?:#.*)?\r?\n(?:[ \t]*(?:#.*)?\r?\n)*(?=( *)-[ \t\r\n])/gm

function findSections(text: string): Section[] {
  const sections: Section[] = []
  sectionHead.lastIndex = 0
  for (let head = sectionHead.exec(text); head !== null; head = sectionHead.exec(text)) {
    const [, key = '', indentation = ''] = head
    const section = { key, bounds: findItems(text, sectionHead.lastIndex, indentation.length) }
    sections.push(section)
    sectionHead.lastIndex = section.bounds.at(-1) ?? text.length
  }
  return sections
}

/** Lines from `start` on that begin an item at this indentation, until a line at the left margin that does not. */
function findItems(text: string, start: number, indentation: number): number[] {
  const bounds: number[] = []
  let line = start
  while (line < text.length) {
    let at = line
    while (text.charCodeAt(at) === 32 /* space */) at++
    const code = text.charCodeAt(at)
    const isItem = code === 45 /* - */ && at - line === indentation && isSpaceOrEnd(text.charCodeAt(at + 1))
    if (isItem) bounds.push(line)
    else if (at === line && code !== 35 /* # */ && code !== 10 && code !== 13) break
    const end = text.indexOf('\n', at)
    line = end === -1 ? text.length : end + 1
  }
  bounds.push(line)
  return bounds
}

function isSpaceOrEnd(code: number): boolean {
  return Number.isNaN(code) || code === 32 || code === 9 || code === 10 || code === 13
}

/** The text without the items of sections, and the way back to offsets of the whole text. */
class Frame {
  readonly text: string
  private readonly pieces: { readonly at: number; readonly from: number }[] = []

  constructor(whole: string, sections: readonly Section[]) {
    let text = ''
    let from = 0
    for (const { bounds } of sections) {
      this.pieces.push({ at: text.length, from })
      text += whole.slice(from, bounds[0])
      from = bounds.at(-1) ?? whole.length
    }
    this.pieces.push({ at: text.length, from })
    this.text = text + whole.slice(from)
  }

  toWhole(offset: number): number {
    const piece = this.pieces.findLast((candidate) => candidate.at <= offset)
    return piece === undefined ? offset : piece.from + offset - piece.at
  }
}

/** A part as a document with its references filled in; null when anything is wrong with it. */
function parsePart(text: string, env: Environment): Document.Parsed | null {
  const document = parseYaml(text)
  if (document.errors.length > 0) return null
  let problems = 0
  substituteAll(document, text, env, () => problems++)
  return problems === 0 ? document : null
}

function holdsNull(contents: ParsedNode, key: string): boolean {
  if (!isMap(contents)) return false
  const pair = contents.items.find((candidate) => isScalar(candidate.key) && candidate.key.value === key)
  return pair !== undefined && (pair.value === null || (isScalar(pair.value) && pair.value.value === null))
}

function parseItems(text: string, { bounds }: Section, env: Environment, length: number): unknown[] | null {
  const items: unknown[] = []
  const count = bounds.length - 1
  for (let first = 0; first < count; ) {
    const start = bounds[first] ?? 0
    let next = first + 1
    while (next < count && (bounds[next] ?? 0) - start < length) next++
    const part = readPart(text.slice(start, bounds[next]), env)
    // A line that looked like an item but is none, in a text of several lines for instance, would shift all others.
    if (part === null || part.length !== next - first) return null
    items.push(...part)
    first = next
  }
  return items
}

/** The items of one part; null when anything is wrong with it. */
function readPart(text: string, env: Environment): unknown[] | null {
  const simple = readSimpleList(text)
  if (simple !== notSimple) return simple
  const document = parsePart(text, env)
  return document !== null && isSeq(document.contents) ? (document.toJS() as unknown[]) : null
}

class PartPositions implements Positions {
  constructor(
    private readonly text: string,
    private readonly env: Environment,
    private readonly frame: Frame,
    private readonly document: Document,
    private readonly sections: readonly Section[],
  ) {}

  offsetOf(path: DocumentPath, atKey: boolean): number {
    const section = this.sections.find(({ key }) => key === path[0])
    if (section === undefined || (atKey && path.length === 1)) {
      return this.frame.toWhole(offsetBelow(this.document, this.document.contents, path, atKey) ?? 0)
    }
    const { bounds } = section
    const index = Number(path[1])
    const start = path.length > 1 ? bounds[index] : undefined
    const end = bounds[index + 1]
    if (start === undefined || end === undefined) return this.text.indexOf('-', bounds[0])
    const text = this.text.slice(start, end)
    const item = parseYaml(text)
    // For keys that are references: paths name them as they are after substitution. Problems were excluded when the item was read.
    substituteAll(item, text, this.env, () => {})
    return start + (offsetBelow(item, item.contents, [0, ...path.slice(2)], atKey) ?? 0)
  }
}
