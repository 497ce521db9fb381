/**
 * attach-consumer-label: sends labels of the consumer to the upstream as header fields.
 *
 * Runs on workers, access phase, synchronous, no state. A field whose label the consumer does not have is removed, as it is when nobody is
 * authenticated: a client cannot give itself a label.
 */
import {
  definePlugin,
  fieldNameProblem,
  fieldValue,
  type LinkKit,
  type PluginInstance,
  type PluginProblem,
  type Static,
  Type,
} from './plugin.js'

const schema = Type.Object({
  headers: Type.Record(Type.String({ minLength: 1 }), Type.String({ pattern: '^\\$.+' }), {
    minProperties: 1,
    description: 'Header fields with the labels that they carry: `{"X-Dept": "$department"}`.',
  }),
})
type Conf = Static<typeof schema>

export const attachConsumerLabel = definePlugin<Conf, Conf>({
  name: 'attach-consumer-label',
  priority: 2399,
  description: 'Sends labels of the authenticated consumer to the upstream in header fields.',
  schema,
  check: ({ headers }): PluginProblem[] =>
    Object.keys(headers).flatMap((name) => {
      const message = fieldNameProblem(name)
      return message === null ? [] : [{ path: 'headers', message }]
    }),
  prepare: (conf) => conf,
  link,
})

function link({ headers }: Conf, _kit: LinkKit): PluginInstance {
  const fields = Object.entries(headers).map(([name, label]) => ({ name, key: name.toLowerCase(), label: label.slice(1) }))
  return {
    setsFields: fields.map(({ key }) => key),
    access(exchange) {
      const labels = exchange.consumer?.labels
      for (const { name, key, label } of fields) {
        const value = labels !== undefined && Object.hasOwn(labels, label) ? labels[label] : undefined
        if (value === undefined) exchange.requestHeaders.remove(key)
        else exchange.requestHeaders.set(name, fieldValue(value))
      }
    },
  }
}
