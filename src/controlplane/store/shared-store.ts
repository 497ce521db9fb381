/**
 * The store of gateways that share their resources, in Redis or etcd:
 *
 *   server ── message, or asked every pollMs ──► sync ──► current ──► watchers ──► checked, published ──► served ──► copy on disk
 *   writer ── apply ──► server (if it is still at the revision that the change was made for) ──► current
 *
 * Reading needs no server: `current` is what was read last. While the server is away everything goes on but changes, which are refused at
 * once; it is asked again and again. A start without it takes the last copy that ran here.
 *
 * A server that has lost what it acknowledged (`mayLose`) gets it back from the gateways: from the one that asks first, and again from one that
 * knows a later revision of the same configuration, as long as nobody has changed it since.
 */
import type { Clock } from '../../base/clock.js'
import { UsageError } from '../../base/errors.js'
import type { ConfigurationStore, SetAside, StoreView } from './configuration-store.js'
import type { FileBase } from './file-store.js'
import { reasonOf } from './journal.js'
import type { Copy, LastCopy } from './last-copy.js'
import { ResourceMap } from './resource-map.js'
import type { ApplyOutcome, Mutation, ResourceView, StoreDescription, StoreRevision } from './resource-store.js'
import { StoreAway, type StoreBackend, type StoreNews, type StorePosition } from './store-backend.js'

/** Between two copies on disk; more when writing one takes long. */
const COPY_PAUSE_MS = 500
const COPY_PAUSE_FACTOR = 20

export interface SharedStoreOptions {
  readonly backend: StoreBackend
  readonly copy: LastCopy
  readonly clock: Clock
  readonly log: (level: 'info' | 'warn', message: string) => void
}

export class SharedStore implements ConfigurationStore {
  private map = ResourceMap.empty
  /** Of `map`; null = the server has never had anything. */
  private position: StorePosition | null = null
  private readonly positions = new WeakMap<ResourceView, StorePosition>()
  /** Why the server cannot be asked now. */
  private away: string | null = null
  private refusal: string | null = null
  /** What an empty server is given. */
  private seed: ResourceMap | null = null
  private readonly watchers = new Set<() => void>()
  /** What runs, or ran last: one question or change at a time. */
  private turn: Promise<unknown> = Promise.resolve()
  private isSyncWaiting = false
  private isClosed = false
  private cancelPoll: () => void = () => {}
  private copyWanted: Copy | null = null
  private copying: Promise<void> | null = null
  private copyProblem: string | null = null
  private endPause: () => void = () => {}

  private constructor(private readonly options: SharedStoreOptions) {}

  /** Rejects with UsageError when neither the server nor a copy has resources. */
  static async open(options: SharedStoreOptions): Promise<SharedStore> {
    const store = new SharedStore(options)
    try {
      await store.begin()
    } catch (error) {
      await store.close()
      throw error
    }
    return store
  }

  current(): ResourceMap {
    return this.map
  }

  viewOf(base: FileBase): StoreView {
    return viewOfShared(base, { place: this.options.backend.place, position: this.position, map: this.map })
  }

  adopt({ map }: StoreView): void {
    if (this.position === null) {
      this.map = map
      this.seed = map
      void this.sync()
    } else this.served(map)
  }

  served(view: ResourceView): void {
    this.refusal = null
    const position = this.positions.get(view)
    if (position === undefined || !(view instanceof ResourceMap)) return
    this.copyWanted = { position, map: view, atMs: this.options.clock.wallMs() }
    this.copying ??= this.writeCopies()
  }

  refused(reason: string | null): void {
    this.refusal = reason
  }

  setAside(): readonly SetAside[] {
    return []
  }

  forgetSetAside(): Promise<number> {
    return Promise.resolve(0)
  }

