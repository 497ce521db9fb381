/** Reading single fields of the router's tables (shared/router-tables). */
import type { Block } from '../../shared/blocks.js'
import { firstPlace, nodesPerPage, nodeWidth, otherMethod } from '../../shared/router-tables.js'

/** Where the node stands in the words of its page. */
export function placeOfNode({ base }: Block, node: number): number {
  return base + firstPlace + (node & (nodesPerPage - 1)) * nodeWidth
}

/** Index in `halves` of the characters of a block. */
export function charsOf({ words, base }: Block): number {
  return (base + (words[base] as number)) * 2
}

/** Whether the text at `offset` of the block is that part of `text`. */
export function equals(block: Block, offset: number, text: string, start: number, length: number): boolean {
  const { halves } = block
  const first = charsOf(block) + offset
  for (let index = 0; index < length; index++) if (halves[first + index] !== text.charCodeAt(start + index)) return false
  return true
}

/** The character before `length` is one that a prefix of this length ends in. */
export function endsPlausibly(path: string, length: number, mask: number): boolean {
  return length === 0 || ((mask >>> (path.charCodeAt(length - 1) & 31)) & 1) === 1
}

export function methodBit(method: string): number {
  switch (method) {
    case 'GET':
      return 1
    case 'POST':
      return 2
    case 'PUT':
      return 4
    case 'DELETE':
      return 8
    case 'PATCH':
      return 16
    case 'HEAD':
      return 32
    case 'OPTIONS':
      return 64
    case 'CONNECT':
      return 128
    case 'TRACE':
      return 256
    case 'PURGE':
      return 512
    default:
      return otherMethod
  }
}
