/** Plugins by name, in run order. Built once per configuration check; workers build their own from the same list. */
import type { AnyPlugin } from './plugin.js'

export class PluginRegistry {
  private constructor(
    private readonly byName: ReadonlyMap<string, AnyPlugin>,
    private readonly positions: ReadonlyMap<string, number>,
  ) {}

  /** A registry of `plugins`; throws Error when two have the same name. */
  static of(plugins: readonly AnyPlugin[]): PluginRegistry {
    const byName = new Map<string, AnyPlugin>()
    const positions = new Map<string, number>()
    for (const plugin of plugins) {
      if (byName.has(plugin.name)) throw new Error(`two plugins are called "${plugin.name}"; every plugin needs a name of its own`)
      positions.set(plugin.name, byName.size)
      byName.set(plugin.name, plugin)
    }
    return new PluginRegistry(byName, positions)
  }

  get(name: string): AnyPlugin | undefined {
    return this.byName.get(name)
  }

  names(): string[] {
    return [...this.byName.keys()]
  }

  all(): AnyPlugin[] {
    return [...this.byName.values()]
  }

  /** Place in the list: decides between plugins of equal priority. Unknown names come last. */
  position(name: string): number {
    return this.positions.get(name) ?? this.positions.size
  }
}
