/** The primary's part in changes of the configuration: the host of the configuration writer, and what the Admin API works on. */
import { systemClock } from '../base/clock.js'
import { storedKinds } from '../controlplane/admin/admin-kinds.js'
import type { AdminActions } from '../controlplane/admin/server.js'
import { effectOf, type LeftOut, leftOutText, tolerateAll } from '../controlplane/leave-out.js'
import { type ConfigIssue, formatIssue, parsePath } from '../controlplane/load-issue.js'
import type { ReloadOutcome } from '../controlplane/reload.js'
import { adminPlace } from '../controlplane/store/base-resources.js'
import type { ConfigurationStore } from '../controlplane/store/configuration-store.js'
import {
  type ConfigurationHost,
  ConfigurationWriter,
  isBelow,
  type Prepared,
  type PublishOutcome,
  type Touched,
} from '../controlplane/store/configuration-writer.js'
import { ResourceMap } from '../controlplane/store/resource-map.js'
import type { ApplyOutcome, Mutation, ResourceView } from '../controlplane/store/resource-store.js'
import { resourceProblems } from '../controlplane/validate-resource.js'
import type { Json } from '../schema/compiled.js'
import { metrics } from '../telemetry/metrics.js'
import type { ProcessLog } from '../telemetry/process-log.js'
import type { Sample } from '../telemetry/prometheus.js'
import type { ConfigurationSource, PreparedChange, PreparedConfiguration } from './configuration.js'

type PreparedWrite = PreparedConfiguration | PreparedChange

export interface PrimaryConfigurationOptions {
  readonly source: ConfigurationSource
  /** Packs, calls `store`, publishes when that succeeded. */
  readonly publish: (prepared: PreparedWrite, store: () => Promise<ApplyOutcome>) => Promise<PublishOutcome>
  /** Null, or why nothing can be changed now. */
  readonly blocked: () => string | null
  readonly log: ProcessLog
}

/** Warnings about what was written that go to the log, per change. */
const warningsMax = 20
/** Errors of what others wrote in one line of the log. */
const errorsMax = 5
/** Log lines about resources that are left out, per change; and resources that `/status` names. */
const leftOutLinesMax = 100

export class PrimaryConfiguration implements ConfigurationHost<PreparedWrite> {
  private readonly writer: ConfigurationWriter<PreparedWrite>
  /** The change that runs, or the last one. */
  private last: Promise<unknown> = Promise.resolve()
  /** The resources that serve. */
  private running: ResourceView | null = null
  /** What of them is left out, as it was said last. */
  private leftOut: readonly LeftOut[] = []
  private endWatch: () => void = () => {}

  constructor(private readonly options: PrimaryConfigurationOptions) {
    this.writer = new ConfigurationWriter(this, systemClock, (message) => options.log.warn(message), storedKinds)
  }

  current(): ResourceView {
    return this.store().current()
  }

  prepare(from: ResourceView, view: ResourceView, touched: readonly Touched[], isOne: boolean): Promise<Prepared<PreparedWrite>> {
    const { source } = this.options
    // What others have changed and does not serve yet is not in what single changes build upon.
    const isServing = this.current() === this.running
    const result = isServing ? source.prepareChange(from.revision, view, touched, isOne) : source.prepareUpon(from, view)
    if (!result.ok) return Promise.resolve(result)
    const places = touched.map(({ kind, id }) => adminPlace(kind, id))
    const own = result.warnings.filter((issue) => places.some((place) => isAt(issue, place)))
    return Promise.resolve({ ok: true, prepared: result.prepared, warnings: own })
  }

  async publish(prepared: PreparedWrite, store: () => Promise<ApplyOutcome>): Promise<PublishOutcome> {
    const reason = this.options.blocked()
    if (reason !== null) return { state: 'unavailable', reason }
    const outcome = await this.options.publish(prepared, store)
    if (outcome.state === 'published' && this.running !== null) this.store().served(this.running)
    this.sayLeftOut()
    return outcome
  }

  async apply(mutations: readonly Mutation[], expectedRevision: number, atMs: number): Promise<ApplyOutcome> {
    const outcome = await this.store().apply(mutations, expectedRevision, atMs)
    if (outcome.state === 'stored') this.running = this.store().current()
    return outcome
  }

  /** The gateway serves: from now on it also takes over what others change in the store. */
  begin(): void {
    const store = this.options.source.store()
    if (store === null) return
    const follow = (): void => void this.exclusively(() => this.follow())
    this.endWatch = store.watch(follow)
    follow()
  }

