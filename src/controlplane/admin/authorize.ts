/** Who may ask the admin server for what. */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { AdminConfig } from '../../schema/process.js'

export type AdminRole = AdminConfig['keys'][number]['role']

/** The role of a key, or null. Compares digests of all keys, so that the time tells nothing about any of them. */
export function roleOf(key: string, keys: AdminConfig['keys']): AdminRole | null {
  const given = digest(key)
  let found: AdminRole | null = null
  for (const candidate of keys) if (timingSafeEqual(given, digest(candidate.key)) && candidate.key !== '') found = candidate.role
  return found
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest()
}

/**
 * Whether a Host header may reach the admin server listening on `listenHost`. A name other than localhost is only accepted when it is
 * the configured one: a web page whose name was rebound to 127.0.0.1 must not get through.
 */
export function isHostAllowed(host: string | undefined, listenHost: string): boolean {
  const [, bracketed, plain] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/@\s]+))(?::\d{1,5})?$/.exec(host ?? '') ?? []
  if (bracketed !== undefined) return true
  if (plain === undefined) return false
  const name = plain.toLowerCase()
  return name === 'localhost' || name === listenHost.toLowerCase() || /^\d{1,3}(\.\d{1,3}){3}$/.test(name)
}
