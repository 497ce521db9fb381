/**
 * The entities of a Kong declarative file, nested or flat, each checked, with its place and with what it belongs to. References are by
 * name or id. Nothing is translated here.
 */
import type { TObject } from '@sinclair/typebox'
import { type DocumentPath, formatPath, type IssueList } from '../load-issue.js'
import { suggest } from '../suggest.js'
import { checkSchema, typeName } from '../validate-schema.js'
import {
  type Acl,
  type Certificate,
  type CredentialList,
  type Entity,
  Kind,
  type KongCredential,
  type KongEntities,
  type Membership,
  type Owned,
  type ScopedPlugin,
} from './entity-kinds.js'
import {
  credentialLists,
  type KongCertificate,
  type KongConsumer,
  type KongConsumerGroup,
  type KongPlugin,
  type KongRoute,
  type KongService,
  type KongTarget,
  type KongUpstream,
  kongAcl,
  kongCaCertificate,
  kongCertificate,
  kongConsumer,
  kongConsumerGroup,
  kongCredentials,
  kongPlugin,
  kongRoute,
  kongService,
  kongSni,
  kongTarget,
  kongUpstream,
} from './kong-schema.js'

type Item = { readonly [name: string]: unknown }

/** Names that may stand at the top of a file. */
const known: readonly string[] = [
  '_format_version',
  '_transform',
  '_info',
  '_comment',
  '_ignore',
  '_workspace',
  'services',
  'routes',
  'plugins',
  'consumers',
  'consumer_groups',
  'upstreams',
  'targets',
  'certificates',
  'snis',
  'ca_certificates',
  'acls',
  'consumer_group_consumers',
  'consumer_group_plugins',
  ...credentialLists,
  'sluice',
]
const defaultTargetPort = 8_000
/** Entities of Kong that have no counterpart here. */
const unsupported: ReadonlySet<string> = new Set([
  'vaults',
  'keys',
  'key_sets',
  'filter_chains',
  'partials',
  'licenses',
  'workspaces',
  'rbac_roles',
  'rbac_users',
  'degraphql_routes',
  'graphql_ratelimiting_cost_decorations',
  'parameters',
  'oauth2_credentials',
  'oauth2_tokens',
  'mtls_auth_credentials',
  'sessions',
  'clustering_data_planes',
])
const nestedFields = ['routes', 'plugins', 'targets', 'snis', 'consumers', 'groups', 'acls', ...credentialLists]

/** Reads all entities of `root`. What is wrong is reported and left out. */
export function readEntities(root: Item, issues: IssueList): KongEntities {
  return new EntityReader(root, issues).read()
}

class EntityReader {
  private readonly services = new Kind<KongService>('service')
  private readonly routes = new Kind<KongRoute, Owned<KongRoute, KongService>>('route')
  private readonly upstreams = new Kind<KongUpstream>('upstream')
  private readonly targets: Owned<KongTarget, KongUpstream>[] = []
  private readonly plugins: ScopedPlugin[] = []
  private readonly consumers = new Kind<KongConsumer>('consumer')
  private readonly groups = new Kind<KongConsumerGroup>('consumer group')
  private readonly memberships: Membership[] = []
  private readonly credentials: KongCredential[] = []
  private readonly acls: Acl[] = []
  private readonly certificates = new Kind<KongCertificate, Certificate>('certificate')
  private readonly caCertificates: Entity<{ id?: string; cert: string }>[] = []
  /** What nested lists belong to, read once all owners are known. */
  private readonly later: (() => void)[] = []

  constructor(
    private readonly root: Item,
    private readonly issues: IssueList,
  ) {}

