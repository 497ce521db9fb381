/**
 * ip-restriction: lets only listed client addresses in, or keeps listed ones out.
 *
 * Runs on workers, access phase, on the client address that real-ip and the trusted proxies left behind. State: none.
 * Failure: an address that cannot be read is in no list, so a whitelist refuses it and a blacklist lets it pass.
 */
import {
  addressProblem,
  definePlugin,
  type Exchange,
  exactlyOneOf,
  itemProblems,
  jsonReply,
  type LinkKit,
  type PluginInstance,
  type PluginProblem,
  type Reply,
  type Static,
  Type,
} from './plugin.js'

const addresses = (description: string) => Type.Optional(Type.Array(Type.String({ minLength: 1 }), { minItems: 1, description }))

const schema = Type.Object({
  whitelist: addresses('Addresses and CIDR blocks (IPv4, IPv6) that may pass; all others are refused. Excludes `blacklist`.'),
  blacklist: addresses('Addresses and CIDR blocks (IPv4, IPv6) that are refused; all others pass. Excludes `whitelist`.'),
  message: Type.String({
    minLength: 1,
    maxLength: 1024,
    default: 'Your IP address is not allowed',
    description: 'Text of the refusal, sent as `{"message": …}`.',
  }),
  response_code: Type.Integer({
    minimum: 403,
    maximum: 404,
    default: 403,
    description: 'Status of the refusal: 403, or 404 to hide the route.',
  }),
})
type Conf = Static<typeof schema>

export const ipRestriction = definePlugin<Conf, Conf>({
  name: 'ip-restriction',
  priority: 3000,
  description: 'Allows or refuses requests by the address of the client.',
  schema,
  check,
  prepare: (conf) => conf,
  link,
})

function check(conf: Conf): PluginProblem[] {
  return [
    ...exactlyOneOf(conf, ['whitelist', 'blacklist']),
    ...itemProblems('whitelist', conf.whitelist, addressProblem),
    ...itemProblems('blacklist', conf.blacklist, addressProblem),
  ]
}

function link(conf: Conf, kit: LinkKit): PluginInstance {
  const listed = kit.addressSet(conf.whitelist ?? conf.blacklist ?? [])
  const listedMayPass = conf.whitelist !== undefined
  const refusal = jsonReply(conf.response_code, 'message', conf.message)
  return {
    keepsHeadSafe: true,
    access(exchange: Exchange): Reply | undefined {
      return listed.has(exchange.clientAddress) === listedMayPass ? undefined : refusal
    },
  }
}
