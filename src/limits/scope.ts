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