  read(): KongEntities {
    this.checkNames()
    const { root } = this
    for (const [item, path] of this.list(root['services'], ['services'])) this.service(item, path)
    for (const [item, path] of this.list(root['routes'], ['routes'])) this.later.push(() => this.route(item, path, null))
    for (const [item, path] of this.list(root['upstreams'], ['upstreams'])) this.upstream(item, path)
    for (const [item, path] of this.list(root['targets'], ['targets'])) this.later.push(() => this.target(item, path, null))
    for (const [item, path] of this.list(root['consumer_groups'], ['consumer_groups'])) this.group(item, path)
    for (const [item, path] of this.list(root['consumers'], ['consumers'])) this.consumer(item, path)
    for (const list of credentialLists) {
      for (const [item, path] of this.list(root[list], [list])) this.later.push(() => this.credential(list, item, path, null))
    }
    for (const [item, path] of this.list(root['acls'], ['acls'])) this.later.push(() => this.acl(item, path, null))
    for (const [item, path] of this.list(root['certificates'], ['certificates'])) this.certificate(item, path)
    for (const [item, path] of this.list(root['snis'], ['snis'])) this.later.push(() => this.sni(item, path))
    for (const [item, path] of this.list(root['ca_certificates'], ['ca_certificates'])) {
      const checked = this.checked<{ id?: string; cert: string }>(kongCaCertificate, item, path)
      if (checked !== null) this.caCertificates.push({ value: checked, path, name: checked.id ?? formatPath(path) })
    }
    for (const [item, path] of this.list(root['plugins'], ['plugins'])) this.later.push(() => this.plugin(item, path, {}))
    // Nested entities queue further ones: a service its routes, these their plugins.
    for (let index = 0; index < this.later.length; index++) this.later[index]?.()
    return {
      services: this.services.items,
      routes: this.routes.items,
      upstreams: this.upstreams.items,
      targets: this.targets,
      plugins: this.plugins,
      consumers: this.consumers.items,
      groups: this.groups.items,
      memberships: this.memberships,
      credentials: this.credentials,
      acls: this.acls,
      certificates: this.certificates.items,
      caCertificates: this.caCertificates,
    }
  }

  private checkNames(): void {
    for (const name of Object.keys(this.root)) {
      if (known.includes(name) && !unsupported.has(name)) continue
      if (this.root[name] === null) continue
      if (unsupported.has(name)) {
        this.issues.error([name], `Kong's ${name} are not supported`, `no ${name}`, { atKey: true })
      } else {
        this.issues.error([name], 'unknown field', `one of ${known.filter((one) => !one.startsWith('_')).join(', ')}`, {
          atKey: true,
          suggestion: suggest(name, known),
        })
      }
    }
    for (const name of ['consumer_group_consumers', 'consumer_group_plugins']) {
      if (this.root[name] !== undefined)
        this.issues.error([name], `${name} at the top of a file is not supported`, 'the same below its consumer group', { atKey: true })
    }
  }

  private list(value: unknown, path: DocumentPath): [Item, DocumentPath][] {
    if (value === undefined || value === null) return []
    if (!Array.isArray(value)) {
      this.issues.error(path, `wrong type: expected array, got ${typeName(value)}`, `a list of ${String(path.at(-1))}`)
      return []
    }
    const items: [Item, DocumentPath][] = []
    for (const [index, item] of value.entries()) {
      if (typeof item !== 'object' || item === null || Array.isArray(item)) {
        this.issues.error([...path, index], `wrong type: expected object, got ${typeName(item)}`, `one of ${String(path.at(-1))}`)
      } else items.push([withoutNulls(item) as Item, [...path, index]])
    }
    return items
  }

  /** The item if it fits the schema. `_comment` and `_ignore` may stand anywhere. */
  private checked<T>(schema: TObject, item: Item, path: DocumentPath): T | null {
    const value: Item = Object.fromEntries(Object.entries(item).filter(([name]) => name !== '_comment' && name !== '_ignore'))
    return checkSchema<T>(schema, value, path, this.issues) ? value : null
  }

  private service(item: Item, path: DocumentPath): void {
    const value = this.checked<KongService>(kongService, item, path)
    const entity = value === null ? null : this.keep(this.services, { value, path, name: value.name ?? value.id ?? formatPath(path) })
    for (const [route, at] of this.list(item['routes'], [...path, 'routes'])) this.later.push(() => this.route(route, at, entity))
    for (const [plugin, at] of this.list(item['plugins'], [...path, 'plugins']))
      this.later.push(() => this.plugin(plugin, at, { service: entity }))
  }

