/** Upstreams that plugins of a resource name by id. */

/** The plugin that does. */
const PLUGIN = 'traffic-split'

/** Ids in `plugins` of a resource, which may not have been checked. */
export function upstreamsNamedIn(plugins: unknown): ReadonlySet<string> {
  if (typeof plugins !== 'object' || plugins === null || !Object.hasOwn(plugins, PLUGIN)) return none
  const found = new Set<string>()
  collect(Reflect.get(plugins, PLUGIN), found)
  return found
}

const none: ReadonlySet<string> = new Set()

function collect(value: unknown, found: Set<string>): void {
  if (typeof value !== 'object' || value === null) return
  for (const [name, inner] of Object.entries(value)) {
    if (name === 'upstream_id' && (typeof inner === 'string' || typeof inner === 'number')) found.add(String(inner))
    else collect(inner, found)
  }
}
