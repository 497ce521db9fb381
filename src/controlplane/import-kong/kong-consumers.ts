/** Consumers of a Kong file with their credentials, groups and acls, as consumers of ours. */
import type { IssueList } from '../load-issue.js'
import type { CredentialList, Entity, KongEntities } from './entity-kinds.js'
import type { KongConsumer } from './kong-schema.js'
import { resourceName } from './kong-text.js'
import type { Origins } from './origins.js'

type Fields = { [name: string]: unknown }

/** Plugin that a list of credentials belongs to, and the fields it takes over. */
const credentialPlugins: { readonly [list in CredentialList]: readonly [plugin: string, fields: readonly string[]] | null } = {
  keyauth_credentials: ['key-auth', ['key']],
  basicauth_credentials: ['basic-auth', ['username', 'password']],
  jwt_secrets: ['jwt', ['key', 'secret', 'algorithm', 'rsa_public_key']],
  hmacauth_credentials: null,
}

export function importConsumers(
  entities: KongEntities,
  plugins: ReadonlyMap<unknown, Fields>,
  origins: Origins,
  issues: IssueList,
): Fields[] {
  const credentials = byConsumer(entities.credentials)
  const acls = byConsumer(entities.acls)
  const groups = byConsumer(entities.memberships)
  return entities.consumers.map((consumer) => {
    const memberOf = groups.get(consumer) ?? []
    const second = memberOf[1]
    if (second !== undefined)
      issues.error(second.path, `consumer ${consumer.name} is in several consumer groups, which is not supported`, 'one group per consumer')
    const own = plugins.get(consumer)
    const fields: Fields = {
      username: usernameOf(consumer),
      ...(memberOf[0] !== undefined && { group_id: resourceName(memberOf[0].group.name) }),
      ...(consumer.value.custom_id !== undefined && { labels: origins.none({ custom_id: consumer.value.custom_id }) }),
      ...(acls.has(consumer) && { groups: [...new Set((acls.get(consumer) ?? []).map((acl) => acl.group))] }),
      ...(own !== undefined && { plugins: own }),
      ...(credentials.has(consumer) && { credentials: credentialsOf(credentials.get(consumer) ?? [], origins, issues) }),
    }
    origins.field(fields, 'labels', [...consumer.path, 'custom_id'])
    origins.field(fields, 'groups', [...consumer.path, 'acls'])
    return origins.of(consumer.path, fields)
  })
}

function byConsumer<T extends { readonly consumer: Entity<KongConsumer> }>(items: readonly T[]): Map<Entity<KongConsumer>, T[]> {
  const groups = new Map<Entity<KongConsumer>, T[]>()
  for (const item of items) {
    const group = groups.get(item.consumer)
    if (group === undefined) groups.set(item.consumer, [item])
    else group.push(item)
  }
  return groups
}

/** What the consumer is called here. */
export function usernameOf(consumer: Entity<KongConsumer>): string {
  return consumer.value.username ?? consumer.value.custom_id ?? consumer.name
}

function credentialsOf(credentials: KongEntities['credentials'], origins: Origins, issues: IssueList): Fields[] {
  const made: Fields[] = []
  for (const [index, { list, value, path }] of credentials.entries()) {
    const plugin = credentialPlugins[list]
    if (plugin === null) {
      issues.error(path, `${list} are not supported: Kong signs other texts than hmac-auth here`, 'another kind of credential')
      continue
    }
    if (value['ttl'] !== undefined) issues.error([...path, 'ttl'], 'ttl of credentials is not supported', 'no ttl')
    const [name, fields] = plugin
    const conf = Object.fromEntries(fields.filter((field) => value[field] !== undefined).map((field) => [field, value[field]]))
    const id = typeof value['id'] === 'string' ? value['id'] : `${name}-${index + 1}`
    const credential = { id: resourceName(id), plugins: origins.none({ [name]: origins.of(path, conf) }) }
    made.push(origins.of(path, credential))
  }
  return origins.none(made)
}
