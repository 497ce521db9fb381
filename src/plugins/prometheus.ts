/**
 * prometheus: how the series of a route are named on the metrics page.
 *
 * Every request is counted whether or not the plugin is there, so it has no phase and costs nothing: what it says is read when a route is
 * linked.
 */
import { definePlugin, type Static, Type } from './plugin.js'

const schema = Type.Object({
  prefer_name: Type.Boolean({
    default: false,
    description: 'The labels `route` and `service` hold names instead of ids, where there are names.',
  }),
})

type Conf = Static<typeof schema>

export const prometheus = definePlugin<Conf, { readonly names: boolean }>({
  name: 'prometheus',
  priority: 500,
  description: 'Says how routes are named in metrics, which are counted with and without it.',
  schema,
  prepare: (conf) => ({ names: conf.prefer_name }),
  link: ({ names }) => (names ? { namesSeries: true } : {}),
})
