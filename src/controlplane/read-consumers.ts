/**
 * Reads `consumers` and `credentials`: checks each and writes it into the tables that workers will share. A million consumers pass
 * through here one at a time, so nothing is kept of those that hold credentials only.
 *
 * A credential may stand in three places: among `plugins` of its consumer (then it has no id), in `credentials` of its consumer, or in
 * a list at the top (`credentials`, or `consumers` as the reference gateway has it) with the id `jack/credentials/one`.
 */
import type { Json } from '../schema/compiled.js'
import {
  type ConsumerResource,
  type CredentialResource,
  consumerSchema,
  credentialPath,
  credentialSchema,
  type NestedCredentialResource,
} from '../schema/consumer.js'
import { ConsumerBuilder } from '../shared/consumer-builder.js'
import type { ConsumerRest } from '../shared/consumer-tables.js'
import { CredentialConfs } from './credential-confs.js'
import type { DocumentPath } from './load-issue.js'
import type { CheckedPlugin, LoadedConsumers, PluginLayer } from './load-types.js'
import { checkPlugins, findPlugin, type PluginChecks } from './validate-plugins.js'
import { checkSchema, schemaProblems, typeName } from './validate-schema.js'

export interface ConsumerChecks extends PluginChecks {
  readonly groupIds: ReadonlySet<string>
  readonly referencesOnly: boolean
}

type Fields = { readonly [name: string]: unknown }

/** Duplicates that are reported; a file with more has one cause for all of them. */
const duplicatesMax = 100

export function readConsumers(consumers: unknown, credentials: unknown, checks: ConsumerChecks): LoadedConsumers {
  const reader = new Reader(checks)
  reader.consumers(listOf(consumers, 'consumers', checks))
  reader.credentials(listOf(credentials, 'credentials', checks))
  return reader.finish()
}

function listOf(value: unknown, kind: string, checks: PluginChecks): readonly unknown[] {
  if (value === undefined || value === null) return []
  if (Array.isArray(value)) return value
  if (typeof value !== 'object' || Object.keys(value).length > 0)
    checks.issues.error([kind], `wrong type: expected array, got ${typeName(value)}`, `a list of ${kind}`)
  return []
}

/** Where a credential stands: list, entry, and place among the nested ones (-1 = not nested). */
class Places {
  private cells = new Int32Array(96)
  private count = 0

  add(list: number, entry: number, nested: number): void {
    if (3 * this.count === this.cells.length) {
      const larger = new Int32Array(2 * this.cells.length)
      larger.set(this.cells)
      this.cells = larger
    }
    this.cells.set([list, entry, nested], 3 * this.count++)
  }

  path(index: number, plugin: string): DocumentPath {
    const [list = 0, entry = 0, nested = -1] = this.cells.subarray(3 * index, 3 * index + 3)
    const base = [list === 0 ? 'consumers' : 'credentials', entry]
    return [...base, ...(nested < 0 ? [] : ['credentials', nested]), 'plugins', plugin]
  }
}

class Reader {
  private readonly confs = new Map<string, CredentialConfs>()
  private readonly builder: ConsumerBuilder
  private readonly places = new Places()
  /** Entry in the file of each consumer. */
  private readonly entries: number[] = []
  private readonly groups: string[] = []
  private readonly groupNumbers = new Map<string, number>()
  private groupOf = new Uint32Array(64)
  private readonly own: { consumer: number; layer: PluginLayer }[] = []
  /** Credentials among `consumers`, for when all consumers are known. */
  private readonly apart: number[] = []
  private readonly ids = new Set<string>()

  constructor(private readonly checks: ConsumerChecks) {
    const plugins = checks.registry
      .all()
      .flatMap((plugin) => (plugin.credential === undefined ? [] : [{ ...plugin, definition: plugin.credential }]))
    this.builder = new ConsumerBuilder(plugins.map(({ name, definition }) => ({ name, key: definition.key })))
    for (const [index, plugin] of plugins.entries()) {
      this.confs.set(plugin.name, new CredentialConfs(plugin, plugin.definition, index, checks, checks.referencesOnly))
    }
  }

  consumers(list: readonly unknown[]): void {
    for (let index = 0; index < list.length; index++) {
      const value = fieldsOf(list[index])
      if (value === null) this.wrongEntry(['consumers', index], list[index], 'one consumer')
      else if (value['username'] === undefined && typeof value['id'] === 'string' && credentialPath.test(value['id']))
        this.apart.push(index)
      else this.consumer(value, index)
    }
    this.builder.indexNames((first, second) => {
      const path = ['consumers', this.entries[second] ?? 0, 'username']
      const other = `consumers[${this.entries[first]}]`
      this.checks.issues.error(
        path,
        `found duplicate id ${this.builder.usernameOf(second)} in consumers`,
        `another name than that of ${other}`,
      )
    })
    for (const index of this.apart) this.separate(fieldsOf(list[index]) ?? {}, 0, index)
  }

