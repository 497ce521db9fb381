/** What turns the resources of one side into those of another, and how that is shown. Pure. */

import { withoutPrivateKeys, withoutSecrets } from '../../controlplane/admin/admin-kinds.js'
import { isMap } from '../../controlplane/admin/patch.js'
import type { ResourceValue } from '../../controlplane/store/resource-store.js'

/** One resource of a side. `digest`: of all it says (contentDigest). */
export interface ComparedResource {
  readonly kind: string
  readonly id: string
  readonly digest: string
  readonly value: ResourceValue
}

export type ResourceChange =
  | {
      readonly type: 'put'
      readonly kind: string
      readonly id: string
      readonly value: ResourceValue
      readonly before: ResourceValue | null
    }
  | { readonly type: 'delete'; readonly kind: string; readonly id: string; readonly before: ResourceValue }

/** What others name comes before those that name it. */
const order = [
  'plugin_metadata',
  'protos',
  'ssls',
  'upstreams',
  'plugin_configs',
  'services',
  'consumer_groups',
  'consumers',
  'credentials',
  'global_rules',
  'routes',
  'stream_routes',
]

/**
 * The fewest changes from `current` to `wanted`: new and changed resources in an order in which what they name is there, then deletions in
 * the opposite order.
 */
export function changesBetween(
  current: readonly ComparedResource[],
  wanted: readonly ComparedResource[],
  keepsOthers: boolean,
): ResourceChange[] {
  const before = new Map(current.map((resource) => [keyOf(resource), resource]))
  const kept = new Set(wanted.map(keyOf))
  const puts = wanted.flatMap((resource): ResourceChange[] => {
    const { kind, id, value, digest } = resource
    const known = before.get(keyOf(resource))
    return known?.digest === digest ? [] : [{ type: 'put', kind, id, value, before: known?.value ?? null }]
  })
  const gone = keepsOthers ? [] : current.filter((resource) => !kept.has(keyOf(resource)))
  const deletions = gone.map(({ kind, id, value }): ResourceChange => ({ type: 'delete', kind, id, before: value }))
  return [...puts.sort((a, b) => rank(a) - rank(b)), ...deletions.sort((a, b) => rank(b) - rank(a))]
}

function keyOf({ kind, id }: ComparedResource): string {
  return `${kind} ${id}`
}

function rank({ kind }: ResourceChange): number {
  const place = order.indexOf(kind)
  return place === -1 ? order.length : place
}

/** Lines for people: `+` new, `~` changed (with the fields), `-` deleted. Secrets are not shown, only that they changed. */
export function showChange(change: ResourceChange): string[] {
  const { kind, id, before } = change
  if (change.type === 'delete') return [`- ${kind}/${id}`]
  if (before === null) return [`+ ${kind}/${id}`]
  const after = change.value
  const fields = differences(before, withoutPrivateKeys(kind, after), withoutSecrets(kind, before), withoutSecrets(kind, after), '')
  const lines = fields.length > 0 ? fields : [kind === 'ssls' ? 'the private key' : 'the form of a value']
  return [`~ ${kind}/${id}`, ...lines.map((line) => `    ${line}`)]
}

/** `shownBefore` and `shownAfter` are the same values with stars instead of secrets. */
function differences(before: unknown, after: unknown, shownBefore: unknown, shownAfter: unknown, path: string): string[] {
  if (isMap(before) && isMap(after)) {
    const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((name) => path !== '' || name !== 'id')
    return names.flatMap((name) => {
      const inner = path === '' ? name : `${path}.${name}`
      return differences(before[name], after[name], fieldOf(shownBefore, name), fieldOf(shownAfter, name), inner)
    })
  }
  if (JSON.stringify(before) === JSON.stringify(after)) return []
  return [`${path}: ${text(shownBefore)} → ${text(shownAfter)}`]
}

function fieldOf(value: unknown, name: string): unknown {
  return isMap(value) ? value[name] : undefined
}

/** Longer values are cut: the change is what is looked for. */
const TEXT_MAX = 160

function text(value: unknown): string {
  if (value === undefined) return '(none)'
  const json = JSON.stringify(value)
  return json.length <= TEXT_MAX ? json : `${json.slice(0, TEXT_MAX)}…`
}

/** `3 changes: 1 to add, 1 to change, 1 to delete`. */
export function summary(changes: readonly ResourceChange[]): string {
  if (changes.length === 0) return 'no difference'
  const added = changes.filter((change) => change.type === 'put' && change.before === null).length
  const deleted = changes.filter(({ type }) => type === 'delete').length
  const counts = [
    [added, 'to add'],
    [changes.length - added - deleted, 'to change'],
    [deleted, 'to delete'],
  ] as const
  const parts = counts.filter(([count]) => count > 0).map(([count, words]) => `${count} ${words}`)
  return `${changes.length} ${changes.length === 1 ? 'change' : 'changes'}: ${parts.join(', ')}`
}
