/** Upstreams that plugins of a resource name by id. */

/** The plugins that do. */
const plugins = ['traffic-split']

/** Ids in `plugins` of a resource, which may not have been checked. */
export function upstreamsNamedIn(value: unknown): ReadonlySet<string> {
  if (typeof value !== 'object' || value === null) return none
  let found: Set<string> | null = null
  for (const plugin of plugins) {
    const conf: unknown = Object.hasOwn(value, plugin) ? Reflect.get(value, plugin) : undefined
    if (conf !== undefined) collect(conf, (found ??= new Set()))
  }
  return found ?? none
}

const none: ReadonlySet<string> = new Set()

function collect(value: unknown, found: Set<string>): void {
  if (typeof value !== 'object' || value === null) return
  for (const [name, inner] of Object.entries(value)) {
    if (name === 'upstream_id' && (typeof inner === 'string' || typeof inner === 'number')) found.add(String(inner))
    else collect(inner, found)
  }
}
