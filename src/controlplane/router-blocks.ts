/** Writes the blocks of the router's tables. The layout is drawn in shared/router-tables. */
import { BlockWriter } from '../shared/blocks.js'
import { candidateWidth, firstPlace, nodesPerPage, nodeWidth, slotWidth } from '../shared/router-tables.js'
import type { Candidate, Key, Node } from './router-nodes.js'

export class RouterBlockWriter {
  readonly blocks = new BlockWriter()
  private readonly interned = new Map<string, number>()
  private chars = new Uint16Array(4096)
  private charCount = 0

  shard(keys: readonly Key[]): void {
    this.begin()
    const { blocks } = this
    let size = 4
    while (size < keys.length * 2) size *= 2
    blocks.reserve(firstPlace)
    blocks.set(1, size - 1)
    const slots = blocks.reserve(size * slotWidth)
    for (const key of keys) {
      const { candidates } = key
      const value = candidates === null ? key.node : this.candidates(candidates)
      const entry = blocks.reserve(5)
      blocks.set(entry, key.space)
      blocks.set(entry + 1, this.write(key.text))
      blocks.set(entry + 2, key.text.length)
      blocks.set(entry + 3, value)
      blocks.set(entry + 4, candidates === null ? 0 : candidates.length)
      let slot = key.hash & (size - 1)
      while (blocks.get(slots + slot * slotWidth + 1) !== 0) slot = (slot + 1) & (size - 1)
      blocks.set(slots + slot * slotWidth, key.hash)
      blocks.set(slots + slot * slotWidth + 1, entry)
    }
    this.end()
  }

  /** Nodes that do not exist are null. */
  page(nodes: readonly (Node | null)[]): void {
    this.begin()
    const { blocks } = this
    blocks.reserve(firstPlace + nodesPerPage * nodeWidth)
    for (const [index, node] of nodes.entries()) {
      if (node === null) continue
      const at = firstPlace + index * nodeWidth
      const lengths = node.lengths?.list() ?? []
      blocks.set(at, blocks.append(Int32Array.from(lengths)))
      blocks.set(at + 1, lengths.length / 2)
      blocks.set(at + 2, this.candidates(node.own))
      blocks.set(at + 3, node.own.length)
      blocks.set(at + 4, node.param)
      blocks.set(at + 5, this.candidates(node.tail))
      blocks.set(at + 6, node.tail.length)
    }
    this.end()
  }

  private begin(): void {
    this.blocks.begin()
    this.interned.clear()
    this.charCount = 0
  }

  private end(): void {
    this.blocks.set(0, this.blocks.appendHalves(this.chars.subarray(0, this.charCount)))
  }

  /** Place of the first one. */
  private candidates(list: readonly Candidate[]): number {
    if (list.length === 0) return 0
    const { blocks } = this
    const first = blocks.reserve(list.length * candidateWidth)
    for (let index = 0; index < list.length; index++) {
      const { route, methods, flags, hosts, names, priority, length, order } = list[index] as Candidate
      const at = first + index * candidateWidth
      blocks.set(at, route)
      blocks.set(at + 1, methods)
      blocks.set(at + 2, flags)
      if (hosts !== null) blocks.set(at + 3, this.hosts(hosts))
      if (names !== null) blocks.set(at + 4, this.names(names))
      blocks.set(at + 5, priority)
      blocks.set(at + 6, length)
      blocks.set(at + 7, order)
    }
    return first
  }

  private hosts(hosts: NonNullable<Candidate['hosts']>): number {
    const words = hosts.flatMap(({ flags, text }) => [flags, this.intern(text), text.length])
    return this.blocks.append(Int32Array.of(hosts.length, ...words))
  }

  private names(names: NonNullable<Candidate['names']>): number {
    const words = names.flatMap((name) => [this.intern(name), name.length])
    return this.blocks.append(Int32Array.of(names.length, ...words))
  }

  /** Offset of the string among the characters of the block; equal strings are stored once. */
  private intern(text: string): number {
    let offset = this.interned.get(text)
    if (offset === undefined) {
      offset = this.write(text)
      this.interned.set(text, offset)
    }
    return offset
  }

  private write(text: string): number {
    if (this.charCount + text.length > this.chars.length) {
      const larger = new Uint16Array(Math.max(this.chars.length * 2, this.charCount + text.length))
      larger.set(this.chars)
      this.chars = larger
    }
    const { chars, charCount: offset } = this
    for (let index = 0; index < text.length; index++) chars[offset + index] = text.charCodeAt(index)
    this.charCount += text.length
    return offset
  }
}
