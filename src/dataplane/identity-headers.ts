/**
 * The header fields that tell an upstream who calls: set when authentication succeeded, in place of those of an earlier success. Names
 * of APISIX and Kong (semantics §2.1). A client's own copies were removed at the edge (listener/identity).
 */
import { HeaderBlock, type HeaderList } from '../base/headers.js'
import type { Consumer } from '../plugins/plugin.js'
import { safeValue } from './upstream/request-head.js'

const identityKeys: ReadonlySet<string> = new Set([
  'x-consumer-username',
  'x-consumer-custom-id',
  'x-consumer-id',
  'x-credential-identifier',
  'x-anonymous-consumer',
  'x-consumer-groups',
  'x-authenticated-groups',
])
/** Length of `x-consumer-id`. */
const SHORTEST_KEY = 13

/**
 * The fields that say `consumer` and `identifier` (empty = none). Their values can stand in a head as they are
 * (`PluginInstance.keepsHeadSafe` counts on it).
 */
export function identityOf(consumer: Consumer | null, identifier: string): HeaderBlock {
  const names: string[] = []
  const values: string[] = []
  const add = (name: string, value: string): void => {
    names.push(name)
    values.push(safeValue(value))
  }
  if (consumer !== null) {
    add('X-Consumer-Username', consumer.username)
    if (consumer.customId !== '') add('X-Consumer-Custom-ID', consumer.customId)
    if (consumer.id !== consumer.username) add('X-Consumer-ID', consumer.id)
  }
  if (identifier !== '') add('X-Credential-Identifier', identifier)
  return new HeaderBlock(names, values)
}

/** Puts these fields in place of those of an earlier success. One look at each field: on almost every request there is nothing to remove. */
export function setIdentityHeaders(headers: HeaderList, identity: HeaderBlock): void {
  headers.setBlock(null)
  for (let index = 0; index < headers.countBeforeBlock; index++) {
    const key = headers.keys[index] as string
    if (key.length < SHORTEST_KEY || key.charCodeAt(0) !== 120 || !identityKeys.has(key)) continue
    headers.remove(key)
    index--
  }
  headers.setBlock(identity)
}
