/** The two forms of PATCH: a merge, and the replacement of what lies at a sub-path. Pure. */
import type { ResourceValue } from '../store/resource-store.js'

type Fields = { [name: string]: unknown }

/** `patch` laid over `value`: null removes a field, maps are merged, everything else replaces. */
export function mergePatch(value: ResourceValue, patch: ResourceValue): ResourceValue {
  const merged: Fields = { ...value }
  for (const [name, change] of Object.entries(patch)) {
    const before = Object.hasOwn(merged, name) ? merged[name] : undefined
    if (change === null) delete merged[name]
    else set(merged, name, isMap(change) ? mergePatch(isMap(before) ? before : {}, change) : change)
  }
  return merged
}

/** `value` with `replacement` at `path`; null removes it. Null = the path leads through something that is neither map nor list. */
export function replaceAt(value: ResourceValue, path: readonly string[], replacement: unknown): ResourceValue | null {
  const replaced = replaceIn(value, path, replacement)
  return isMap(replaced) ? replaced : null
}

const impossible = Symbol('impossible')

function replaceIn(value: unknown, [name, ...rest]: readonly string[], replacement: unknown): unknown {
  if (name === undefined) return replacement
  if (Array.isArray(value)) {
    const index = /^\d+$/.test(name) ? Number(name) : -1
    // A list may grow by one.
    if (index < 0 || index > value.length) return impossible
    const inner = replaceIn(value[index] ?? {}, rest, replacement)
    if (inner === impossible) return impossible
    if (inner === null) return value.filter((_, at) => at !== index)
    const copy: unknown[] = [...value]
    copy[index] = inner
    return copy
  }
  if (!isMap(value)) return impossible
  const before = Object.hasOwn(value, name) ? value[name] : {}
  const inner = replaceIn(before, rest, replacement)
  if (inner === impossible) return impossible
  const copy: Fields = { ...value }
  if (inner === null) delete copy[name]
  else set(copy, name, inner)
  return copy
}

/** Also for the name `__proto__`, which assignment would not set. */
function set(fields: Fields, name: string, value: unknown): void {
  Object.defineProperty(fields, name, { value, enumerable: true, writable: true, configurable: true })
}

export function isMap(value: unknown): value is ResourceValue {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
