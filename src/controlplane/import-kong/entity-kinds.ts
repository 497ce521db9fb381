/** The entities of a Kong file as they are passed on: each with its place, its name and what it belongs to. */
import type { DocumentPath } from '../load-issue.js'
import type {
  KongCertificate,
  KongConsumer,
  KongConsumerGroup,
  KongPlugin,
  KongRoute,
  KongService,
  KongTarget,
  KongUpstream,
  kongCredentials,
} from './kong-schema.js'

export interface Entity<T> {
  readonly value: T
  readonly path: DocumentPath
  /** Name by which others refer to it; a made one for entities without a name. */
  readonly name: string
}

export interface Owned<T, Owner> extends Entity<T> {
  readonly owner: Entity<Owner> | null
}

export interface ScopedPlugin extends Entity<KongPlugin> {
  readonly service: Entity<KongService> | null
  readonly route: Entity<KongRoute> | null
  readonly consumer: Entity<KongConsumer> | null
  readonly group: Entity<KongConsumerGroup> | null
}

export type CredentialList = keyof typeof kongCredentials
export interface KongCredential {
  readonly list: CredentialList
  readonly consumer: Entity<KongConsumer>
  readonly value: { readonly [name: string]: unknown }
  readonly path: DocumentPath
}

export interface Membership {
  readonly consumer: Entity<KongConsumer>
  readonly group: Entity<KongConsumerGroup>
  readonly path: DocumentPath
}

export interface Acl {
  readonly consumer: Entity<KongConsumer>
  readonly group: string
  readonly path: DocumentPath
}

export interface Certificate extends Entity<KongCertificate> {
  readonly snis: string[]
}

export interface KongEntities {
  readonly services: readonly Entity<KongService>[]
  readonly routes: readonly Owned<KongRoute, KongService>[]
  readonly upstreams: readonly Entity<KongUpstream>[]
  readonly targets: readonly Owned<KongTarget, KongUpstream>[]
  readonly plugins: readonly ScopedPlugin[]
  readonly consumers: readonly Entity<KongConsumer>[]
  readonly groups: readonly Entity<KongConsumerGroup>[]
  readonly memberships: readonly Membership[]
  readonly credentials: readonly KongCredential[]
  readonly acls: readonly Acl[]
  readonly certificates: readonly Certificate[]
  readonly caCertificates: readonly Entity<{ readonly id?: string; readonly cert: string }>[]
}

/** Entities of one kind, found by name or id. */
export class Kind<T, E extends Entity<T> = Entity<T>> {
  readonly items: E[] = []
  private readonly byName = new Map<string, E>()

  constructor(readonly word: string) {}

  /** Null when the name is taken: `taken` has it. */
  add(entity: E): E | null {
    if (this.byName.has(entity.name)) return null
    this.byName.set(entity.name, entity)
    const id = idOf(entity.value)
    if (id !== undefined && !this.byName.has(id)) this.byName.set(id, entity)
    this.items.push(entity)
    return entity
  }

  find(name: string): E | undefined {
    return this.byName.get(name)
  }

  get names(): string[] {
    return this.items.map((item) => item.name)
  }
}

function idOf(value: unknown): string | undefined {
  const id: unknown = typeof value === 'object' && value !== null ? Reflect.get(value, 'id') : undefined
  return typeof id === 'string' ? id : undefined
}
