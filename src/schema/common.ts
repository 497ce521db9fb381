/**
 * Pieces that several resource schemas share. TypeBox is the single source: types, validation, defaults, reference pages and the
 * editor schema all come from these objects, so every field carries a `description` that a user can read.
 */
import { type Static, type TSchema, type TUnsafe, Type } from '@sinclair/typebox'

/** A string that is one of `values`; without a default unless one is given. */
export function oneOf<const T extends string>(values: readonly T[], options: { description: string; default?: T }): TUnsafe<T> {
  return Type.Unsafe<T>({ type: 'string', enum: [...values], ...options })
}

/** Ids of resources: a word of 1 to 64 characters, or an integer from 1. */
export const resourceId = Type.Union(
  [Type.String({ minLength: 1, maxLength: 64, pattern: '^[a-zA-Z0-9_.-]+$' }), Type.Integer({ minimum: 1 })],
  {
    description:
      'Identifier: 1 to 64 letters, digits, `-`, `_`, `.`, or an integer from 1. Without it the resource is called `arr_<n>` after its place in the list, counted from 1.',
  },
)

export const reference = (kind: string) =>
  Type.Union([Type.String({ minLength: 1, maxLength: 64, pattern: '^[a-zA-Z0-9_.-]+$' }), Type.Integer({ minimum: 1 })], {
    description: `Id of an entry of \`${kind}\`.`,
  })

/** Fields that every resource may carry. They change nothing in the traffic. */
export const described = {
  id: Type.Optional(resourceId),
  name: Type.Optional(
    Type.String({ minLength: 1, maxLength: 256, description: 'Name for people, logs and metrics; 1 to 256 characters.' }),
  ),
  desc: Type.Optional(Type.String({ maxLength: 256, description: 'What it is for; up to 256 characters.' })),
  labels: Type.Optional(
    Type.Record(Type.String(), Type.String({ minLength: 1, maxLength: 256, pattern: '^\\S+$' }), {
      description: 'Free key/value pairs without spaces in the values.',
    }),
  ),
  create_time: Type.Optional(Type.Integer({ minimum: 0, description: 'Unix time of creation, in seconds. Kept, not used.' })),
  update_time: Type.Optional(Type.Integer({ minimum: 0, description: 'Unix time of the last change, in seconds. Kept, not used.' })),
}

export const hostPattern = '^\\*?[0-9a-zA-Z._\\[\\]:-]*$'

export const host = (description: string) => Type.String({ minLength: 1, maxLength: 256, pattern: hostPattern, description })

const seconds = (what: string, fallback: number | string) =>
  Type.Optional(
    Type.Number({ exclusiveMinimum: 0, maximum: 86_400, description: `${what}, in seconds; fractions are allowed. Default ${fallback}.` }),
  )

/** Timeouts in seconds. Partial ones are accepted: what is missing keeps its default. */
export const timeoutSchema = Type.Object(
  {
    connect: seconds('Longest wait for the connection to the upstream', 3),
    send: seconds('Longest pause between two writes to the upstream', 10),
    read: seconds('Longest pause between two reads from the upstream', 30),
    per_try: seconds('Longest time from the beginning of one try to the head of its answer', 'none'),
    total: seconds('Longest time from the arrival of the request to the end of the answer, over all tries', 'none'),
  },
  { additionalProperties: false, description: 'Limits of the waits for the upstream.' },
)

/** `plugins` of any resource. Each conf is checked against the schema of its plugin. */
export const pluginsSchema = Type.Record(Type.String({ minLength: 1 }), Type.Record(Type.String(), Type.Unknown()), {
  description:
    'Plugins by name, each with its options. Options of every plugin: see the plugins page. `_meta` is understood by all of them.',
})

/** Default limits of the waits for upstreams, milliseconds. */
export const defaultTimeout = { connectMs: 3_000, sendMs: 10_000, readMs: 30_000 } as const

/** `_meta`, which every plugin conf may carry. */
export const pluginMetaSchema = Type.Object(
  {
    disable: Type.Optional(
      Type.Boolean({ default: false, description: 'Switches this plugin off here, also when a service or plugin_config configures it.' }),
    ),
    priority: Type.Optional(Type.Integer({ description: 'Replaces the priority of the plugin: higher runs first.' })),
    filter: Type.Optional(
      Type.Array(Type.Unknown(), { description: 'Expression in the language of `vars`: the plugin is skipped when it is false.' }),
    ),
    overridable: Type.Optional(
      Type.Boolean({
        default: false,
        description: 'Only in global rules: the plugin does not run where the route or the consumer has a plugin of this name.',
      }),
    ),
    error_response: Type.Optional(
      Type.Union([Type.String(), Type.Record(Type.String(), Type.Unknown())], {
        description: "Body sent instead of the plugin's own when it answers with status 400 or above: text, or an object sent as JSON.",
      }),
    ),
  },
  { additionalProperties: false, description: 'Options that every plugin understands.' },
)

export type TimeoutResource = Static<typeof timeoutSchema>
export type PluginsResource = Static<typeof pluginsSchema>
export type PluginMeta = Static<typeof pluginMetaSchema>
export type { TSchema }
