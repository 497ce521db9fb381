/** key-auth as Kong has it: several names, each looked for in header, query and body; what is there twice is refused. */
import { CREDENTIAL_LENGTH_MAX } from '../auth/apisix.js'
import { REPEATED, singleField } from '../auth/fields.js'
import { guard, type KongCommon } from '../auth/kong.js'
import { type Exchange, kongError, type LinkKit, type PluginInstance, queryValues, type Reply, withoutQueryValue } from '../plugin.js'
import { type BodyFields, bodyFields, canHoldFields, withoutField } from './body-fields.js'

export interface KongKeys extends KongCommon {
  readonly names: readonly string[]
  readonly inHeader: boolean
  readonly inQuery: boolean
  readonly inBody: boolean
  readonly hideCredentials: boolean
}

/** Longest body that is searched. A longer one has no key in it. */
const BODY_BYTES_MAX = 8 * 1024 * 1024

type Found = { readonly name: string; readonly key: string | typeof REPEATED }

export function linkKong(conf: KongKeys, kit: LinkKit): PluginInstance {
  const { inHeader, inQuery, hideCredentials, challenge } = conf
  const names = conf.names.map((name) => ({ name, field: name.toLowerCase() }))
  const credentials = kit.credentials()
  const headers: Reply['headers'] = [['WWW-Authenticate', challenge]]

  function search(exchange: Exchange, fields: BodyFields | null): Found | null {
    for (const { name, field } of names) {
      let key = inHeader ? singleField(exchange.requestHeaders, field) : undefined
      if (key === undefined && inQuery && exchange.query !== '') {
        const values = queryValues(exchange.query, name)
        key = values.length > 1 ? REPEATED : values[0]
      }
      if (key === undefined && fields !== null) {
        const value = fields.get(name)
        key = typeof value === 'string' || value === undefined ? value : REPEATED
      }
      if (key !== undefined) return { name, key }
    }
    return null
  }

  function conclude(exchange: Exchange, fields: BodyFields | null): Reply | undefined | Promise<Reply | undefined> {
    const found = search(exchange, fields)
    if (found === null) return kongError(exchange, 401, 'No API key found in request', headers)
    const { key, name } = found
    if (key === REPEATED) return kongError(exchange, 401, 'Duplicate API key found', headers)
    if (key === '') return kongError(exchange, 401, 'No API key found in request', headers)
    const credential = key.length > CREDENTIAL_LENGTH_MAX ? null : credentials.find(key)
    if (credential === null) return kongError(exchange, 401, 'Unauthorized', headers)
    exchange.authenticate(credential.consumer, credential)
    return hideCredentials ? hide(exchange, name, fields) : undefined
  }

  async function inBody(exchange: Exchange): Promise<Reply | undefined> {
    const body = await exchange.readRequestBody(BODY_BYTES_MAX)
    const type = exchange.requestHeaders.get('content-type') ?? ''
    return conclude(exchange, body === null ? null : await bodyFields(body, type))
  }

  const attempt = (exchange: Exchange): Reply | undefined | Promise<Reply | undefined> => {
    const needsBody = conf.inBody && exchange.requestBodyLength !== 0 && canHoldFields(exchange.requestHeaders.get('content-type') ?? '')
    return needsBody && (hideCredentials || search(exchange, null) === null) ? inBody(exchange) : conclude(exchange, null)
  }

  return {
    ...(!conf.inBody && { keepsHeadSafe: true }),
    readsFields: inHeader ? names.map(({ field }) => field) : [],
    rewrite: guard(conf, 'key-auth', kit, attempt),
  }
}

/** Removes a name from everywhere. A promise only when the body changes. */
function hide(exchange: Exchange, name: string, fields: BodyFields | null): Promise<undefined> | undefined {
  exchange.requestHeaders.remove(name.toLowerCase())
  if (exchange.upstreamQuery !== '') exchange.upstreamQuery = withoutQueryValue(exchange.upstreamQuery, name)
  if (fields === null || fields.get(name) === undefined) return undefined
  return withoutField(fields, name).then(({ body, contentType }) => {
    exchange.replaceRequestBody(body)
    if (contentType !== null) exchange.requestHeaders.set('Content-Type', contentType)
    return undefined
  })
}
