/**
 * The last configuration that this gateway ran, on its own disk, for a start while the shared store is away. One file, for its owner alone
 * (mode 0600: it holds the secrets of the configuration), replaced as a whole: a crash leaves the old copy or the new one.
 */
import { open, readFile, rename, rm } from 'node:fs/promises'
import { reasonOf } from './journal.js'
import { ResourceMap } from './resource-map.js'
import type { ResourceChange } from './resource-store.js'
import { isResource } from './resource-text.js'
import type { StorePosition } from './store-backend.js'

const FORMAT = 1

export interface Copy {
  readonly position: StorePosition
  readonly map: ResourceMap
  /** When it was written, milliseconds since 1970. */
  readonly atMs: number
}

export class LastCopy {
  /** `place`: of the store; a copy of another one is none. */
  constructor(
    readonly file: string,
    private readonly place: string,
  ) {}

  /** The copy, or why there is none. */
  async read(): Promise<Copy | string> {
    let text: string
    try {
      text = await readFile(this.file, 'utf8')
    } catch (error) {
      const reason = reasonOf(error)
      return reason === 'ENOENT' ? `there is no copy of it at ${this.file}` : `its copy ${this.file} cannot be read (${reason})`
    }
    const copy = parse(text)
    if (copy === null) return `its copy ${this.file} is damaged, or of another version of this program`
    return copy.place === this.place ? copy : `the copy ${this.file} is one of another store (${copy.place})`
  }

  /** Rejects when the file cannot be written; the one that was there then stays. */
  async write({ position, map, atMs }: Copy): Promise<void> {
    const resources: unknown[] = []
    const gaps: [string, string][] = []
    for (const { kind, id, resource } of map.all()) {
      if (resource === 'gap') gaps.push([kind, id])
      else if (resource !== null) resources.push({ ...resource, origin: undefined })
    }
    const text = JSON.stringify({ format: FORMAT, place: this.place, atMs, position, resources, gaps })
    const beside = `${this.file}.${process.pid}`
    await rm(beside, { force: true })
    const handle = await open(beside, 'wx', 0o600)
    try {
      await handle.writeFile(text)
      await handle.sync()
      await rename(beside, this.file)
    } catch (error) {
      await rm(beside, { force: true })
      throw error
    } finally {
      await handle.close()
    }
  }
}

function parse(text: string): (Copy & { readonly place: string }) | null {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  if (typeof value !== 'object' || value === null) return null
  const field = (name: string): unknown => Reflect.get(value, name)
  const [position, resources, gaps, place, atMs] = ['position', 'resources', 'gaps', 'place', 'atMs'].map(field)
  if (field('format') !== FORMAT || !isPosition(position) || typeof place !== 'string' || typeof atMs !== 'number') return null
  if (!Array.isArray(resources) || !Array.isArray(gaps) || !resources.every(isResource)) return null
  const changes: ResourceChange[] = resources.map((resource) => ({
    kind: resource.kind,
    id: resource.id,
    resource: { ...resource, origin: null },
  }))
  for (const [kind, id] of gaps) changes.push({ kind: String(kind), id: String(id), resource: 'gap' })
  return { place, atMs, position, map: ResourceMap.empty.changed(changes, position.revision) }
}

function isPosition(value: unknown): value is StorePosition {
  if (typeof value !== 'object' || value === null) return false
  const { id, revision, token } = { id: undefined, revision: undefined, token: undefined, ...value }
  return typeof id === 'string' && typeof revision === 'number' && typeof token === 'string'
}
