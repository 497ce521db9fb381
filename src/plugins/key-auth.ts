/**
 * key-auth: the caller is the consumer whose key the request carries. Two plugins in one name, told apart by their options:
 *
 *   header, query, anonymous_consumer                                       APISIX: one header, then one query parameter
 *   key_names, key_in_*, run_on_preflight, anonymous                        Kong: several names, in headers, query and body
 *
 * Runs on workers, rewrite phase. State: none; the credentials of the snapshot. Failure: 401 with a challenge, or the anonymous consumer.
 */
import { anonymousConsumer, CREDENTIAL_LENGTH_MAX, realmPattern } from './auth/apisix.js'
import { challengeOf, kongOptions } from './auth/kong.js'
import { type ApisixKeys, linkApisix } from './key-auth/apisix-keys.js'
import { type KongKeys, linkKong } from './key-auth/kong-keys.js'
import {
  defineCredential,
  definePlugin,
  fieldNameProblem,
  itemProblems,
  type LinkKit,
  nullable,
  type PluginInstance,
  type PluginProblem,
  type Static,
  Type,
} from './plugin.js'

const apisixOptions = {
  header: Type.Optional(Type.String({ minLength: 1, description: 'APISIX shape (unset = `apikey`): header field that carries the key.' })),
  query: Type.Optional(
    Type.String({ minLength: 1, description: 'APISIX shape (unset = `apikey`): query parameter that carries it, if the header does not.' }),
  ),
  anonymous_consumer: anonymousConsumer,
}

const kongShape = {
  key_names: nullable(Type.Array(Type.String({ minLength: 1 }), { minItems: 1 }), {
    description: 'Kong shape (unset = `["apikey"]`): names of header fields, query parameters and body fields, tried in turn.',
  }),
  key_in_header: nullable(Type.Boolean(), { description: 'Kong shape (unset = true): look into header fields.' }),
  key_in_query: nullable(Type.Boolean(), { description: 'Kong shape (unset = true): look into the query, after the header.' }),
  key_in_body: nullable(Type.Boolean(), {
    description: 'Kong shape (unset = false): look into bodies of forms and JSON objects up to 8 MiB, after the query.',
  }),
  ...kongOptions,
}

const schema = Type.Object({
  ...apisixOptions,
  ...kongShape,
  hide_credentials: Type.Boolean({ default: false, description: 'Do not send the key to the upstream.' }),
  realm: Type.Optional(
    nullable(Type.String({ pattern: realmPattern }), {
      description: 'Realm of the challenge. Unset: `key` in the APISIX shape, none in the Kong shape.',
    }),
  ),
})
type Conf = Static<typeof schema>

type Prepared = ({ readonly shape: 'apisix' } & ApisixKeys) | ({ readonly shape: 'kong' } & KongKeys)

export const keyAuth = definePlugin<Conf, Prepared>({
  name: 'key-auth',
  priority: 2500,
  description: 'Authenticates consumers by a key in a header field, the query or the body.',
  schema,
  credential: defineCredential<{ key: string }>({
    schema: Type.Object({
      key: Type.String({ minLength: 1, maxLength: CREDENTIAL_LENGTH_MAX, description: 'The key. No two consumers may have the same.' }),
    }),
    key: 'key',
  }),
  check,
  prepare,
  link,
})

function given(conf: Conf, options: object): string[] {
  const entries: { readonly [name: string]: unknown } = conf
  return Object.keys(options).filter((name) => (entries[name] ?? null) !== null)
}

function check(conf: Conf): PluginProblem[] {
  const ofApisix = given(conf, apisixOptions)
  const ofKong = given(conf, kongShape)
  if (ofApisix.length > 0 && ofKong.length > 0) {
    const message = `${ofApisix.join(', ')} and ${ofKong.join(', ')} belong to different shapes of this plugin; expected the options of one`
    return [{ path: '', message }]
  }
  const problems = itemProblems('key_names', conf.key_names ?? undefined, (name) =>
    (conf.key_in_header ?? true) ? fieldNameProblem(name) : null,
  )
  const header = conf.header === undefined ? null : fieldNameProblem(conf.header)
  if (header !== null) problems.push({ path: 'header', message: header })
  if (conf.key_in_header === false && conf.key_in_query === false && (conf.key_in_body ?? false) === false) {
    problems.push({ path: '', message: 'key_in_header, key_in_query and key_in_body are all false: no request could be authenticated' })
  }
  return problems
}

function prepare(conf: Conf): Prepared {
  const { hide_credentials: hideCredentials } = conf
  if (given(conf, kongShape).length === 0) {
    const { header = 'apikey', query = 'apikey', anonymous_consumer = null } = conf
    const challenge = `apikey realm="${conf.realm ?? 'key'}"`
    return { shape: 'apisix', header: header.toLowerCase(), query, challenge, hideCredentials, anonymous: anonymous_consumer }
  }
  return {
    shape: 'kong',
    names: conf.key_names ?? ['apikey'],
    inHeader: conf.key_in_header ?? true,
    inQuery: conf.key_in_query ?? true,
    inBody: conf.key_in_body ?? false,
    hideCredentials,
    anonymous: conf.anonymous ?? null,
    runOnPreflight: conf.run_on_preflight ?? true,
    challenge: challengeOf('Key', conf.realm ?? null),
  }
}

function link(prepared: Prepared, kit: LinkKit): PluginInstance {
  return prepared.shape === 'apisix' ? linkApisix(prepared, kit) : linkKong(prepared, kit)
}
