/**
 * multi-auth: several ways to authenticate, of which one is enough. They are tried in the order of the list; the first success counts.
 *
 * Runs on workers, rewrite phase; waits only where one of them does. State: none. Failure: 401 with the challenges of all; a refusal for
 * another reason than the caller (503, 413) is passed on when nothing else succeeds.
 */
import {
  definePlugin,
  type Exchange,
  type Json,
  jsonReply,
  type LinkKit,
  PluginConfigError,
  type PluginInstance,
  type PluginProblem,
  type PrepareKit,
  type Reply,
  type Static,
  Type,
} from './plugin.js'

const schema = Type.Object({
  auth_plugins: Type.Array(
    Type.Record(Type.String({ minLength: 1 }), Type.Record(Type.String(), Type.Unknown()), {
      description: 'Plugins by name, each with its options.',
    }),
    { minItems: 2, description: 'Authentication plugins, each as an object `{name: options}`, in the order in which they are tried.' },
  ),
})
type Conf = Static<typeof schema>

interface Prepared {
  readonly plugins: { readonly name: string; readonly prepared: Json }[]
}

export const multiAuth = definePlugin<Conf, Prepared>({
  name: 'multi-auth',
  priority: 2600,
  description: 'Authenticates by the first of several authentication plugins that succeeds.',
  schema,
  check,
  prepare,
  link,
})

function check({ auth_plugins: list }: Conf): PluginProblem[] {
  return list.flatMap((entry, index) =>
    Object.keys(entry).length > 0 ? [] : [{ path: `auth_plugins.${index}`, message: 'names no plugin; expected {name: options}' }],
  )
}

function prepare({ auth_plugins: list }: Conf, kit: PrepareKit): Prepared {
  const plugins = list.flatMap((entry, index) =>
    Object.entries(entry).map(([name, conf]) => {
      const path = `auth_plugins.${index}`
      const prepared = kit.plugin(name, conf as Json, path)
      if (!kit.authenticates(name)) {
        throw new PluginConfigError(
          `${name} plugin is not supported; expected an authentication plugin with credentials of consumers`,
          `${path}.${name}`,
        )
      }
      return { name, prepared }
    }),
  )
  return { plugins }
}

function link({ plugins }: Prepared, kit: LinkKit): PluginInstance {
  const instances = plugins.map(({ name, prepared }) => kit.plugin(name, prepared))

  /** Tries from `from` on; `refusals` are those of the attempts before. */
  function attempt(exchange: Exchange, from: number, refusals: Reply[]): Reply | undefined | Promise<Reply | undefined> {
    for (let index = from; index < instances.length; index++) {
      const result = instances[index]?.rewrite?.(exchange)
      if (result === undefined) return undefined
      if (result instanceof Promise) {
        return result.then((reply) => {
          if (reply === undefined) return undefined
          refusals.push(reply)
          return attempt(exchange, index + 1, refusals)
        })
      }
      refusals.push(result)
    }
    return allFailed(refusals)
  }

  return {
    setsFields: instances.flatMap((instance) => instance.setsFields ?? []),
    readsFields: instances.flatMap((instance) => instance.readsFields ?? []),
    rewrite: (exchange) => attempt(exchange, 0, []),
  }
}

function allFailed(refusals: readonly Reply[]): Reply {
  const other = refusals.find(({ status }) => status !== 401 && status !== 403)
  if (other !== undefined) return other
  const challenges = refusals.flatMap(({ headers }) => (headers ?? []).filter(([name]) => name.toLowerCase() === 'www-authenticate'))
  return jsonReply(401, 'message', 'Authorization Failed', challenges)
}
