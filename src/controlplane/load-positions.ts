/** Places in a configuration text: from an offset to line and column, and from a path to the offset of a YAML node. */
import { type Document, isAlias, isMap, isScalar, isSeq } from 'yaml'
import type { DocumentPath } from './load-issue.js'

export interface Position {
  readonly line: number
  readonly col: number
}

/** Finds the parts of one text. Asked only when there is something to report, so an implementation may work late and then remember. */
export interface Positions {
  /** Offset of the value at `path`, or of its key; when a part is not there, of the nearest part above it. */
  offsetOf(path: DocumentPath, atKey: boolean): number
}

/** Lines of a text, found when first asked for. */
export class LineIndex {
  private starts: number[] | null = null

  constructor(private readonly text: string) {}

  /** Line and column, both from 1; columns count UTF-16 code units. */
  position(offset: number): Position {
    this.starts ??= lineStarts(this.text)
    let low = 0
    let high = this.starts.length
    while (high - low > 1) {
      const middle = (low + high) >> 1
      if ((this.starts[middle] ?? 0) <= offset) low = middle
      else high = middle
    }
    return { line: low + 1, col: offset - (this.starts[low] ?? 0) + 1 }
  }
}

function lineStarts(text: string): number[] {
  const starts = [0]
  for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n', end + 1)) starts.push(end + 1)
  return starts
}

/** Positions by the nodes of a YAML document that was parsed from the whole text. */
export class YamlPositions implements Positions {
  constructor(private readonly document: Document) {}

  offsetOf(path: DocumentPath, atKey: boolean): number {
    return offsetBelow(this.document, this.document.contents, path, atKey) ?? 0
  }
}

/** Offset, in the text of `document`, of what lies at `path` below `root`; undefined only when `root` itself has no place. */
export function offsetBelow(document: Document, root: unknown, path: DocumentPath, atKey: boolean): number | undefined {
  let node = root
  let offset = startOf(node)
  for (const [index, part] of path.entries()) {
    const next = step(document, node, part)
    if (next === null) break
    const last = index === path.length - 1
    offset = (last && atKey ? startOf(next.key) : startOf(next.value)) ?? startOf(next.key) ?? offset
    node = next.value
  }
  return offset
}

function step(document: Document, from: unknown, part: string | number): { key: unknown; value: unknown } | null {
  const node = isAlias(from) ? from.resolve(document) : from
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

/** Where a YAML node begins in the text that its document was parsed from. */
export function startOf(node: unknown): number | undefined {
  const range = (isScalar(node) || isMap(node) || isSeq(node) || isAlias(node)) && node.range
  return range ? range[0] : undefined
}
