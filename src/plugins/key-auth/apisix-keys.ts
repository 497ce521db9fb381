/** key-auth as APISIX has it: a header field, then a query parameter. */
import { CREDENTIAL_LENGTH_MAX, linkRefusal, unauthorized } from '../auth/apisix.js'
import { REPEATED, singleField } from '../auth/fields.js'
import { type Exchange, type LinkKit, type PluginInstance, queryValues, withoutQueryValue } from '../plugin.js'

export interface ApisixKeys {
  /** Lower-case. */
  readonly header: string
  readonly query: string
  readonly hideCredentials: boolean
  readonly anonymous: string | null
  readonly challenge: string
}

export function linkApisix(conf: ApisixKeys, kit: LinkKit): PluginInstance {
  const { header, query, hideCredentials, challenge } = conf
  const credentials = kit.credentials()
  const missing = unauthorized('Missing API key in request', challenge)
  const invalid = unauthorized('Invalid API key in request', challenge)
  const refuse = linkRefusal(conf.anonymous, challenge, 'key-auth', kit)

  /** In the query, where the header has none; REPEATED = twice. */
  function queryKey(exchange: Exchange): string | undefined | typeof REPEATED {
    if (exchange.query === '') return undefined
    const values = queryValues(exchange.query, query)
    return values.length > 1 ? REPEATED : values[0]
  }

  /** Not before the outcome is known: within multi-auth another plugin may still want to see it. */
  function hide(exchange: Exchange): void {
    exchange.requestHeaders.remove(header)
    if (exchange.upstreamQuery !== '') exchange.upstreamQuery = withoutQueryValue(exchange.upstreamQuery, query)
  }

  return {
    readsFields: [header],
    keepsHeadSafe: true,
    rewrite(exchange) {
      const key = singleField(exchange.requestHeaders, header) ?? queryKey(exchange)
      const credential = typeof key !== 'string' || key.length > CREDENTIAL_LENGTH_MAX ? null : credentials.find(key)
      if (credential === null) {
        const refusal = refuse(exchange, key === undefined ? missing : invalid)
        if (refusal !== undefined) return refusal
      } else exchange.authenticate(credential.consumer, credential)
      if (hideCredentials) hide(exchange)
      return undefined
    },
  }
}
