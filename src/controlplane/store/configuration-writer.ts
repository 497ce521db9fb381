/**
 * Changes of the configuration while it runs, one batch after the other:
 *
 *   submit ─ queue ─ [some turns of the event loop] ─ plan each ─ check the whole ─ pack ─ store ─ publish ─ all workers run it ─ answers
 *
 * Changes that arrive together, or while another batch is under way, are checked, stored and published together: one fsync, one epoch.
 * Each still has its own fate: a batch whose configuration is refused is halved until the changes that are to blame stand alone.
 * A change is planned when its turn has come, on the resources as those before it leave them; so read-modify-write needs no lock.
 *
 * How the configuration is checked and published is the host's affair: `prepare` may look at everything or only at what was touched.
 */
import type { Clock } from '../../base/clock.js'
import { type ConfigIssue, type DocumentPath, formatIssue } from '../load-issue.js'
import type { ApplyOutcome, Mutation, ResourceView } from './resource-store.js'

/** What a change wants, seen from the resources as they are at its turn. */
export type Plan<R> = (view: ResourceView) => { readonly mutations: readonly Mutation[] } | { readonly refusal: R }

export type WriteOutcome<R> =
  | {
      readonly state: 'done'
      readonly epoch: number
      /** False: stored and published, but a worker has not acknowledged it in time. */
      readonly isEverywhere: boolean
      /** Parts of the process that take what has changed only at the next start. */
      readonly atNextStart: readonly string[]
      /** Before and after this change alone. */
      readonly before: ResourceView
      readonly after: ResourceView
      readonly warnings: readonly ConfigIssue[]
    }
  /** By its own plan. */
  | { readonly state: 'refused'; readonly refusal: R }
  /** The configuration would not be valid. */
  | { readonly state: 'invalid'; readonly errors: readonly ConfigIssue[] }
  /** Nothing was changed, and it is not the fault of the change. */
  | { readonly state: 'unavailable'; readonly reason: string }

export interface Touched {
  readonly type: Mutation['type']
  readonly kind: string
  readonly id: string
}

export type Prepared<P> =
  | { readonly ok: true; readonly prepared: P; readonly warnings: readonly ConfigIssue[] }
  | { readonly ok: false; readonly errors: readonly ConfigIssue[] }

/** What the writer works on. `P` is a configuration that was checked and can be published. */
export interface ConfigurationHost<P> {
  current(): ResourceView
  /**
   * Checks the configuration with the resources of `view`. Changes nothing. `touched`: all changes that lead from the resources of `from`
   * (what `current` gave) to `view`, in their order. `isOne`: they are one change, so it is told what is wrong with it; else errors may be missing.
   */
  prepare(from: ResourceView, view: ResourceView, touched: readonly Touched[], isOne: boolean): Promise<Prepared<P>>
  /** Makes everything ready, calls `store`, and when that succeeded publishes. */
  publish(prepared: P, store: () => Promise<ApplyOutcome>): Promise<PublishOutcome>
  apply(mutations: readonly Mutation[], expectedRevision: number, atMs: number): Promise<ApplyOutcome>
  /** Runs one change of the configuration at a time, reloads among them. */
  exclusively<T>(run: () => Promise<T>): Promise<T>
}

export type PublishOutcome =
  | {
      readonly state: 'published'
      readonly epoch: number
      readonly isEverywhere: boolean
      readonly atNextStart: readonly string[]
    }
  | Exclude<ApplyOutcome, { state: 'stored' }>

interface Waiting {
  readonly plan: Plan<unknown>
  readonly settle: (outcome: WriteOutcome<unknown>) => void
}

interface Planned {
  readonly waiting: Waiting
  readonly mutations: readonly Mutation[]
  readonly before: ResourceView
  readonly after: ResourceView
}

interface Admitted<P> {
  readonly view: ResourceView
  readonly planned: readonly Planned[]
  readonly checked: Extract<Prepared<P>, { ok: true }> | null
}

