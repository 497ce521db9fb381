/** A Kong declarative file as Kong's own Admin API shows it: flat lists, with ids and defaults. Pure. */
import { createHash } from 'node:crypto'
import { IssueList } from '../load-issue.js'
import { SourceDocument } from '../load-source.js'
import { readEntities } from './entities.js'
import type { Entity, KongEntities, ScopedPlugin } from './entity-kinds.js'

export type KongItem = { readonly id: string; readonly [name: string]: unknown }

/** Entities by the name of their list in paths: `services`, `key-auths`. */
export type KongView = ReadonlyMap<string, readonly KongItem[]>

type Fields = { readonly [name: string]: unknown }

/** The lists of credentials of a file, and their names in paths: alone, and below a consumer. */
export const credentialPaths = {
  keyauth_credentials: ['key-auths', 'key-auth'],
  basicauth_credentials: ['basic-auths', 'basic-auth'],
  jwt_secrets: ['jwts', 'jwt'],
  hmacauth_credentials: ['hmac-auths', 'hmac-auth'],
} as const

const serviceDefaults = {
  protocol: 'http',
  port: 80,
  path: null,
  retries: 5,
  connect_timeout: 60_000,
  write_timeout: 60_000,
  read_timeout: 60_000,
  enabled: true,
  tags: null,
}
const routeDefaults = {
  name: null,
  protocols: ['http', 'https'],
  methods: null,
  hosts: null,
  paths: null,
  headers: null,
  snis: null,
  https_redirect_status_code: 426,
  regex_priority: 0,
  strip_path: true,
  path_handling: 'v0',
  preserve_host: false,
  request_buffering: true,
  response_buffering: true,
  tags: null,
}
const upstreamDefaults = { algorithm: 'round-robin', hash_on: 'none', hash_fallback: 'none', slots: 10_000, host_header: null, tags: null }
const pluginDefaults = { enabled: true, protocols: ['grpc', 'grpcs', 'http', 'https'], config: {}, tags: null }

/** `root` has been accepted before. Private keys of certificates are left out. */
export function viewOfKong(root: Fields): KongView {
  const blank = SourceDocument.parse('kong.yml', '{}', {})
  if (!blank.ok) throw new Error('an empty document cannot be read')
  const entities = readEntities(root, new IssueList(blank.source))
  const view = new Map<string, readonly KongItem[]>([
    [
      'services',
      entities.services.map((entity) => ({ ...serviceDefaults, name: null, ...expanded(entity.value), id: idOf('services', entity) })),
    ],
    [
      'routes',
      entities.routes.map((entity) => ({
        ...routeDefaults,
        ...own(entity.value),
        id: idOf('routes', entity),
        service: named('services', entity.owner),
      })),
    ],
    ['upstreams', entities.upstreams.map((entity) => ({ ...upstreamDefaults, ...own(entity.value), id: idOf('upstreams', entity) }))],
    [
      'targets',
      entities.targets.map((entity) => ({
        weight: 100,
        tags: null,
        ...own(entity.value),
        id: idOf(`targets of ${entity.owner?.name}`, entity),
        upstream: named('upstreams', entity.owner),
      })),
    ],
    ['plugins', entities.plugins.map(pluginItem)],
    [
      'consumers',
      entities.consumers.map((entity) => ({
        username: null,
        custom_id: null,
        tags: null,
        ...own(entity.value),
        id: idOf('consumers', entity),
      })),
    ],
    ['consumer_groups', entities.groups.map((entity) => ({ tags: null, ...own(entity.value), id: idOf('consumer_groups', entity) }))],
    [
      'certificates',
      entities.certificates.map((entity) => ({ ...withoutKeys(own(entity.value)), id: idOf('certificates', entity), snis: entity.snis })),
    ],
    ['ca_certificates', entities.caCertificates.map((entity) => ({ ...own(entity.value), id: idOf('ca_certificates', entity) }))],
    [
      'snis',
      entities.certificates.flatMap((entity) =>
        entity.snis.map((name) => ({ id: madeId('snis', name), name, certificate: named('certificates', entity) })),
      ),
    ],
    [
      'acls',
      entities.acls.map(({ consumer, group }) => ({
        id: madeId('acls', `${consumer.name} ${group}`),
        group,
        consumer: named('consumers', consumer),
        tags: null,
      })),
    ],
    ...credentialLists(entities),
  ])
  return view
}

function credentialLists({ credentials }: KongEntities): [string, KongItem[]][] {
  return Object.entries(credentialPaths).map(([list, [path]]) => [
    path,
    credentials
      .filter((credential) => credential.list === list)
      .map(({ value, consumer }) => {
        const name = `${consumer.name} ${String(value['key'] ?? value['username'])}`
        return { tags: null, ...own(value), id: givenId(value) ?? madeId(path, name), consumer: named('consumers', consumer) }
      }),
  ])
}

function pluginItem(plugin: ScopedPlugin): KongItem {
  const { service, route, consumer, group } = plugin
  const scope = [service, route, consumer, group].map((entity) => entity?.name ?? '').join(' ')
  return {
    ...pluginDefaults,
    ...own(plugin.value),
    id: givenId(plugin.value) ?? madeId('plugins', `${plugin.value.name} ${scope}`),
    service: named('services', service),
    route: named('routes', route),
    consumer: named('consumers', consumer),
    consumer_group: named('consumer_groups', group),
  }
}

/** `url` stands for protocol, host, port and path. */
function expanded(service: Fields): Fields {
  const { url, ...fields } = own(service)
  if (typeof url !== 'string' || !URL.canParse(url)) return fields
  const { protocol, hostname, port, pathname } = new URL(url)
  const scheme = protocol.slice(0, -1)
  const usual = scheme === 'https' ? 443 : 80
  const path = pathname === '/' && !url.endsWith('/') ? null : pathname
  return { protocol: scheme, host: hostname, port: port === '' ? usual : Number(port), path, ...fields }
}

const nested = ['routes', 'plugins', 'targets', 'snis', 'consumers', 'groups', 'acls', ...Object.keys(credentialPaths)]

/** Without what is listed by itself, and without references. */
function own(value: Fields): Fields {
  return Object.fromEntries(Object.entries(value).filter(([name]) => !nested.includes(name)))
}

function withoutKeys({ key: _key, key_alt: _alternative, passphrase: _passphrase, ...rest }: Fields): Fields {
  return rest
}

function named(list: string, entity: Entity<unknown> | null): { readonly id: string } | null {
  return entity === null ? null : { id: idOf(list, entity) }
}

function idOf(list: string, entity: Entity<unknown>): string {
  return givenId(entity.value) ?? madeId(list, entity.name)
}

function givenId(value: unknown): string | undefined {
  const id: unknown = typeof value === 'object' && value !== null ? Reflect.get(value, 'id') : undefined
  return typeof id === 'string' ? id : undefined
}

/** In the form of a UUID made from a name (RFC 9562, version 5): the same name has the same id in every process. */
function madeId(list: string, name: string): string {
  const bytes = createHash('sha1').update(`sluice kong ${list} ${name}`).digest().subarray(0, 16)
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x50
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80
  const hex = bytes.toString('hex')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}
