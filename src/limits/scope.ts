/** Names of counters that stay the same as long as their meaning does: over reloads, restarts (in Redis) and machines. */
import { createHash } from 'node:crypto'
import type { Json } from '../schema/compiled.js'

/** Characters of the digest: 72 bits. */
const DIGEST_LENGTH = 12

/** Equal values give equal texts, whatever the order of their names. */
export function canonicalJson(value: Json): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${entries.map(([name, inner]) => `${JSON.stringify(name)}:${canonicalJson(inner)}`).join(',')}}`
}

/** Scope of a plugin at one place: changes of `meaning` begin new counters, changes of anything else do not. No secrets in `meaning`. */
export function ownerScope(plugin: string, owner: string, meaning: Json): string {
  const digest = createHash('sha256').update(canonicalJson(meaning)).digest('base64url').slice(0, DIGEST_LENGTH)
  return `${plugin}|${owner}|${digest}`
}

/** No value of a request begins like this once `valueKey` has seen it. */
const MARK = '\u0000'

/** A key that a request gives, or undefined when it gives none; a decoded query value cannot pretend to be a mark of ours. */
export function valueKey(value: string | undefined): string | undefined {
  return value === undefined || value === '' || value.charCodeAt(0) === 0 ? undefined : value
}

/** The key of a client whose request gives none: his address, apart from what anybody may write into a request. */
export function addressKey(address: string): string {
  return MARK + address
}