/** Changes in one batch, and waiting for one. */
const BATCH_MAX = 512
const QUEUE_MAX = 10_000
/** Turns of the event loop without a new change that end the gathering of a batch, and turns in all. */
const GATHER_QUIET_TURNS = 3
const GATHER_TURNS_MAX = 200
/** Tries when somebody else keeps changing the store. */
const TRIES_MAX = 20
/** Until an expiry that was not possible is tried again. */
const EXPIRY_RETRY_MS = 10_000

export class ConfigurationWriter<P> {
  private queue: Waiting[] = []
  private isRunning = false
  private cancelExpiry: () => void = () => {}
  private isClosed = false

  constructor(
    private readonly host: ConfigurationHost<P>,
    private readonly clock: Clock,
    private readonly warn: (message: string) => void,
    private readonly kinds: readonly string[],
  ) {}

  /** Never rejects. */
  submit<R>(plan: Plan<R>): Promise<WriteOutcome<R>> {
    if (this.isClosed) return Promise.resolve({ state: 'unavailable', reason: 'the gateway is ending' })
    if (this.queue.length >= QUEUE_MAX) return Promise.resolve({ state: 'unavailable', reason: `${QUEUE_MAX} changes are waiting already` })
    return new Promise((resolve) => {
      // A refusal comes from the plan of the same call, so it has its type.
      this.queue.push({ plan, settle: (outcome) => resolve(outcome as WriteOutcome<R>) })
      if (this.isRunning) return
      this.isRunning = true
      void this.run()
    })
  }

  /** Call when the resources have changed in another way: sets the time at which the next of them expires. */
  watchExpiry(): void {
    this.cancelExpiry()
    if (this.isClosed) return
    const times = this.kinds.flatMap((kind) =>
      this.host
        .current()
        .list(kind)
        .flatMap(({ expiresAtMs }) => expiresAtMs ?? []),
    )
    if (times.length === 0) return
    const next = times.reduce((least, time) => Math.min(least, time))
    this.cancelExpiry = this.clock.after(Math.max(0, next - this.clock.wallMs()), () => void this.expire())
  }

  close(): void {
    this.isClosed = true
    this.cancelExpiry()
    for (const waiting of this.queue.splice(0)) waiting.settle({ state: 'unavailable', reason: 'the gateway is ending' })
  }

  private async run(): Promise<void> {
    while (this.queue.length > 0) {
      await this.gather()
      const batch = this.queue.splice(0, BATCH_MAX)
      try {
        await this.host.exclusively(() => this.runBatch(batch))
      } catch (error) {
        const reason = `internal error: ${error instanceof Error ? error.message : String(error)}`
        this.warn(`a change of the configuration failed: ${reason}`)
        for (const waiting of batch) waiting.settle({ state: 'unavailable', reason })
      }
    }
    this.isRunning = false
  }

  /** A batch costs the same however large it is: those whose requests have arrived but were not read yet shall be in it. */
  private async gather(): Promise<void> {
    let quiet = 0
    for (let turn = 0; turn < GATHER_TURNS_MAX && quiet < GATHER_QUIET_TURNS && this.queue.length < BATCH_MAX; turn++) {
      const before = this.queue.length
      await new Promise<void>((resolve) => setImmediate(resolve))
      quiet = this.queue.length === before ? quiet + 1 : 0
    }
  }

  private async runBatch(batch: readonly Waiting[]): Promise<void> {
    let open = batch
    for (let attempt = 1; open.length > 0; attempt++) {
      const start = this.host.current()
      const atMs = this.clock.wallMs()
      const { planned, checked } = await this.admit(start, open, atMs)
      if (checked === null) return
      const mutations = planned.flatMap((one) => one.mutations)
      const outcome = await this.host.publish(checked.prepared, () => this.host.apply(mutations, start.revision, atMs))
      if (outcome.state === 'published') {
        const { epoch, isEverywhere, atNextStart } = outcome
        for (const { waiting, before, after } of planned) {
          waiting.settle({ state: 'done', epoch, isEverywhere, atNextStart, before, after, warnings: checked.warnings })
        }
        if (planned.some(({ mutations }) => mutations.some(mayExpire)) || this.hadExpiring(start, mutations)) this.watchExpiry()
        return
      }
      open = planned.map(({ waiting }) => waiting)
      if (outcome.state === 'conflict' && attempt < TRIES_MAX) continue
      const reason = outcome.state === 'conflict' ? 'others change the configuration all the time' : outcome.reason
      for (const waiting of open) waiting.settle({ state: 'unavailable', reason })
      return
    }
  }

