/** Claims of tokens: finding, comparing, and writing them into header fields. */
import { type CheckedToken, fieldValue, type TokenJson } from '../plugin.js'

/**
 * A claim by its name, else by a dotted path into objects (`realm_access.roles`); undefined when there is none. Only what the token
 * itself holds is found, nothing that objects inherit.
 */
export function claimAt(claims: TokenJson, path: string): unknown {
  if (Object.hasOwn(claims, path)) return claims[path]
  if (!path.includes('.')) return undefined
  let value: unknown = claims
  for (const part of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined
    value = Reflect.get(value, part)
  }
  return value
}

/** A claim as the value of a header field: lists of plain values joined with commas, objects as JSON; null = nothing to send. */
export function claimText(value: unknown): string | null {
  if (value === undefined || value === null) return null
  const isList = Array.isArray(value) && value.every((item) => typeof item !== 'object' || item === null)
  const text = typeof value !== 'object' ? String(value) : isList ? value.join(',') : JSON.stringify(value)
  const safe = fieldValue(text)
  return safe === '' ? null : safe
}

/** The items of a claim that is a list, or a text with blanks between them (`scope`). */
export function claimItems(value: unknown): readonly string[] {
  if (typeof value === 'string') return value.split(' ').filter((item) => item !== '')
  return Array.isArray(value) ? value.filter((item): item is string => typeof item === 'string') : []
}

/** `aud` may be one text or a list (RFC 7519 §4.1.3); one common value is enough. */
export function hasAudience(claims: TokenJson, accepted: readonly string[]): boolean {
  const { aud } = claims
  const named: readonly unknown[] = Array.isArray(aud) ? aud : [aud]
  return accepted.some((one) => named.includes(one))
}

/** Whether the times of a token allow it now. Comparisons with a claim that is no number (NaN) are false. */
export function isInTime(token: CheckedToken, nowS: number, graceS: number): boolean {
  return token.exp > nowS - graceS && token.nbf < nowS + graceS
}

export function hasClaims(claims: TokenJson, names: readonly string[]): boolean {
  for (const name of names) if (!Object.hasOwn(claims, name)) return false
  return true
}