  credentials(list: readonly unknown[]): void {
    for (let index = 0; index < list.length; index++) {
      const value = fieldsOf(list[index])
      if (value === null) this.wrongEntry(['credentials', index], list[index], 'one credential')
      else this.separate(value, 1, index)
    }
  }

  finish(): LoadedConsumers {
    const { builder, checks } = this
    let reported = 0
    builder.indexKeys((first, second) => {
      if (reported++ >= duplicatesMax) return
      const plugin = this.pluginName(second)
      const key = this.confs.get(plugin)?.keyField ?? ''
      const path = this.places.path(second, plugin)
      const message = `duplicate key of plugin ${plugin} found with ${this.ownerOf(first)}: ${this.ownerOf(second)} has the same`
      checks.issues.error([...path, key], message, `a ${key} of its own`)
    })
    return { builder, groups: this.groups, groupOf: this.groupOf.slice(0, builder.consumerCount), own: this.own }
  }

  private consumer(value: Fields, index: number): void {
    if (!isPlainConsumer(value) && !this.fits<ConsumerResource>(consumerSchema, value, ['consumers', index])) return
    const { username } = value
    const consumer = this.builder.addConsumer(username, restOf(value))
    this.entries.push(index)
    this.setGroup(consumer, value, index)
    if (value.plugins !== undefined) this.inline(consumer, value.plugins, `consumers/${username}`, index)
    if (value.credentials === undefined) return
    const seen = new Set<string>()
    for (const [nested, credential] of value.credentials.entries()) {
      const path = ['consumers', index, 'credentials', nested]
      if (seen.has(credential.id)) {
        const message = `found duplicate id ${credential.id} in the credentials of ${username}`
        this.checks.issues.error([...path, 'id'], message, 'another id')
      }
      seen.add(credential.id)
      this.credential(consumer, username, credential.id, credential, 0, index, nested)
    }
  }

  /** Plugins of a consumer: those that authenticate are credentials, the others its own. */
  private inline(consumer: number, plugins: { readonly [name: string]: Fields }, owner: string, index: number): void {
    let own: { [name: string]: Fields } | null = null
    for (const name in plugins) {
      const conf = plugins[name]
      const confs = this.confs.get(name)
      if (confs === undefined) {
        own ??= {}
        own[name] = conf ?? {}
      } else if (this.isEnabled(name, () => ['consumers', index, 'plugins', name])) {
        const prepared = confs.read(conf, owner, () => ['consumers', index, 'plugins', name])
        if (prepared !== null && !prepared.isOff) this.store(consumer, confs.index, '', prepared.key, prepared.conf, 0, index, -1)
      }
    }
    if (own === null) return
    const checked: ReadonlyMap<string, CheckedPlugin> = checkPlugins(own, ['consumers', index, 'plugins'], this.checks)
    if (checked.size > 0) this.own.push({ consumer, layer: { owner, plugins: checked } })
  }

  /** An entry of a list of credentials. */
  private separate(value: Fields, list: number, index: number): void {
    const path = [list === 0 ? 'consumers' : 'credentials', index]
    const { issues } = this.checks
    if (!this.fits<CredentialResource>(credentialSchema, value, path)) return
    const [, before, name = value.id] = credentialPath.exec(value.id) ?? []
    const username = value.consumer ?? before
    if (username === undefined || (before !== undefined && before !== username)) {
      const found = username === undefined ? `credential ${value.id} names no consumer` : `credential ${value.id} names two consumers`
      issues.error([...path, 'id'], found, 'an id such as jack/credentials/one, or the property consumer')
      return
    }
    const id = `${username}/credentials/${name}`
    if (this.ids.has(id)) issues.error([...path, 'id'], `found duplicate id ${id} in credentials`, 'another id')
    this.ids.add(id)
    const consumer = this.builder.findConsumer(username)
    if (consumer < 0)
      issues.error(
        [...path, value.consumer === undefined ? 'id' : 'consumer'],
        `consumer not found: ${username}`,
        'the username of an entry of consumers',
      )
    else this.credential(consumer, username, name, value, list, index, -1)
  }

