/**
 * The quick way for JSON files: `JSON.parse`, and a scanner that finds places in the text when an issue needs one.
 *
 * Everything that `JSON.parse` would let pass although it is an error here (repeated keys, variables that are not set, nesting that
 * ends a stack) is left to the YAML way, which knows how to say it: the result is then null.
 */
import { type Environment, retype, substitute } from './environment.js'
import type { DocumentPath } from './load-issue.js'
import type { Positions } from './load-positions.js'

/** Deeper files go the YAML way, which says where its own limit is. No configuration that makes sense comes near. */
const depthMax = 200

export interface ParsedText {
  readonly value: unknown
  readonly positions: Positions
}

/** The value of a JSON text and where its parts stand; null = not JSON, or something is wrong with it. */
export function parseJson(text: string, env: Environment): ParsedText | null {
  if (!/^[ \t\r\n]*[{[]/.test(text)) return null
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  const members = countMembers(text)
  if (members === null || members !== membersOf(value)) return null
  if (text.includes('${{')) {
    const filled = substituteIn(value, env)
    if (filled === failed) return null
    value = filled
  }
  return { value, positions: new JsonPositions(text) }
}

/** Members of all objects as they are written, those that repeat a key included; null when the nesting is too deep. */
function countMembers(text: string): number | null {
  let members = 0
  let depth = 0
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 34 /* " */:
        at = endOfString(text, at) - 1
        break
      case 58 /* : */:
        members++
        break
      case 91 /* [ */:
      case 123 /* { */:
        if (++depth > depthMax) return null
        break
      case 93 /* ] */:
      case 125 /* } */:
        depth--
        break
    }
  }
  return members
}

/** Members of all objects as they arrived: a repeated key is there once. */
function membersOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  const children: unknown[] = Array.isArray(value) ? value : Object.values(value)
  let members = Array.isArray(value) ? 0 : children.length
  for (const child of children) members += membersOf(child)
  return members
}

const failed = Symbol('substitution failed')

/** The value with references filled in, in place; `failed` when one cannot be, or stands in a key. */
function substituteIn(value: unknown, env: Environment): unknown {
  if (typeof value === 'string') {
    if (!value.includes('${{')) return value
    const filled = substitute(value, env)
    if (filled.problems.length > 0) return failed
    return isWholeReference(value) ? retype(filled.text) : filled.text
  }
  if (typeof value !== 'object' || value === null) return value
  for (const [key, child] of Object.entries(value)) {
    if (key.includes('${{')) return failed
    const filled = substituteIn(child, env)
    if (filled === failed) return failed
    // Not by assignment, which means something else for the key `__proto__`.
    if (filled !== child) Object.defineProperty(value, key, { value: filled, writable: true, enumerable: true, configurable: true })
  }
  return value
}

/** A text that is one reference and nothing else: in JSON, where every text is quoted, it stands for a value of any type. */
export function isWholeReference(text: string): boolean {
  return /^\$\{\{[^}]*\}\}$/.test(text)
}

interface Members {
  /** null = an array. */
  readonly keys: string[] | null
  readonly keyStarts: number[]
  readonly valueStarts: number[]
}

/** Finds parts by scanning; each object or array on the way is scanned once. The text must be valid JSON. */
class JsonPositions implements Positions {
  private readonly known = new Map<number, Members>()

  constructor(private readonly text: string) {}

  offsetOf(path: DocumentPath, atKey: boolean): number {
    let offset = skipSpace(this.text, 0)
    for (const [index, part] of path.entries()) {
      const members = this.membersAt(offset)
      if (members === null) break
      const found = members.keys === null ? Number(part) : members.keys.indexOf(String(part))
      const value = members.valueStarts[found]
      if (value === undefined) break
      const isLast = index === path.length - 1
      offset = isLast && atKey ? (members.keyStarts[found] ?? value) : value
    }
    return offset
  }

  /** null = neither object nor array. */
  private membersAt(start: number): Members | null {
    const first = this.text.charCodeAt(start)
    if (first !== 123 /* { */ && first !== 91 /* [ */) return null
    let members = this.known.get(start)
    if (members === undefined) {
      members = scanMembers(this.text, start)
      this.known.set(start, members)
    }
    return members
  }
}

function scanMembers(text: string, start: number): Members {
  const isObject = text.charCodeAt(start) === 123
  const members: Members = { keys: isObject ? [] : null, keyStarts: [], valueStarts: [] }
  let at = skipSpace(text, start + 1)
  while (at < text.length && text.charCodeAt(at) !== 125 /* } */ && text.charCodeAt(at) !== 93 /* ] */) {
    if (members.keys !== null) {
      const end = endOfString(text, at)
      members.keys.push(String(JSON.parse(text.slice(at, end))))
      members.keyStarts.push(at)
      at = skipSpace(text, skipSpace(text, end) + 1)
    }
    members.valueStarts.push(at)
    at = skipSpace(text, endOfValue(text, at))
    if (text.charCodeAt(at) === 44 /* , */) at = skipSpace(text, at + 1)
  }
  return members
}

function skipSpace(text: string, from: number): number {
  let at = from
  while (at < text.length && text.charCodeAt(at) <= 32) at++
  return at
}

function endOfValue(text: string, from: number): number {
  let depth = 0
  for (let at = from; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 34 /* " */:
        at = endOfString(text, at) - 1
        if (depth === 0) return at + 1
        break
      case 91 /* [ */:
      case 123 /* { */:
        depth++
        break
      case 93 /* ] */:
      case 125 /* } */:
        // Of the container around a number or word, if nothing was opened here.
        if (depth === 0) return at
        if (--depth === 0) return at + 1
        break
      case 44 /* , */:
        if (depth === 0) return at
        break
    }
  }
  return text.length
}

/** Behind the closing quote of the string that begins at `from`. */
function endOfString(text: string, from: number): number {
  for (let quote = text.indexOf('"', from + 1); quote !== -1; quote = text.indexOf('"', quote + 1)) {
    let backslashes = 0
    while (text.charCodeAt(quote - 1 - backslashes) === 92) backslashes++
    if (backslashes % 2 === 0) return quote + 1
  }
  return text.length
}