  private route(item: Item, path: DocumentPath, parent: Entity<KongService> | null): void {
    const value = this.checked<KongRoute>(kongRoute, item, path)
    const owner = parent ?? this.refer(this.services, value?.service, [...path, 'service'])
    const entity = value === null ? null : this.keep(this.routes, { value, path, name: value.name ?? value.id ?? formatPath(path), owner })
    for (const [plugin, at] of this.list(item['plugins'], [...path, 'plugins']))
      this.later.push(() => this.plugin(plugin, at, { route: entity }))
  }

  private upstream(item: Item, path: DocumentPath): void {
    const value = this.checked<KongUpstream>(kongUpstream, item, path)
    const entity = value === null ? null : this.keep(this.upstreams, { value, path, name: value.name ?? formatPath(path) })
    for (const [target, at] of this.list(item['targets'], [...path, 'targets'])) this.later.push(() => this.target(target, at, entity))
  }

  private target(item: Item, path: DocumentPath, parent: Entity<KongUpstream> | null): void {
    const value = this.checked<KongTarget>(kongTarget, item, path)
    if (value === null) return
    const owner = parent ?? this.refer(this.upstreams, value.upstream, [...path, 'upstream'])
    if (owner === null) {
      if (value.upstream === undefined)
        this.issues.error(path, 'the target belongs to no upstream', 'a field upstream with the name of one')
      return
    }
    if (readTarget(value.target) === null) {
      const message = `Invalid target ${JSON.stringify(value.target)}; not a valid hostname or ip address`
      this.issues.error([...path, 'target'], message, '"host:port"')
      return
    }
    this.targets.push({ value, path, name: value.target, owner })
  }

  private consumer(item: Item, path: DocumentPath): void {
    const value = this.checked<KongConsumer>(kongConsumer, item, path)
    if (value !== null && value.username === undefined && value.custom_id === undefined) {
      this.issues.error(path, 'at least one of these fields must be non-empty: username, custom_id', 'a username')
      return
    }
    const entity =
      value === null ? null : this.keep(this.consumers, { value, path, name: value.username ?? value.custom_id ?? formatPath(path) })
    if (entity === null) return
    for (const list of credentialLists) {
      for (const [credential, at] of this.list(item[list], [...path, list]))
        this.later.push(() => this.credential(list, credential, at, entity))
    }
    for (const [acl, at] of this.list(item['acls'], [...path, 'acls'])) this.later.push(() => this.acl(acl, at, entity))
    for (const [plugin, at] of this.list(item['plugins'], [...path, 'plugins']))
      this.later.push(() => this.plugin(plugin, at, { consumer: entity }))
    for (const [group, at] of this.list(item['groups'], [...path, 'groups'])) {
      this.later.push(() => {
        const found = this.refer(this.groups, group, at)
        if (found !== null) this.memberships.push({ consumer: entity, group: found, path: at })
      })
    }
  }

  private group(item: Item, path: DocumentPath): void {
    const value = this.checked<KongConsumerGroup>(kongConsumerGroup, item, path)
    const entity = value === null ? null : this.keep(this.groups, { value, path, name: value.name ?? formatPath(path) })
    if (entity === null) return
    for (const [plugin, at] of this.list(item['plugins'], [...path, 'plugins']))
      this.later.push(() => this.plugin(plugin, at, { group: entity }))
    for (const [consumer, at] of this.list(item['consumers'], [...path, 'consumers'])) {
      this.later.push(() => {
        const found = this.refer(this.consumers, consumer, at)
        if (found !== null) this.memberships.push({ consumer: found, group: entity, path: at })
      })
    }
  }

  private credential(list: (typeof credentialLists)[number], item: Item, path: DocumentPath, parent: Entity<KongConsumer> | null): void {
    if (!isCredentialList(list)) {
      this.issues.error(path, `${list} are not supported`, 'credentials of key-auth, basic-auth, jwt or hmac-auth')
      return
    }
    const value = this.checked<Item>(kongCredentials[list], item, path)
    if (value === null) return
    const consumer = parent ?? this.owningConsumer(value, path)
    if (consumer !== null) this.credentials.push({ list, consumer, value, path })
  }

