/** Schemas of `consumers`, `credentials` and `consumer_groups`. */
import { type Static, Type } from '@sinclair/typebox'
import { described, pluginsSchema, reference } from './common.js'

const namePattern = '[a-zA-Z0-9_-]+'
const word = '[a-zA-Z0-9_.-]{1,64}'

/** `id` of a credential that stands in a list of its own: consumer and credential in one. */
export const credentialPath = new RegExp(`^(${namePattern})/credentials/(${word})$`)

const { id: _id, ...describedWithoutId } = described

const credentialPlugins = Type.Record(Type.String({ minLength: 1 }), Type.Record(Type.String(), Type.Unknown()), {
  minProperties: 1,
  maxProperties: 1,
  description: 'Exactly one authentication plugin, with what this consumer proves its identity with.',
})

const credentialFields = { ...describedWithoutId, plugins: credentialPlugins }

/** One of `credentials` of a consumer. */
export const nestedCredentialSchema = Type.Object(
  { id: Type.String({ pattern: `^${word}$`, description: 'Name of the credential among those of its consumer.' }), ...credentialFields },
  { additionalProperties: false, description: 'Something that a consumer proves its identity with.' },
)

export const credentialSchema = Type.Object(
  {
    id: Type.String({
      maxLength: 400,
      pattern: `^(${namePattern}/credentials/)?${word}$`,
      description: 'Consumer and name, `jack/credentials/one`; or the name alone, with the consumer in `consumer`.',
    }),
    consumer: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 256,
        pattern: `^${namePattern}$`,
        description: 'Name of the consumer whose credential it is.',
      }),
    ),
    ...credentialFields,
  },
  {
    additionalProperties: false,
    description: 'Something that a consumer proves its identity with, apart from the consumer. May also stand among `consumers`.',
  },
)

export const consumerSchema = Type.Object(
  {
    ...described,
    username: Type.String({ minLength: 1, maxLength: 256, pattern: `^${namePattern}$`, description: 'Name of the consumer; also its id.' }),
    group_id: Type.Optional(reference('consumer_groups')),
    groups: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 256 }), {
        uniqueItems: true,
        description: 'Groups that the plugin `acl` knows it by.',
      }),
    ),
    plugins: Type.Optional(pluginsSchema),
    credentials: Type.Optional(Type.Array(nestedCredentialSchema, { description: 'Credentials, each with an authentication plugin.' })),
  },
  { additionalProperties: false, description: 'Somebody who calls the gateway, with credentials and own plugins.' },
)

export const consumerGroupSchema = Type.Object(
  { ...described, plugins: pluginsSchema },
  { additionalProperties: false, description: 'Plugins that several consumers share.' },
)

export type ConsumerResource = Static<typeof consumerSchema>
export type CredentialResource = Static<typeof credentialSchema>
export type NestedCredentialResource = Static<typeof nestedCredentialSchema>
export type ConsumerGroupResource = Static<typeof consumerGroupSchema>
