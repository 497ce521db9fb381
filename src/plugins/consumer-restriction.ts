/**
 * consumer-restriction: who may use a route: by consumer, by consumer group, or, on a consumer, by route or service.
 *
 * Runs on workers, access phase, synchronous, no state. Failure: `rejected_code`; 401 when what it looks at is unknown.
 */
import {
  type Accessor,
  definePlugin,
  jsonReply,
  type LinkKit,
  type PluginInstance,
  type PluginProblem,
  type Static,
  Type,
} from './plugin.js'

const names = (description: string) => Type.Optional(Type.Array(Type.String({ minLength: 1 }), { minItems: 1, description }))

const kinds = ['consumer_name', 'consumer_group_id', 'service_id', 'route_id'] as const
const methods = ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'CONNECT', 'TRACE', 'PURGE'] as const

const schema = Type.Object({
  type: Type.Union(
    kinds.map((kind) => Type.Literal(kind)),
    { default: 'consumer_name', description: 'What the lists name. `service_id` and `route_id` are for the plugins of consumers.' },
  ),
  whitelist: names('Only these may.'),
  blacklist: names('These may not; looked at first.'),
  allowed_by_methods: Type.Optional(
    Type.Array(
      Type.Object({
        user: Type.String({ minLength: 1, description: 'A value of `type`, such as the name of a consumer.' }),
        methods: Type.Array(Type.Union(methods.map((method) => Type.Literal(method))), {
          minItems: 1,
          description: 'Methods that it may use.',
        }),
      }),
      { minItems: 1, description: 'Methods by user, for those who are not in `whitelist`. Who is not listed may use all methods.' },
    ),
  ),
  rejected_code: Type.Integer({ minimum: 200, maximum: 599, default: 403, description: 'Status of refusals.' }),
  rejected_msg: Type.Optional(Type.String({ minLength: 1, description: 'Text of refusals. Unset: `The <type> is forbidden.`' })),
})
type Conf = Static<typeof schema>

export const consumerRestriction = definePlugin<Conf, Conf>({
  name: 'consumer-restriction',
  priority: 2400,
  description: 'Allows or refuses consumers, consumer groups, services or routes by lists.',
  schema,
  check,
  prepare: (conf) => conf,
  link,
})

function check(conf: Conf): PluginProblem[] {
  if (conf.whitelist !== undefined || conf.blacklist !== undefined || conf.allowed_by_methods !== undefined) return []
  return [{ path: '', message: 'at least one of whitelist, blacklist, allowed_by_methods is required' }]
}

function restricted(type: Conf['type'], kit: LinkKit): Accessor {
  switch (type) {
    case 'consumer_name':
      return (exchange) => exchange.consumerName
    case 'consumer_group_id':
      return (exchange) => exchange.consumerGroupId
    case 'service_id':
      return () => kit.route?.serviceId
    case 'route_id':
      return () => kit.route?.id
  }
}

function link(conf: Conf, kit: LinkKit): PluginInstance {
  const value = restricted(conf.type, kit)
  const blacklist = new Set(conf.blacklist ?? [])
  const whitelist = conf.whitelist === undefined ? null : new Set(conf.whitelist)
  const byUser = new Map<string, ReadonlySet<string>>()
  // Of several entries for one user the first counts.
  for (const { user, methods: allowed } of conf.allowed_by_methods ?? []) if (!byUser.has(user)) byUser.set(user, new Set(allowed))
  const unknown = jsonReply(401, 'message', `The request is rejected, please check the ${conf.type} for this request`)
  const forbidden = jsonReply(conf.rejected_code, 'message', conf.rejected_msg ?? `The ${conf.type} is forbidden.`)
  return {
    keepsHeadSafe: true,
    access(exchange) {
      const found = value(exchange)
      if (found === undefined || found === '') return unknown
      if (blacklist.has(found)) return forbidden
      if (whitelist !== null) return whitelist.has(found) ? undefined : forbidden
      const allowed = byUser.get(found)
      return allowed === undefined || allowed.has(exchange.method) ? undefined : forbidden
    },
  }
}