  private hadExpiring(view: ResourceView, mutations: readonly Mutation[]): boolean {
    return mutations.some(({ kind, id }) => (view.get(kind, id)?.expiresAtMs ?? null) !== null)
  }

  /** Plans the changes one upon the other and checks what comes out. Those that cannot be are answered here. */
  private async admit(
    start: ResourceView,
    batch: readonly Waiting[],
    atMs: number,
    earlier: readonly Planned[] = [],
    from = start,
  ): Promise<Admitted<P>> {
    const planned: Planned[] = []
    let view = start
    for (const waiting of batch) {
      const plan = waiting.plan(view)
      if ('refusal' in plan) {
        waiting.settle({ state: 'refused', refusal: plan.refusal })
        continue
      }
      const after = view.with(plan.mutations, start.revision + 1, atMs)
      planned.push({ waiting, mutations: plan.mutations, before: view, after })
      view = after
    }
    if (planned.length === 0) return { view: start, planned, checked: null }
    const touched = [...earlier, ...planned].flatMap(({ mutations }) => mutations)
    const checked = await this.host.prepare(from, view, touched, planned.length === 1)
    if (checked.ok) return { view, planned, checked }
    const [only, ...others] = planned
    if (only !== undefined && others.length === 0) {
      only.waiting.settle({ state: 'invalid', errors: checked.errors })
      return { view: start, planned: [], checked: null }
    }
    const half = Math.ceil(planned.length / 2)
    const open = planned.map(({ waiting }) => waiting)
    const left = await this.admit(start, open.slice(0, half), atMs, earlier, from)
    const right = await this.admitAfter(start, left, open.slice(half), atMs, earlier, from)
    return { view: right.view, planned: [...left.planned, ...right.planned], checked: right.checked ?? left.checked }
  }

  /** As `admit`, for changes that follow others of the same batch: all of them get the same revision. */
  private async admitAfter(
    start: ResourceView,
    left: Admitted<P>,
    open: readonly Waiting[],
    atMs: number,
    earlier: readonly Planned[],
    from: ResourceView,
  ): Promise<Admitted<P>> {
    const base = left.planned.length === 0 ? start : left.view.with([], start.revision, atMs)
    return this.admit(base, open, atMs, [...earlier, ...left.planned], from)
  }

  private async expire(): Promise<void> {
    const outcome = await this.submit<null>((view) => {
      const now = this.clock.wallMs()
      const due = this.kinds.flatMap((kind) => view.list(kind).filter(({ expiresAtMs }) => expiresAtMs !== null && expiresAtMs <= now))
      if (due.length === 0) return { refusal: null }
      return { mutations: due.map(({ kind, id }) => ({ type: 'delete', kind, id, leavesGap: false })) }
    })
    if (outcome.state === 'done' || this.isClosed) return
    if (outcome.state === 'refused') return this.watchExpiry()
    const why = outcome.state === 'invalid' ? outcome.errors.slice(0, 3).map(formatIssue).join('; ') : outcome.reason
    this.warn(`resources whose ttl is over stay in force, because without them: ${why}`)
    this.cancelExpiry = this.clock.after(EXPIRY_RETRY_MS, () => void this.expire())
  }
}

function mayExpire(mutation: Mutation): boolean {
  return mutation.type === 'put' && mutation.expiresAtMs !== null
}

/** Whether an issue stands in the resource at `place`. */
export function isBelow(path: DocumentPath, place: DocumentPath): boolean {
  return place.every((part, index) => path[index] === part)
}
