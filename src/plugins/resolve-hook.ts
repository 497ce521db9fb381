/**
 * Makes `import … from 'sluice/plugin'` work in user plugins wherever their file lies: the name resolves to the contract of this very
 * installation, so that a plugin and the gateway share one `PluginConfigError`, whatever else a node_modules folder above it holds.
 */
import { register } from 'node:module'

const CONTRACT = 'sluice/plugin'

let isInstalled = false

/** Installs the hook in this thread, once. Each thread that loads user plugins calls it before the first import. */
export function installResolveHook(): void {
  if (isInstalled) return
  isInstalled = true
  const url = new URL('./plugin.js', import.meta.url).href
  // Hooks run in a thread of their own, which loads them from a URL: as text they need no file next to this one.
  const hook =
    'export async function resolve(specifier, context, next) {\n' +
    `  return specifier === ${JSON.stringify(CONTRACT)} ? { url: ${JSON.stringify(url)}, shortCircuit: true } : next(specifier, context)\n` +
    '}\n'
  register(`data:text/javascript,${encodeURIComponent(hook)}`)
}
