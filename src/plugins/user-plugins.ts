/**
 * User plugins: modules named in `sluice.plugins`, loaded in the primary and in every worker by dynamic import. A module exports
 * `plugin`, made by `definePlugin` of this package. The same file gives the same plugin in all threads, so it must keep no state
 * outside of what `link` returns. `sluice/plugin` resolves to this installation from any folder (resolve-hook.ts).
 */
import { existsSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { UsageError } from '../base/errors.js'
import { builtinPlugins } from './index.js'
import type { AnyPlugin } from './plugin.js'
import { installResolveHook } from './resolve-hook.js'

/** Loads the modules in this order. Throws UsageError for a file that is missing, does not load or exports no plugin, and for names that clash. */
export async function loadUserPlugins(files: readonly string[]): Promise<AnyPlugin[]> {
  const owners = new Map(builtinPlugins.map((plugin) => [plugin.name, 'a plugin that comes with the gateway']))
  const plugins: AnyPlugin[] = []
  for (const file of files) {
    const plugin = await loadUserPlugin(file)
    const owner = owners.get(plugin.name)
    if (owner !== undefined) throw new UsageError(`${file}: the name "${plugin.name}" is taken by ${owner}; expected a name of its own`)
    owners.set(plugin.name, file)
    plugins.push(plugin)
  }
  return plugins
}

/** Loads one module; throws UsageError that says what is wrong with it. */
export async function loadUserPlugin(file: string): Promise<AnyPlugin> {
  if (!existsSync(file)) throw new UsageError(`${file}: there is no such plugin file; expected a JavaScript module`)
  if (/\.[cm]?ts$/.test(file) && !loadsTypeScript()) {
    throw new UsageError(
      `${file}: this Node.js (${process.version}) does not load TypeScript; expected a .js or .mjs file: compile it first, for example with tsc`,
    )
  }
  installResolveHook()
  let exported: unknown
  try {
    exported = await import(pathToFileURL(file).href)
  } catch (error) {
    throw new UsageError(`${file}: the plugin does not load: ${error instanceof Error ? error.message : String(error)}`)
  }
  const plugin = typeof exported === 'object' && exported !== null && 'plugin' in exported ? exported.plugin : undefined
  const missing = missingPart(plugin)
  if (missing !== null) throw new UsageError(`${file}: ${missing}; expected \`export const plugin = definePlugin({ … })\``)
  return plugin as AnyPlugin
}

/** Node strips types itself from 22.18 on (and before that with a flag). */
function loadsTypeScript(): boolean {
  return 'typescript' in process.features && Boolean(process.features.typescript)
}

function missingPart(plugin: unknown): string | null {
  if (typeof plugin !== 'object' || plugin === null) return 'the module exports no `plugin`'
  const fields: { readonly [name: string]: unknown } = { ...plugin }
  const types: [string, string][] = [
    ['name', 'string'],
    ['priority', 'number'],
    ['description', 'string'],
    ['schema', 'object'],
    ['check', 'function'],
    ['prepare', 'function'],
    ['link', 'function'],
  ]
  for (const [name, type] of types)
    if (typeof fields[name] !== type || fields[name] === null) return `its \`plugin\` has no ${name} (${type})`
  return /^[a-zA-Z][a-zA-Z0-9_-]{0,63}$/.test(String(fields['name']))
    ? null
    : `"${String(fields['name']).slice(0, 80)}" is no name for a plugin`
}
