/**
 * What the authentication plugins of the Kong family have in common: refusals with a request id in the form that the client asks for,
 * the anonymous consumer, and preflights. With `anonymous`, several such plugins on a route are alternatives; without, all must pass.
 */
import { type Exchange, kongError, type LinkKit, nullable, type PhaseReturn, type Reply, Type } from '../plugin.js'

export interface KongCommon {
  readonly anonymous: string | null
  readonly runOnPreflight: boolean
  /** Value of WWW-Authenticate. */
  readonly challenge: string
}

/** Options by which a conf is known to be of this family. */
export const kongOptions = {
  anonymous: nullable(Type.String({ minLength: 1 }), {
    description: 'Kong shape: consumer as which requests go on that fail to authenticate. Unset: they are refused.',
  }),
  run_on_preflight: nullable(Type.Boolean(), {
    description: 'Kong shape (unset = true): authenticate OPTIONS requests too.',
  }),
}

/** Makes one attempt; undefined = the exchange is authenticated. */
export type Attempt = (exchange: Exchange) => Reply | undefined | Promise<Reply | undefined>

/** Runs an attempt by the rules of this family. */
export function guard(common: KongCommon, plugin: string, kit: LinkKit, attempt: Attempt): (exchange: Exchange) => PhaseReturn {
  const { anonymous, runOnPreflight } = common
  const conclude = (exchange: Exchange, reply: Reply | undefined): Reply | undefined =>
    reply === undefined || anonymous === null ? reply : goOnAs(exchange, anonymous, plugin, kit)
  return (exchange) => {
    if (!runOnPreflight && exchange.method === 'OPTIONS') return undefined
    if (anonymous !== null && exchange.credential !== null) return undefined
    const result = attempt(exchange)
    if (result instanceof Promise) return result.then((reply) => conclude(exchange, reply))
    return result === undefined ? undefined : conclude(exchange, result)
  }
}

function goOnAs(exchange: Exchange, anonymous: string, plugin: string, kit: LinkKit): Reply | undefined {
  const consumer = kit.consumer(anonymous)
  if (consumer === null) {
    kit.log('error', `${plugin}: the anonymous consumer "${anonymous}" does not exist, so requests that are not authenticated are refused`)
    return kongError(exchange, 500, 'An unexpected error occurred')
  }
  exchange.authenticate(consumer, null)
  exchange.requestHeaders.set('X-Anonymous-Consumer', 'true')
  return undefined
}

/** `Key`, or `Key realm="x"`. */
export function challengeOf(scheme: string, realm: string | null): string {
  return realm === null || realm === '' ? scheme : `${scheme} realm="${realm}"`
}
