/**
 * Sets of IP addresses and CIDR blocks, for lookups on every request.
 *
 * IPv4 addresses are unsigned 32-bit numbers, IPv6 ones four of them. Blocks become sorted, merged ranges that are searched by
 * halving. IPv4-mapped IPv6 (`::ffff:a.b.c.d`) is the IPv4 address.
 */
import ipaddr from 'ipaddr.js'

interface Block {
  readonly bytes: readonly number[]
  readonly prefix: number
}

/** Parses one item. Returns the block, or the text of what is wrong. */
function parseBlock(item: string): Block | string {
  const slash = item.indexOf('/')
  const text = slash < 0 ? item : item.slice(0, slash)
  const isV4 = ipaddr.IPv4.isValidFourPartDecimal(text)
  if (!isV4 && (!text.includes(':') || text.includes('%') || !ipaddr.IPv6.isValid(text))) {
    return `${JSON.stringify(item)} is not an address; expected IPv4, IPv6 or a block like 10.0.0.0/8`
  }
  const address = isV4 ? ipaddr.IPv4.parse(text) : ipaddr.IPv6.parse(text)
  const bytes = address.toByteArray()
  const width = bytes.length * 8
  let prefix = width
  if (slash >= 0) {
    const digits = item.slice(slash + 1)
    prefix = Number(digits)
    if (!/^\d{1,3}$/.test(digits) || prefix > width) return `${JSON.stringify(item)} has no valid prefix length; expected /0 to /${width}`
  }
  if (bytes.length === 16 && prefix >= 96 && isMapped(bytes)) return { bytes: bytes.slice(12), prefix: prefix - 96 }
  return { bytes, prefix }
}

function isMapped(bytes: readonly number[]): boolean {
  return bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 255 && bytes[11] === 255
}

/** The text of what is wrong with an address or block, or null. */
export function addressProblem(item: string): string | null {
  const block = parseBlock(item)
  return typeof block === 'string' ? block : null
}

/** Unsigned 32-bit value of a dotted quad, or -1. No allocation. */
export function parseIPv4(text: string): number {
  const length = text.length
  if (length < 7 || length > 15) return -1
  let value = 0
  let part = 0
  let digits = 0
  let dots = 0
  for (let index = 0; index < length; index++) {
    const code = text.charCodeAt(index)
    if (code === 46) {
      if (digits === 0 || ++dots > 3) return -1
      value = value * 256 + part
      part = 0
      digits = 0
    } else {
      if (code < 48 || code > 57 || (digits > 0 && part === 0)) return -1
      part = part * 10 + code - 48
      if (++digits > 3 || part > 255) return -1
    }
  }
  return dots === 3 && digits > 0 ? value * 256 + part : -1
}

export class AddressSet {
  /** Answers of the last addresses: clients come back. Bounded, forgotten whole. */
  private readonly recent = new Map<string, boolean>()

  private constructor(
    private readonly starts: Float64Array,
    private readonly ends: Float64Array,
    /** Inclusive ranges of IPv6 addresses. */
    private readonly ranges6: readonly (readonly [bigint, bigint])[],
  ) {}

  /** Throws Error on an item that is no address and no block. */
  static of(items: readonly string[]): AddressSet {
    const ranges4: [number, number][] = []
    const ranges6: [bigint, bigint][] = []
    for (const item of items) {
      const block = parseBlock(item)
      if (typeof block === 'string') throw new Error(block)
      const value = toBigInt(block.bytes)
      const free = BigInt(block.bytes.length * 8 - block.prefix)
      const start = (value >> free) << free
      const end = start + (1n << free) - 1n
      if (block.bytes.length === 4) ranges4.push([Number(start), Number(end)])
      else ranges6.push([start, end])
      // A v6 block that holds all mapped addresses holds all of IPv4: `::/0` means everybody.
      if (block.bytes.length === 16 && start <= 0xffff00000000n && end >= 0xffffffffffffn) ranges4.push([0, 0xffffffff])
    }
    ranges4.sort((a, b) => a[0] - b[0])
    const merged: [number, number][] = []
    for (const range of ranges4) {
      const last = merged.at(-1)
      if (last !== undefined && range[0] <= last[1] + 1) last[1] = Math.max(last[1], range[1])
      else merged.push(range)
    }
    ranges6.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0))
    const merged6: [bigint, bigint][] = []
    for (const range of ranges6) {
      const last = merged6.at(-1)
      if (last !== undefined && range[0] <= last[1] + 1n) {
        if (range[1] > last[1]) last[1] = range[1]
      } else merged6.push(range)
    }
    const starts = Float64Array.from(merged, (range) => range[0])
    const ends = Float64Array.from(merged, (range) => range[1])
    return new AddressSet(starts, ends, merged6)
  }

  /** False for a text that is no address. */
  has(address: string): boolean {
    const value = parseIPv4(address)
    if (value >= 0) return this.has4(value)
    const known = this.recent.get(address)
    if (known !== undefined) return known
    const found = this.has6(address)
    if (this.recent.size >= 1024) this.recent.clear()
    if (address.length <= 64) this.recent.set(address, found)
    return found
  }

  private has4(value: number): boolean {
    let low = 0
    let high = this.starts.length - 1
    while (low <= high) {
      const middle = (low + high) >>> 1
      if (value < (this.starts[middle] as number)) high = middle - 1
      else if (value > (this.ends[middle] as number)) low = middle + 1
      else return true
    }
    return false
  }

  private has6(address: string): boolean {
    const zone = address.indexOf('%')
    const block = parseBlock(zone < 0 ? address : address.slice(0, zone))
    if (typeof block === 'string' || address.includes('/')) return false
    const value = toBigInt(block.bytes)
    if (block.bytes.length === 4) return this.has4(Number(value))
    let low = 0
    let high = this.ranges6.length - 1
    while (low <= high) {
      const middle = (low + high) >>> 1
      const range = this.ranges6[middle] as readonly [bigint, bigint]
      if (value < range[0]) high = middle - 1
      else if (value > range[1]) low = middle + 1
      else return true
    }
    return false
  }
}

function toBigInt(bytes: readonly number[]): bigint {
  return bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n)
}
