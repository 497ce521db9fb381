/** What the index of routes (router-index) is made of. */
import type { CompiledRoute } from '../schema/compiled.js'
import { readHostPattern } from '../schema/uri-pattern.js'
import { anyMethod, methodBits, Space } from '../shared/router-tables.js'

/** What a route offers for one pattern (in one host bucket). */
export interface Candidate {
  readonly route: number
  /** Decides between routes that are equal otherwise, smaller first. */
  readonly order: number
  readonly priority: number
  /** Length of the pattern as written. */
  readonly length: number
  readonly methods: number
  readonly flags: number
  /** Checked one by one, in modes that do not begin with the host. */
  readonly hosts: readonly { readonly flags: number; readonly text: string }[] | null
  readonly names: readonly string[] | null
}

/** A text that is looked up. */
export interface Key {
  readonly space: number
  readonly text: string
  readonly hash: number
  /** Null = it leads to `node`. */
  readonly candidates: Candidate[] | null
  readonly node: number
}

/** A host bucket, or a node of the trie. Maps are made on first use: most of 100,000 nodes have few. */
export class Node {
  exact: Map<string, Key> | null = null
  children: Map<string, Key> | null = null
  prefixes: Map<string, Key> | null = null
  lengths: Lengths | null = null
  /** Patterns that end at this trie node. */
  own: Candidate[] = nobody
  tail: Candidate[] = nobody
  param = -1

  get isEmpty(): boolean {
    return (
      this.param < 0 &&
      this.own.length === 0 &&
      this.tail.length === 0 &&
      (this.exact?.size ?? 0) + (this.children?.size ?? 0) + (this.prefixes?.size ?? 0) === 0
    )
  }
}

export const nobody: Candidate[] = []
Object.freeze(nobody)

/** Lengths of texts, each with a mask of the characters that these begin or end with. */
export class Lengths {
  private readonly known = new Map<number, { count: number; mask: number }>()

  constructor(private readonly edge: 'first' | 'last') {}

  add(text: string): void {
    const code = text.charCodeAt(this.edge === 'last' ? text.length - 1 : 0)
    const bit = 1 << (code & 31)
    const one = this.known.get(text.length)
    if (one === undefined) this.known.set(text.length, { count: 1, mask: bit })
    else {
      one.count++
      one.mask |= bit
    }
  }

  /** The mask keeps the bit: it only says what is worth looking up. */
  remove(text: string): void {
    const one = this.known.get(text.length)
    if (one !== undefined && --one.count === 0) this.known.delete(text.length)
  }

  /** [length, mask] ..., longest first. */
  list(): number[] {
    return [...this.known.keys()].sort((a, b) => b - a).flatMap((length) => [length, this.known.get(length)?.mask ?? 0])
  }
}

/** Takes the candidate of the route at this place out of the list. */
export function withdraw(list: Candidate[], place: number): void {
  const index = list.findIndex((candidate) => candidate.route === place)
  if (index >= 0) list.splice(index, 1)
}

/** Where a host is looked up. */
export function hostKey(host: string): { space: number; text: string } {
  const { text, isSuffix, withPort } = readHostPattern(host)
  const space = withPort ? (isSuffix ? Space.hostSuffixWithPort : Space.hostExactWithPort) : isSuffix ? Space.hostSuffix : Space.hostExact
  return { space, text }
}

export function methodMask(route: CompiledRoute): number {
  if (route.methods.length === 0) return anyMethod
  let mask = 0
  for (const method of route.methods) {
    const bit = Object.hasOwn(methodBits, method) ? methodBits[method] : undefined
    if (bit === undefined) throw new Error(`route ${route.id}: method ${JSON.stringify(method)} cannot be routed`)
    mask |= bit
  }
  return mask
}

/** Priority first, then the longer pattern, then the order of the routes. */
export function byRank(a: Candidate, b: Candidate): number {
  return b.priority - a.priority || b.length - a.length || a.order - b.order
}

export function getOrMake<Id, Value>(map: Map<Id, Value>, id: Id, make: () => Value): Value {
  let value = map.get(id)
  if (value === undefined) {
    value = make()
    map.set(id, value)
  }
  return value
}