  private credential(
    consumer: number,
    username: string,
    id: string,
    value: Pick<NestedCredentialResource, 'plugins'>,
    list: number,
    index: number,
    nested: number,
  ): void {
    const pathOf = (name: string): DocumentPath => [
      list === 0 ? 'consumers' : 'credentials',
      index,
      ...(nested < 0 ? [] : ['credentials', nested]),
      'plugins',
      name,
    ]
    for (const name in value.plugins) {
      const confs = this.confs.get(name)
      if (!this.isEnabled(name, () => pathOf(name))) continue
      if (confs === undefined) {
        const known = [...this.confs.keys()].join(', ')
        const message = 'only supports auth type plugins in consumer credential'
        this.checks.issues.error(pathOf(name), message, `one of ${known}`, { atKey: true })
        continue
      }
      const prepared = confs.read(value.plugins[name], `consumers/${username}/credentials/${id}`, () => pathOf(name))
      if (prepared !== null && !prepared.isOff) this.store(consumer, confs.index, id, prepared.key, prepared.conf, list, index, nested)
    }
  }

  private store(consumer: number, plugin: number, id: string, key: string, conf: Json, list: number, entry: number, nested: number): void {
    this.places.add(list, entry, nested)
    this.builder.addCredential(consumer, plugin, id, key, conf)
  }

  private isEnabled(name: string, pathOf: () => DocumentPath): boolean {
    const { enabled, registry } = this.checks
    if (registry.get(name) !== undefined && (enabled === null || enabled.has(name))) return true
    return findPlugin(name, pathOf(), this.checks) !== null
  }

  private setGroup(consumer: number, value: ConsumerResource, index: number): void {
    if (this.groupOf.length <= consumer) {
      const larger = new Uint32Array(2 * this.groupOf.length)
      larger.set(this.groupOf)
      this.groupOf = larger
    }
    if (value.group_id === undefined) return
    const group = String(value.group_id)
    let number = this.groupNumbers.get(group)
    if (number === undefined) {
      number = this.groups.push(group)
      this.groupNumbers.set(group, number)
      // Said once, whoever else is in it: a thousand consumers of one group have one mistake in common.
      if (!this.checks.groupIds.has(group)) {
        const message = `failed to fetch consumer group info by consumer group id [${group}]: requests of its consumers are answered with 503`
        this.checks.issues.warn(['consumers', index, 'group_id'], message, 'the id of an entry of consumer_groups')
      }
    }
    this.groupOf[consumer] = number
  }

  private ownerOf(credential: number): string {
    const username = this.builder.usernameOf(this.builder.consumerOf(credential))
    const id = this.builder.idOf(credential)
    return id === '' ? `consumer: ${username}` : `credential: ${id} of consumer: ${username}`
  }

  private pluginName(credential: number): string {
    return [...this.confs.keys()][this.builder.pluginOf(credential)] ?? ''
  }

  private fits<T>(schema: object, value: unknown, path: DocumentPath): value is T {
    return schemaProblems(schema, value).length === 0 || checkSchema<T>(schema, value, path, this.checks.issues)
  }

  private wrongEntry(path: DocumentPath, value: unknown, expected: string): void {
    this.checks.issues.error(path, `wrong type: expected object, got ${typeName(value)}`, expected)
  }
}

const plainName = /^[a-zA-Z0-9_-]{1,256}$/
const plainGroup = /^[a-zA-Z0-9_.-]{1,64}$/

/** What the schema says of most consumers there are, in a tenth of its time; false = the schema decides. */
function isPlainConsumer(value: Fields): value is Fields & ConsumerResource {
  if (typeof value['username'] !== 'string') return false
  for (const name in value) {
    const field = value[name]
    if (name === 'username' || name === 'group_id') {
      if (typeof field !== 'string' || !(name === 'username' ? plainName : plainGroup).test(field)) return false
    } else if (name === 'plugins') {
      if (!isMap(field)) return false
      for (const plugin in field) if (plugin === '' || !isMap(field[plugin])) return false
    } else return false
  }
  return true
}

function isMap(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The fields of an entry without those that are null; null = it is no map. */
function fieldsOf(item: unknown): Fields | null {
  if (typeof item !== 'object' || item === null || Array.isArray(item)) return null
  const fields: Fields = item as Fields
  for (const name in fields) {
    if (fields[name] === null) return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null))
  }
  return fields
}

/** What the tables hold about a consumer besides its name. */
function restOf({ id, username, group_id: group, labels, groups }: ConsumerResource): ConsumerRest {
  const ownId = id === undefined || String(id) === username ? 0 : String(id)
  if (groups !== undefined && groups.length > 0) return [ownId, group === undefined ? 0 : String(group), labels ?? 0, groups]
  if (labels !== undefined) return [ownId, group === undefined ? 0 : String(group), labels]
  if (group !== undefined) return [ownId, String(group)]
  return ownId === 0 ? [] : [ownId]
}