  async apply(mutations: readonly Mutation[], expectedRevision: number, atMs: number): Promise<ApplyOutcome> {
    if (this.away !== null) return { state: 'unavailable', reason: this.awayText() }
    return this.inTurn(async () => {
      // A question that was under way has found out.
      if (this.away !== null) return { state: 'unavailable', reason: this.awayText() }
      if (expectedRevision !== this.map.revision) return { state: 'conflict', revision: this.map.revision }
      if (this.position === null) {
        await this.askAndTell()
        if (this.away !== null) return { state: 'unavailable', reason: this.awayText() }
        return { state: 'conflict', revision: this.map.revision }
      }
      const { backend } = this.options
      try {
        const after = this.map.with(mutations, this.map.revision + 1, atMs)
        const position = await backend.write(this.position, mutations, after, atMs)
        if (position !== null) {
          this.take(position.revision === after.revision ? after : this.map.with(mutations, position.revision, atMs), position)
          return { state: 'stored', revision: position.revision }
        }
      } catch (error) {
        return { state: 'unavailable', reason: this.noticeAway(error) }
      }
      await this.askAndTell()
      if (this.away !== null) return { state: 'unavailable', reason: this.awayText() }
      return { state: 'conflict', revision: this.map.revision }
    })
  }

  async history(): Promise<readonly StoreRevision[] | string> {
    return this.read(() => this.options.backend.history())
  }

  async at(revision: number): Promise<ResourceView | string> {
    return this.read(async () => {
      const { position, map } = this
      if (position === null) return 'the store is empty'
      return revision === position.revision ? map : this.options.backend.at(revision, position, map)
    })
  }

  watch(changed: () => void): () => void {
    this.watchers.add(changed)
    return () => this.watchers.delete(changed)
  }

  describe(): StoreDescription {
    const { kind, place } = this.options.backend
    const refusal = this.refusal === null ? null : `revision ${this.map.revision} does not serve here: ${this.refusal}`
    const problem = this.away === null ? (refusal ?? this.copyProblem) : this.awayText()
    return { kind, revision: this.map.revision, place, problem, isReachable: this.away === null, setAside: [] }
  }

  /** Asks the server now. */
  async refresh(): Promise<void> {
    await this.inTurn(() => this.askAndTell())
  }

  /** The copy on disk, where it is not what the store holds; for a start with a configuration that is refused here. */
  async fallback(): Promise<ResourceMap | null> {
    const copy = await this.options.copy.read()
    return typeof copy === 'string' || copy.position.token === this.position?.token ? null : copy.map
  }

  async close(): Promise<void> {
    this.isClosed = true
    this.cancelPoll()
    this.options.backend.close()
    this.endPause()
    await this.turn.catch(() => {})
    await this.copying
  }

  private async begin(): Promise<void> {
    const { backend, copy, log } = this.options
    await this.ask()
    if (this.away !== null) {
      const found = await copy.read()
      if (typeof found === 'string') throw new UsageError(`${backend.place} does not answer (${this.away}), and ${found}`, 1)
      log('warn', `starting with the copy of revision ${found.position.revision} from ${new Date(found.atMs).toISOString()}`)
      this.take(found.map, found.position)
    }
    backend.listen(() => void this.sync())
    this.poll()
  }

  private poll(): void {
    if (this.isClosed) return
    this.cancelPoll = this.options.clock.after(this.options.backend.pollMs, () => void this.sync().then(() => this.poll()))
  }

  /** Takes over what others have changed. Never rejects. */
  private async sync(): Promise<void> {
    if (this.isSyncWaiting || this.isClosed) return
    this.isSyncWaiting = true
    await this.inTurn(async () => {
      this.isSyncWaiting = false
      await this.askAndTell()
    }).catch((error: unknown) => this.options.log('warn', `${this.options.backend.place}: ${reasonOf(error)}`))
  }

  private async askAndTell(): Promise<void> {
    const before = this.map
    await this.ask()
    if (this.map !== before) for (const changed of this.watchers) changed()
  }

  /** Asks the server for news and takes them over. */
  private async ask(): Promise<void> {
    if (this.isClosed) return
    const { backend, log } = this.options
    try {
      const news = await backend.read(this.position)
      if (this.away !== null) log('info', `${backend.place} answers again`)
      this.away = null
      await this.takeNews(news)
    } catch (error) {
      this.noticeAway(error)
    }
  }

