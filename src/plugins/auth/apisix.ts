/** What the authentication plugins of the APISIX family have in common: refusals with a challenge, and the anonymous consumer. */
import { type Exchange, jsonReply, type LinkKit, type Reply, Type } from '../plugin.js'

/** Longest credential that is looked at: more is refused before it is decoded or digested. */
export const CREDENTIAL_LENGTH_MAX = 8192

/** Refuses, or goes on as the anonymous consumer. */
export type Refuse = (exchange: Exchange, reply: Reply) => Reply | undefined

/** A 401 with `{"message": …}` and its challenge. */
export function unauthorized(message: string, challenge: string): Reply {
  return jsonReply(401, 'message', message, [['WWW-Authenticate', challenge]])
}

export function linkRefusal(anonymous: string | null, challenge: string, plugin: string, kit: LinkKit): Refuse {
  if (anonymous === null) return (_exchange, reply) => reply
  const missing = unauthorized('Invalid user authorization', challenge)
  return (exchange) => {
    const consumer = kit.consumer(anonymous)
    if (consumer === null) {
      kit.log('error', `${plugin}: anonymous_consumer "${anonymous}" does not exist, so requests that are not authenticated are refused`)
      return missing
    }
    exchange.authenticate(consumer, null)
    return undefined
  }
}

/** A realm stands between quotes in a header field. */
export const realmPattern = '^[^"\\\\\\x00-\\x1f\\x7f]*$'

export const anonymousConsumer = Type.Optional(
  Type.String({
    minLength: 1,
    description: 'Consumer as which requests go on that fail to authenticate, also those with wrong credentials. Unset: they are refused.',
  }),
)