  /** Publishes what the store holds now, unless it serves already or is not valid here: then what serves goes on. Never rejects. */
  private async follow(): Promise<void> {
    const { log, source } = this.options
    const store = this.store()
    const view = store.current()
    if (view === this.running || this.options.blocked() !== null) return
    const place = store.describe().place
    try {
      const { running } = this
      const isKnown = running instanceof ResourceMap && view instanceof ResourceMap
      const result = isKnown
        ? source.prepareChange(running.revision, view, view.differences(running), true, tolerateAll)
        : source.prepareOthers(view)
      if (!result.ok) {
        const lines = result.errors.slice(0, errorsMax).map(formatIssue)
        const more = result.errors.length > errorsMax ? ` and ${result.errors.length - errorsMax} more` : ''
        log.error(`revision ${view.revision} of ${place} is refused here: ${lines.join('; ')}${more}; what serves goes on`)
        store.refused(lines[0] ?? 'it is not valid')
        return
      }
      const outcome = await this.options.publish(result.prepared, () => Promise.resolve({ state: 'stored', revision: view.revision }))
      if (outcome.state !== 'published') return
      this.running = view
      store.served(view)
      this.sayLeftOut()
      this.writer.watchExpiry()
      log.info(`revision ${view.revision} of ${place} serves as epoch ${outcome.epoch}`)
    } catch (error) {
      log.error(`revision ${view.revision} of ${place} could not be taken over: ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  /** Names what is left out since it was said last, and what is not any more. */
  private sayLeftOut(): void {
    const { log, source } = this.options
    const now = source.leftOut()
    if (now === this.leftOut) return
    const before = this.leftOut
    this.leftOut = now
    const known = new Set(before.map(leftOutText))
    const texts = now.map(leftOutText)
    const news = texts.filter((text) => !known.has(text))
    for (const text of news.slice(0, leftOutLinesMax)) log.error(text)
    if (news.length > leftOutLinesMax) log.error(`${news.length - leftOutLinesMax} more resources are left out`)
    const still = new Set(now.map(({ resource: { kind, id } }) => `${kind}/${id}`))
    const over = before.map(({ resource: { kind, id } }) => `${kind}/${id}`).filter((name) => !still.has(name))
    for (const name of over.slice(0, leftOutLinesMax)) log.info(`${name} is not left out any more`)
  }

  exclusively<T>(run: () => Promise<T>): Promise<T> {
    const next = this.last.then(run, run)
    this.last = next.catch(() => {})
    return next
  }

  /** A configuration is published by other means than a change: what expires may be other things now. */
  published(prepared: PreparedConfiguration): void {
    this.options.source.adopt(prepared)
    this.running = prepared.origin?.view?.map ?? this.running
    this.sayLeftOut()
    if (this.options.source.store() !== null) this.writer.watchExpiry()
  }

  /** What the admin server needs; `reload` is the gateway's. */
  resources(reload: () => Promise<ReloadOutcome>): AdminActions['resources'] {
    const { source, log } = this.options
    return {
      clock: systemClock,
      reload,
      registry: () => source.openedFile().registry,
      view: () => this.current(),
      submit: async (plan) => {
        const outcome = await this.writer.submit(plan)
        if (outcome.state === 'done') for (const warning of outcome.warnings.slice(0, warningsMax)) log.warn(formatIssue(warning))
        return outcome
      },
      problems: (kind, value, view, alone) => resourceProblems(source.openedFile(), source.environment, kind, value, view, alone),
      kongFile: () => source.openedFile().kong,
      hasKongOrder: () => hasKongOrder(source.openedFile().source.value),
      history: () => this.store().history(),
      at: (revision) => this.store().at(revision),
      check: (view) => {
        const result = source.prepareWhole(view)
        return Promise.resolve(result.ok ? [] : result.errors)
      },
    }
  }

  /** For `/status`; null = there is no store. */
  state(): Json {
    const store = this.options.source.store()
    if (store === null) return null
    const { kind, revision, place, problem, setAside } = store.describe()
    const { leftOut } = this
    return {
      kind,
      revision,
      place,
      problem,
      set_aside: setAside.map((item) => ({ ...item })),
      invalid_items: leftOut.length,
      invalid: leftOut.slice(0, leftOutLinesMax).map((one) => {
        const { resource, reason } = one
        return { kind: resource.kind, id: resource.id, reason, effect: effectOf(one) }
      }),
    }
  }

  /** For `/metrics`; nothing where there is no store. */
  samples(): Sample[] {
    const store = this.options.source.store()
    if (store === null) return []
    const { kind, revision, problem, isReachable } = store.describe()
    const values = [kind]
    const own: Sample[] = [
      { metric: metrics.storeHealthy, values, value: problem === null ? 1 : 0 },
      { metric: metrics.storeRevision, values, value: revision },
      { metric: metrics.storeInvalidItems, values, value: this.leftOut.length },
    ]
    return kind === 'etcd' ? [...own, { metric: metrics.etcdReachable, values: [], value: isReachable ? 1 : 0 }] : own
  }

  /** For `/v1/store`. */
  describe(): object {
    const store = this.options.source.store()
    return store === null ? {} : { ...store.describe(), setAside: undefined, set_aside: store.setAside() }
  }

  forgetSetAside(): Promise<number | string> {
    return this.exclusively(() => this.store().forgetSetAside())
  }

  async close(): Promise<void> {
    this.endWatch()
    this.writer.close()
    await this.exclusively(() => this.options.source.close())
  }

  private store(): ConfigurationStore {
    const store = this.options.source.store()
    if (store === null) throw new Error('there is no store of resources')
    return store
  }
}

function isAt({ path }: ConfigIssue, place: readonly (string | number)[]): boolean {
  return isBelow(parsePath(path), place)
}

/** Read from the file in our form: the router is fixed by it, whatever the store holds. */
function hasKongOrder(root: unknown): boolean {
  const router = fieldOf(fieldOf(root, 'sluice'), 'router')
  return fieldOf(router, 'mode') === 'priority'
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}
