/** What a request is hashed by, with type `chash`. */
import type { Accessor } from '../../plugins/plugin.js'
import type { CompiledHash } from '../../schema/compiled.js'
import { compileKeyTemplate } from '../vars/key-template.js'
import { compileVariable } from '../vars/variables.js'

/** Text of the key of a request. A request without one is hashed by the address of its client, as in APISIX. */
export function compileHashKey(hash: CompiledHash): (exchange: Parameters<Accessor>[0]) => string {
  const read = compileKey(hash)
  return (exchange) => read(exchange) || exchange.clientAddress
}

function compileKey({ on, key }: CompiledHash): Accessor {
  switch (on) {
    case 'consumer':
      return (exchange) => exchange.consumerName
    case 'vars':
      return compileVariable(key)
    case 'header':
      return compileVariable(`http_${key}`)
    case 'cookie':
      return compileVariable(`cookie_${key}`)
    case 'vars_combinations':
      return compileKeyTemplate(key)
  }
}