  private async takeNews(news: StoreNews): Promise<void> {
    const { position, map } = this
    const { mayLose } = this.options.backend
    if (news.state === 'same') return
    if (news.state === 'empty') {
      if (position === null) {
        if (this.seed !== null) await this.replace(null, null, this.seed, 'the resources of the file were written')
      } else if (mayLose) await this.replace(null, position.id, map, 'it had lost its data, which was written back')
      else this.take(ResourceMap.empty, null)
      return
    }
    const isBehind = position !== null && news.position.revision < position.revision && news.position.id === position.id
    if (isBehind && mayLose) {
      await this.replace(news.position, position.id, map, `it had lost the changes behind revision ${news.position.revision}`)
      return
    }
    const base = news.isWhole ? ResourceMap.empty : map
    const changed = base.changed(news.changes, news.position.revision)
    const gaps = this.options.backend.gapsOf?.(changed)
    const next = gaps === undefined ? changed : changed.withGaps(gaps)
    // The server may count what is none of ours, or tell again what is known.
    const isSame = position !== null && (news.isWhole ? next.equals(map) : news.changes.length === 0)
    this.take(isSame ? map : next, news.position)
  }

  private async replace(known: StorePosition | null, id: string | null, map: ResourceMap, why: string): Promise<void> {
    const { backend, clock, log } = this.options
    const position = await backend.replace(known, id, map, clock.wallMs())
    // Somebody else was faster: the next question tells what is there.
    if (position === null) return
    log(this.position === null ? 'info' : 'warn', `${backend.place}: ${why} (revision ${position.revision})`)
    const isFirst = this.position === null
    this.position = position
    this.positions.set(map, position)
    if (isFirst) this.served(map)
  }

  private take(map: ResourceMap, position: StorePosition | null): void {
    this.map = map
    this.position = position
    if (position !== null) this.positions.set(map, position)
  }

  /** Why a change cannot be made. */
  private noticeAway(error: unknown): string {
    if (!(error instanceof StoreAway)) throw error
    const { backend, log } = this.options
    if (this.away === null && !this.isClosed) {
      log(
        'warn',
        `${backend.place} does not answer (${error.message}): what is configured goes on serving, changes are refused until it does`,
      )
    }
    this.away = error.message
    const uncertain = 'it is not known whether the change was stored; it takes effect if it was'
    return error.isUncertain ? `${backend.place} does not answer (${error.message}): ${uncertain}` : this.awayText()
  }

  private awayText(): string {
    const { place } = this.options.backend
    return `${place} does not answer (${this.away}): nothing can be changed until it does; what is configured goes on serving`
  }

  private async read<T>(run: () => Promise<T>): Promise<T | string> {
    if (this.away !== null) return this.awayText()
    try {
      return await this.inTurn(run)
    } catch (error) {
      return this.noticeAway(error)
    }
  }

  private inTurn<T>(run: () => Promise<T>): Promise<T> {
    const next = this.turn.then(run, run)
    this.turn = next.catch(() => {})
    return next
  }

  private async writeCopies(): Promise<void> {
    const { clock, copy, log } = this.options
    while (this.copyWanted !== null) {
      const startMs = clock.nowMs()
      const wanted = this.copyWanted
      this.copyWanted = null
      try {
        await copy.write(wanted)
        this.copyProblem = null
      } catch (error) {
        const problem = `the copy ${copy.file} for starts without the store cannot be written (${reasonOf(error)})`
        if (this.copyProblem === null) log('warn', problem)
        this.copyProblem = problem
      }
      if (!this.isClosed) await this.pause(Math.max(COPY_PAUSE_MS, COPY_PAUSE_FACTOR * (clock.nowMs() - startMs)))
    }
    this.copying = null
  }

  private pause(durationMs: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        cancel()
        this.endPause = () => {}
        resolve()
      }
      const cancel = this.options.clock.after(durationMs, end)
      this.endPause = end
    })
  }
}

/** The resources of a gateway whose store holds this; `position` null = the store is empty, and is given those of the file. */
export function viewOfShared(
  base: FileBase,
  { place, position, map }: { readonly place: string; readonly position: StorePosition | null; readonly map: ResourceMap },
): StoreView {
  if (position === null) return { base, map: seedOf(base), setAside: [], inForce: 1, warnings: [] }
  const count = base.resources.size
  const unused = `${count} resource(s) of the file are not used: resources come from ${place}`
  return { base, map, setAside: [], inForce: 1, warnings: count === 0 ? [] : [unused] }
}

/** What an empty store is given: the resources of the file, as its first revision. */
function seedOf({ resources }: FileBase): ResourceMap {
  return ResourceMap.of(resources.values(), Math.max(1, resources.size))
}
