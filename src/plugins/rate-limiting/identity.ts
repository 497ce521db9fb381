/**
 * Whose request it is: the keys under which limits count, and under which `/v1/limits?key=` finds them.
 *
 * Addresses stand for themselves; every other kind has a prefix, so that what a client may write (a header) never meets what it may not
 * (an address): otherwise a header with somebody's address in it would use up that somebody's limit.
 */
import type { Accessor, Exchange, LinkKit, PluginProblem } from '../plugin.js'

export type KeyOf = (exchange: Exchange) => string

/** The client's address, behind trusted proxies if there are such. */
export function addressKey(exchange: Exchange): string {
  return exchange.clientAddress
}

function consumerKey(exchange: Exchange): string {
  return exchange.consumerName === '' ? addressKey(exchange) : `consumer:${exchange.consumerName}`
}

/**
 * Ids of credentials are unique within their consumer only; credentials among the plugins of a consumer have none, and count as one.
 * The header is that of a gateway in front, where `trust_identity_headers` lets it pass.
 */
function credentialKey(exchange: Exchange): string {
  const { credentialId, consumerName } = exchange
  if (consumerName !== '' && (credentialId !== '' || exchange.credential !== null)) return `credential:${consumerName}/${credentialId}`
  if (credentialId !== '') return `credential:${credentialId}`
  const credential = exchange.requestHeaders.get('x-credential-identifier')
  return credential === undefined || credential === '' ? addressKey(exchange) : `credential:${credential}`
}

function headerKey(name: string): KeyOf {
  const field = name.toLowerCase()
  return (exchange) => {
    const value = exchange.requestHeaders.get(field)
    return value === undefined || value === '' ? addressKey(exchange) : `header:${value}`
  }
}

function resolvedKey(prefix: string, resolve: Accessor): KeyOf {
  return (exchange) => {
    const value = resolve(exchange)
    return value === undefined || value === '' ? addressKey(exchange) : `${prefix}:${value}`
  }
}

export const kongIdentifiers = ['consumer', 'credential', 'ip', 'service', 'header', 'path', 'consumer-group'] as const
export type KongIdentifier = (typeof kongIdentifiers)[number]

export interface IdentifierOptions {
  /** For `header`. */
  readonly headerName: string
  /** For `path`. */
  readonly path: string
}

/** Kong's identifiers. What a request does not have falls back to the client's address. */
export function identifierKey(identifier: KongIdentifier, options: IdentifierOptions, kit: LinkKit): KeyOf {
  switch (identifier) {
    case 'ip':
      return addressKey
    case 'consumer':
      return (exchange) => (exchange.consumerName === '' ? credentialKey(exchange) : consumerKey(exchange))
    case 'credential':
      return credentialKey
    case 'consumer-group':
      return (exchange) => (exchange.consumerGroupId === '' ? addressKey(exchange) : `consumer-group:${exchange.consumerGroupId}`)
    case 'service': {
      const id = kit.route?.serviceId ?? ''
      return id === '' ? addressKey : () => `service:${id}`
    }
    case 'header':
      return headerKey(options.headerName)
    case 'path':
      return (exchange) => (exchange.path === options.path ? `path:${options.path}` : addressKey(exchange))
  }
}

/** Several identifiers together: a request counts with those that agree in all of them. */
export function compoundKey(parts: readonly KeyOf[]): KeyOf {
  const [only] = parts
  if (parts.length === 1 && only !== undefined) return only
  // Only one part can be what a client wrote (there is one header), so that the text reads in one way only.
  return (exchange) => parts.map((part) => part(exchange)).join(' & ')
}

export const keyTypes = ['remote_addr', 'consumer_name', 'header', 'var', 'var_combination', 'constant'] as const
export type KeyType = (typeof keyTypes)[number]

export interface KeyChoice {
  readonly type: KeyType
  /** Variable, template or text of the last three types, else empty. */
  readonly key: string
  /** For `header`; empty = there is none, and the address is used. */
  readonly headerName: string
}

/** Keys of the shapes with `key_type`. What a request does not have falls back to the client's address. */
export function chosenKey(choice: KeyChoice, kit: LinkKit): KeyOf {
  switch (choice.type) {
    case 'remote_addr':
      return addressKey
    case 'consumer_name':
      return consumerKey
    case 'header':
      return choice.headerName === '' ? addressKey : headerKey(choice.headerName)
    case 'var':
      return resolvedKey('var', kit.variable(variableName(choice.key)))
    case 'var_combination':
      return resolvedKey('vars', kit.keyTemplate(choice.key))
    case 'constant':
      return () => `constant:${choice.key}`
  }
}

/** Variables may be written with the dollar of templates. */
export function variableName(key: string): string {
  return key.startsWith('$') ? key.slice(1) : key
}

/** The warning about `key_type: header` without the name of the header. */
export function missingHeader(path: string): PluginProblem {
  const message = 'key_type header without header_name counts client addresses; expected the name of a header'
  return { path, message, isWarning: true }
}