  private acl(item: Item, path: DocumentPath, parent: Entity<KongConsumer> | null): void {
    const value = this.checked<{ group: string; consumer?: unknown }>(kongAcl, item, path)
    if (value === null) return
    const consumer = parent ?? this.owningConsumer(value, path)
    if (consumer !== null) this.acls.push({ consumer, group: value.group, path })
  }

  private owningConsumer(value: { readonly consumer?: unknown }, path: DocumentPath): Entity<KongConsumer> | null {
    if (value.consumer === undefined) this.issues.error(path, 'it belongs to no consumer', 'a field consumer with the name of one')
    return this.refer(this.consumers, value.consumer, [...path, 'consumer'])
  }

  private certificate(item: Item, path: DocumentPath): void {
    const value = this.checked<KongCertificate>(kongCertificate, item, path)
    if (value === null) return
    const snis: string[] = []
    this.keep(this.certificates, { value, path, name: value.id ?? formatPath(path), snis })
    for (const [sni, at] of this.list(item['snis'], [...path, 'snis'])) {
      const name = this.checked<{ name: string }>(kongSni, sni, at)
      if (name !== null) snis.push(name.name)
    }
  }

  private sni(item: Item, path: DocumentPath): void {
    const value = this.checked<{ name: string; certificate?: unknown }>(kongSni, item, path)
    if (value === null) return
    const certificate = this.refer(this.certificates, value.certificate, [...path, 'certificate'])
    certificate?.snis.push(value.name)
  }

  private plugin(
    item: Item,
    path: DocumentPath,
    scope: {
      service?: Entity<KongService> | null
      route?: Entity<KongRoute> | null
      consumer?: Entity<KongConsumer> | null
      group?: Entity<KongConsumerGroup> | null
    },
  ): void {
    const value = this.checked<KongPlugin>(kongPlugin, item, path)
    if (value === null) return
    this.plugins.push({
      value,
      path,
      name: value.name,
      service: scope.service ?? this.refer(this.services, value.service, [...path, 'service']),
      route: scope.route ?? this.refer(this.routes, value.route, [...path, 'route']),
      consumer: scope.consumer ?? this.refer(this.consumers, value.consumer, [...path, 'consumer']),
      group: scope.group ?? this.refer(this.groups, value.consumer_group, [...path, 'consumer_group']),
    })
  }

  private keep<T, E extends Entity<T>>(kind: Kind<T, E>, entity: E): E | null {
    const kept = kind.add(entity)
    if (kept === null) {
      const first = formatPath(kind.find(entity.name)?.path ?? [])
      this.issues.error(
        entity.path,
        `uniqueness violation: ${kind.word} "${entity.name}" is there twice`,
        `another name than that of ${first}`,
      )
    }
    return kept
  }

  /** The entity that a reference means; null when nothing is referred to, or with an issue when there is no such entity. */
  private refer<T, E extends Entity<T>>(kind: Kind<T, E>, reference: unknown, path: DocumentPath): E | null {
    if (reference === undefined) return null
    const name = nameOf(reference)
    const found = kind.find(name)
    if (found !== undefined) return found
    this.issues.error(path, `there is no ${kind.word} ${JSON.stringify(name)}`, `the name of a ${kind.word} of this file`, {
      suggestion: suggest(name, kind.names),
    })
    return null
  }
}

/** Host and port of a target; null for what is neither. */
export function readTarget(target: string): { readonly host: string; readonly port: number } | null {
  const found = /^(\[[^\]]+\]|[^:]+)(?::(\d{1,5}))?$/.exec(target)
  const port = Number(found?.[2] ?? defaultTargetPort)
  return found?.[1] === undefined || port < 1 || port > 65_535 ? null : { host: found[1], port }
}

function isCredentialList(list: string): list is CredentialList {
  return Object.hasOwn(kongCredentials, list)
}

function nameOf(reference: unknown): string {
  if (typeof reference !== 'object' || reference === null) return String(reference)
  for (const field of ['name', 'username', 'id']) {
    const value: unknown = Reflect.get(reference, field)
    if (typeof value === 'string') return value
  }
  return ''
}

/** `null` means "not given", at any depth. Nested entities are left alone: they are read by themselves. */
export function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== null)
      .map(([name, item]) => [name, nestedFields.includes(name) ? item : withoutNulls(item)]),
  )
}
