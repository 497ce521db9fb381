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
    blocks.push(0, size - 1)
    const slots = blocks.reserve(size * slotWidth)
    for (const key of keys) {
      const { candidates } = key
      const value = candidates === null ? key.node : this.candidates(candidates)
      const entry = blocks.push(key.space, this.intern(key.text), key.text.length, value, candidates === null ? 0 : candidates.length)
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
    blocks.push(0, 0)
    blocks.reserve(nodesPerPage * nodeWidth)
    for (const [index, node] of nodes.entries()) {
      if (node === null) continue
      const at = firstPlace + index * nodeWidth
      const lengths = node.lengths?.list() ?? []
      blocks.set(at, blocks.push(...lengths))
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
    const { blocks, charCount } = this
    const words = (charCount + 1) >> 1
    const place = blocks.reserve(words)
    const bytes = blocks.bytes(place, words)
    new Uint16Array(bytes.buffer, bytes.byteOffset, charCount).set(this.chars.subarray(0, charCount))
    blocks.set(0, place)
  }

  /** Place of the first one. */
  private candidates(list: readonly Candidate[]): number {
    if (list.length === 0) return 0
    const lists = list.map(({ hosts, names }) => ({ hosts: this.hosts(hosts), names: this.names(names) }))
    const first = this.blocks.reserve(list.length * candidateWidth)
    for (let index = 0; index < list.length; index++) {
      const { route, methods, flags, priority, length, order } = list[index] as Candidate
      const { hosts, names } = lists[index] as { hosts: number; names: number }
      const at = first + index * candidateWidth
      this.blocks.set(at, route)
      this.blocks.set(at + 1, methods)
      this.blocks.set(at + 2, flags)
      this.blocks.set(at + 3, hosts)
      this.blocks.set(at + 4, names)
      this.blocks.set(at + 5, priority)
      this.blocks.set(at + 6, length)
      this.blocks.set(at + 7, order)
    }
    return first
  }

  private hosts(hosts: Candidate['hosts']): number {
    if (hosts === null) return 0
    const place = this.blocks.push(hosts.length)
    for (const { flags, text } of hosts) this.blocks.push(flags, this.intern(text), text.length)
    return place
  }

  private names(names: Candidate['names']): number {
    if (names === null) return 0
    const place = this.blocks.push(names.length)
    for (const name of names) this.blocks.push(this.intern(name), name.length)
    return place
  }

  /** Offset of the string among the characters of the block; equal strings are stored once. */
  private intern(text: string): number {
    const known = this.interned.get(text)
    if (known !== undefined) return known
    if (this.charCount + text.length > this.chars.length) {
      const larger = new Uint16Array(Math.max(this.chars.length * 2, this.charCount + text.length))
      larger.set(this.chars)
      this.chars = larger
    }
    const offset = this.charCount
    for (let index = 0; index < text.length; index++) this.chars[offset + index] = text.charCodeAt(index)
    this.charCount += text.length
    this.interned.set(text, offset)
    return offset
  }
}
