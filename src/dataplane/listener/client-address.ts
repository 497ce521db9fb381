/**
 * Who the client is: the TCP peer, or whom a trusted proxy names.
 *
 * The text form of an address is made once per address and remembered: the binding only gives bytes.
 */
import { isIPv4, isIPv6 } from 'node:net'
import { AddressSet } from '../../base/address-set.js'
import type { RealIpConfig } from '../../schema/process.js'

/** Addresses remembered of each family: the newest at each place, which its bytes decide. A power of two. */
const REMEMBERED = 4096

export class AddressBook {
  private readonly keys4 = new Uint32Array(REMEMBERED)
  private readonly texts4: string[] = new Array<string>(REMEMBERED).fill('0.0.0.0')
  private readonly keys6 = new Int32Array(4 * REMEMBERED)
  private readonly texts6: string[] = new Array<string>(REMEMBERED).fill('::')

  /** Text of an address as the binding gives it: 4 or 16 bytes; anything else (Unix sockets) is empty. */
  text(address: ArrayBuffer): string {
    return address.byteLength === 4 ? this.text4(address) : address.byteLength === 16 ? this.text6(address) : ''
  }

  private text4(address: ArrayBuffer): string {
    const bytes = new Uint8Array(address)
    const key = (((bytes[0] as number) << 24) | ((bytes[1] as number) << 16) | ((bytes[2] as number) << 8) | (bytes[3] as number)) >>> 0
    const place = (key ^ (key >>> 12) ^ (key >>> 24)) & (REMEMBERED - 1)
    if (this.keys4[place] === key) return this.texts4[place] as string
    const text = `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`
    this.keys4[place] = key
    this.texts4[place] = text
    return text
  }

  private text6(address: ArrayBuffer): string {
    const words = new Int32Array(address)
    const { keys6 } = this
    const a = words[0] as number
    const b = words[1] as number
    const c = words[2] as number
    const d = words[3] as number
    const mixed = Math.imul(Math.imul(a ^ Math.imul(b, 0x2c1b3c6d), 0x297a2d39) ^ c ^ Math.imul(d, 0x1b56c4e9), 0x9e3779b1)
    const place = mixed >>> 20
    const at = 4 * place
    if (keys6[at] === a && keys6[at + 1] === b && keys6[at + 2] === c && keys6[at + 3] === d) return this.texts6[place] as string
    const text = textOfIpv6(new Uint8Array(address))
    keys6[at] = a
    keys6[at + 1] = b
    keys6[at + 2] = c
    keys6[at + 3] = d
    this.texts6[place] = text
    return text
  }
}

/** RFC 5952 form; an IPv4-mapped address is written as IPv4. */
function textOfIpv6(bytes: Uint8Array): string {
  const groups: number[] = []
  for (let index = 0; index < 16; index += 2) groups.push(((bytes[index] as number) << 8) | (bytes[index + 1] as number))
  const isMapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff
  if (isMapped) return `${bytes[12]}.${bytes[13]}.${bytes[14]}.${bytes[15]}`
  let bestStart = -1
  let bestLength = 1
  for (let start = 0; start < 8; start++) {
    let length = 0
    while (start + length < 8 && groups[start + length] === 0) length++
    if (length > bestLength) {
      bestStart = start
      bestLength = length
    }
  }
  const hex = groups.map((group) => group.toString(16))
  if (bestStart === -1) return hex.join(':')
  return `${hex.slice(0, bestStart).join(':')}::${hex.slice(bestStart + bestLength).join(':')}`
}

/** Believes forwarding headers of trusted peers only. */
export class TrustedProxies {
  private readonly trusted: AddressSet | null
  readonly header: string

  constructor(private readonly config: RealIpConfig) {
    this.trusted = config.trustedAddresses.length === 0 ? null : AddressSet.of(config.trustedAddresses)
    this.header = config.header
  }

  /** True when no proxy is trusted: the peer is the client. */
  get isOff(): boolean {
    return this.trusted === null
  }

  trusts(peer: string): boolean {
    return this.trusted?.has(peer) ?? false
  }

  /** The client behind a trusted peer, from the lines of the forwarding header; the peer itself when they say nothing usable. */
  clientBehind(peer: string, lines: readonly string[]): string {
    const items = lines.join(',').split(',')
    for (let index = items.length - 1; index >= 0; index--) {
      const address = bareAddress((items[index] as string).trim())
      if (address === '') return peer
      if (!this.config.recursive || !this.trusts(address) || index === 0) return address
    }
    return peer
  }
}

/** `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]:80` → the address; empty when it is none. */
function bareAddress(item: string): string {
  const bracketed = /^\[([0-9a-fA-F:.]+)\](?::\d{1,5})?$/.exec(item)
  if (bracketed !== null) return ipv6Address(bracketed[1] as string)
  const dotted = /^(\d{1,3}(?:\.\d{1,3}){3})(?::\d{1,5})?$/.exec(item)
  if (dotted !== null) return isIPv4(dotted[1] as string) ? (dotted[1] as string) : ''
  return ipv6Address(item)
}

/** A zone (`%eth0`) belongs to the machine that wrote it and is not accepted. */
function ipv6Address(text: string): string {
  return isIPv6(text) && !text.includes('%') ? text.toLowerCase() : ''
}
