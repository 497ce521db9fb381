/** What the rules of lint have to know about plugins. */
import type { PluginRegistry } from '../../plugins/registry.js'
import type { CheckedPlugin } from '../load-types.js'
import { limiterNames } from '../validate-consumers.js'

export type Options = { readonly [name: string]: unknown }

export function isOptions(conf: unknown): conf is Options {
  return typeof conf === 'object' && conf !== null && !Array.isArray(conf)
}

export function isOn({ meta }: CheckedPlugin): boolean {
  return meta.disable !== true
}

/** Whether a plugin bounds how much a client may ask. */
export function isLimit({ name }: CheckedPlugin): boolean {
  return limiterNames.has(name)
}

const asksOthers: ReadonlySet<string> = new Set(['forward-auth', 'opa', 'multi-auth'])

/** Whether a plugin finds out who asks, or leaves it to another service. */
export function authenticates(name: string, registry: PluginRegistry): boolean {
  return registry.get(name)?.credential !== undefined || asksOthers.has(name)
}
