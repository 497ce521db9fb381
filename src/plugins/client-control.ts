/**
 * client-control: bounds the request body of a route, in place of the gateway's own limit.
 *
 * Runs on workers, rewrite phase. State: none. Failure: a body announced as larger is refused with 413 before anything else of the
 * route runs; a body without Content-Length is counted by the proxy while it streams and refused with 413 at the first byte beyond.
 */
import { definePlugin, type Exchange, type PluginInstance, type Reply, type Static, Type } from './plugin.js'

const schema = Type.Object({
  max_body_size: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: Number.MAX_SAFE_INTEGER,
      description:
        'Largest request body in bytes; 0 = no limit. Replaces the limit of the gateway for this route. Unset = the limit stays.',
    }),
  ),
})
type Conf = Static<typeof schema>

const TOO_LARGE: Reply = { status: 413 }

export const clientControl = definePlugin<Conf, Conf>({
  name: 'client-control',
  priority: 22000,
  description: 'Sets the largest request body that a route accepts.',
  schema,
  prepare: (conf) => conf,
  link,
})

function link(conf: Conf): PluginInstance {
  const limit = conf.max_body_size
  if (limit === undefined) return {}
  return {
    rewrite(exchange: Exchange): Reply | undefined {
      exchange.maxRequestBodyBytes = limit
      return limit !== 0 && exchange.requestBodyLength > limit ? TOO_LARGE : undefined
    },
  }
}
