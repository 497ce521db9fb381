/** Addresses and numbers on the command line. */
import { isIP } from 'node:net'
import { UsageError } from '../base/errors.js'
import type { SocketAddress } from '../schema/process.js'

/** More workers than this is a typing error, not a machine. */
export const mostWorkers = 512

/** `127.0.0.1:9080`, `[::1]:9080`, `localhost:9080`, `:9080` (all interfaces), `9080`. Throws UsageError naming the flag. */
export function parseAddress(text: string, flag: string): SocketAddress {
  const [, bracketed, plain, digits] = /^(?:(?:\[([^\]]+)\]|([^:[\]]*)):)?(\d{1,5})$/.exec(text) ?? []
  const port = Number(digits)
  if (digits === undefined || port > 65535 || (bracketed !== undefined && isIP(bracketed) !== 6)) {
    throw new UsageError(
      `${flag}: "${text}" is not an address; expected HOST:PORT with a port of 0 to 65535, such as 127.0.0.1:9080 or [::1]:9080`,
    )
  }
  return { host: bracketed || plain || '0.0.0.0', port }
}

/** `host:port` with brackets where IPv6 needs them. */
export function formatAddress(address: SocketAddress): string {
  return `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`
}

/** A whole number within bounds. Throws UsageError naming the flag. */
export function parseInteger(text: string, flag: string, least: number, most: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= least && value <= most)) {
    throw new UsageError(`${flag}: "${text}" is not a valid number; expected a whole number from ${least} to ${most}`)
  }
  return value
}

/** Seconds, also with a fraction, as milliseconds. Throws UsageError naming the flag. */
export function parseSeconds(text: string, flag: string): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
  if (!(value <= 86_400)) throw new UsageError(`${flag}: "${text}" is not a duration; expected seconds from 0 to 86400, such as 30 or 0.5`)
  return Math.round(value * 1000)
}
