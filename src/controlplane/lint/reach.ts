/** Who can reach an address, for rules about what travels in clear. */
import { isIP } from 'node:net'
import { AddressSet } from '../../base/address-set.js'

const loopback = AddressSet.of(['127.0.0.0/8', '::1/128'])
const inside = AddressSet.of([
  '127.0.0.0/8',
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '169.254.0.0/16',
  '100.64.0.0/10',
  '::1/128',
  'fc00::/7',
  'fe80::/10',
])
const insideNames = /(^localhost|\.local|\.localhost|\.internal|\.lan|\.svc|\.consul|\.test)$/

export function isLoopback(host: string): boolean {
  const bare = withoutBrackets(host)
  return bare === 'localhost' || (isIP(bare) !== 0 && loopback.has(bare))
}

/** True for addresses of private networks, and for names that only such networks know: those without a dot, or with a well-known end. */
export function isInside(host: string): boolean {
  const bare = withoutBrackets(host)
  if (bare.startsWith('unix:')) return true
  return isIP(bare) === 0 ? !bare.includes('.') || insideNames.test(bare) : inside.has(bare)
}

/** Host of a node written `host:port`. */
export function hostOf(address: string): string {
  return address.replace(/:\d+$/, '')
}

function withoutBrackets(host: string): string {
  return host.toLowerCase().replace(/^\[(.*)\]$/s, '$1')
}
