/**
 * The header fields that tell an upstream who calls: set when authentication succeeded, in place of those of an earlier success. Names
 * of APISIX and Kong (semantics §2.1). A client's own copies were removed at the edge (listener/identity).
 */
import type { HeaderList } from '../base/headers.js'
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

/**
 * Writes the fields of `consumer` and `identifier` (empty = none) and removes those that do not apply. Their values can stand in a head
 * as they are (`PluginInstance.keepsHeadSafe` counts on it).
 */
export function setIdentityHeaders(headers: HeaderList, consumer: Consumer | null, identifier: string): void {
  removeIdentity(headers)
  if (consumer !== null) {
    headers.push('x-consumer-username', 'X-Consumer-Username', safeValue(consumer.username))
    if (consumer.customId !== '') headers.push('x-consumer-custom-id', 'X-Consumer-Custom-ID', safeValue(consumer.customId))
    if (consumer.id !== consumer.username) headers.push('x-consumer-id', 'X-Consumer-ID', safeValue(consumer.id))
  }
  if (identifier !== '') headers.push('x-credential-identifier', 'X-Credential-Identifier', safeValue(identifier))
}

/** One look at each field: on almost every request there is nothing to remove. */
function removeIdentity(headers: HeaderList): void {
  for (let index = 0; index < headers.count; index++) {
    const key = headers.keys[index] as string
    if (key.charCodeAt(0) !== 120 || !identityKeys.has(key)) continue
    headers.remove(key)
    index--
  }
}
