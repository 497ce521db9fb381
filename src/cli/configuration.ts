/**
 * The configuration of this process, as often as it is asked for: file, changes by the Admin API, environment and flags in; checked and
 * compiled out.
 *
 *   prepare        reads the file anew, with the changes of the store that are in force over it
 *   prepareChange  the file as it was when it was adopted, with other resources
 *   adopt          what was prepared is published: later changes build upon it
 */
import { existsSync } from 'node:fs'
import { wallMs } from '../base/clock.js'
import { UsageError } from '../base/errors.js'
import { type CheckResult, checkOpened, type OpenedConfiguration, openConfiguration } from '../controlplane/check.js'
import type { CompiledState } from '../controlplane/compile.js'
import type { CompiledConsumers } from '../controlplane/compile-consumers.js'
import {
  checkTolerant,
  isNamedByOthers,
  type LeftOut,
  type Tolerance,
  type TolerantResult,
  tolerateAll,
  tolerateKnown,
  withoutLeftOut,
} from '../controlplane/leave-out.js'
import { type ConfigurationChange, isLiveKind, LiveConfiguration } from '../controlplane/live/live-configuration.js'
import { type ConfigIssue, formatIssue } from '../controlplane/load-issue.js'
import { readBaseResources, withResources } from '../controlplane/store/base-resources.js'
import type { ConfigurationStore, StoreView } from '../controlplane/store/configuration-store.js'
import type { Touched } from '../controlplane/store/configuration-writer.js'
import { baseOf, type FileBase, FileStore } from '../controlplane/store/file-store.js'
import { ResourceMap } from '../controlplane/store/resource-map.js'
import { type ResourceView, resourceKey } from '../controlplane/store/resource-store.js'
import { SharedStore, type SharedStoreOptions, viewOfShared } from '../controlplane/store/shared-store.js'
import { asksForAdmin, stateFileOf } from '../controlplane/validate-admin.js'
import { resourceProblems } from '../controlplane/validate-resource.js'
import { asksForSharedStore } from '../controlplane/validate-store.js'
import type { DeclaredLimiter } from '../limits/declared.js'
import type { CompiledConfig } from '../schema/compiled.js'
import type { ProcessConfig } from '../schema/process.js'
import { applyFlags, type StartFlags } from './flags.js'
import { openSharedStore, type SharedStoreConfig, withSharedStore } from './open-store.js'

export interface PreparedConfiguration {
  /** Flags laid over the file. */
  readonly process: ProcessConfig
  readonly compiled: CompiledConfig
  readonly consumers: CompiledConsumers
  readonly limiters: readonly DeclaredLimiter[]
  readonly state: CompiledState
  /** One line each. */
  readonly warnings: readonly string[]
  /** What it was made from; null = nothing can be changed but by the file. */
  readonly origin: ConfigurationOrigin | null
  /** Resources of a shared store that do not serve. */
  readonly leftOut: readonly LeftOut[]
}

/** Some resources that change in the configuration that was adopted last. */
export interface PreparedChange {
  /** Revision of the resources that it changes. */
  readonly base: number
  readonly view: ResourceView
  /** The same without what is left out. */
  readonly served: ResourceView
  readonly touched: readonly Touched[]
}

export interface ConfigurationOrigin {
  readonly opened: OpenedConfiguration
  /** Null = the store is there already. */
  readonly view: StoreView | null
}

export type PrepareResult =
  | { readonly ok: true; readonly prepared: PreparedConfiguration }
  | { readonly ok: false; readonly errors: readonly string[]; readonly warnings: readonly string[] }

export type ChangeResult =
  | { readonly ok: true; readonly prepared: PreparedConfiguration | PreparedChange; readonly warnings: readonly ConfigIssue[] }
  | { readonly ok: false; readonly errors: readonly ConfigIssue[] }

/** A file with the changes over it. `opened` is null when the file cannot be read at all, `view` when there are no changes. */
export interface ReadConfiguration {
  readonly checked: CheckResult
  readonly leftOut: readonly LeftOut[]
  readonly opened: OpenedConfiguration | null
  readonly view: StoreView | null
}

/** Changes in one batch that are compiled one by one; so many more than a part of all, the whole is compiled. */
const CHANGES_MAX = 2_000
const CHANGED_SHARE = 4
/** Resources left out beside which changes are compiled one by one. */
const LEFT_OUT_MAX = 1_000
/** Nothing may be left out. */
const strict: Tolerance = () => false

export class ConfigurationSource {
  private kept: ConfigurationStore | null = null
  private adopted: OpenedConfiguration | null = null
  /** What `live` is made of when it is first needed. */
  private compiled: Pick<PreparedConfiguration, 'compiled' | 'state'> | null = null
  private live: LiveConfiguration | null = null
  /** The revision of the store that `compiled` or `live` belongs to. */
  private liveRevision = -1
  /** Of what was adopted last. */
  private omitted: readonly LeftOut[] = []
  /** Nothing but a change of what is left out changes what has to be left out; null = not known yet. */
  private isOmissionSettled: boolean | null = null
  private readPlace: string | null = null

  constructor(
    private readonly flags: StartFlags,
    /** What `${{NAME}}` in the file is replaced from. */
    readonly environment: NodeJS.ProcessEnv,
    /** See shared/rotors: the same key keeps its slot over reloads. */
    private readonly rotorSlot: (key: string) => number,
    /**
     * A store that several gateways share is opened, and this is where it says what it has to say; `read`: it is read once, and nothing
     * is written; `aside`: no server is asked, and the file stands for itself.
     */
    private readonly shared: SharedStoreOptions['log'] | 'read' | 'aside' = 'aside',
  ) {}

  /** Reads the file anew. The check is the one that `sluice check` makes. */
  async prepare(): Promise<PrepareResult> {
    let read: ReadConfiguration
    try {
      read = await this.read()
    } catch (error) {
      if (!(error instanceof UsageError)) throw error
      return { ok: false, errors: [error.message], warnings: [] }
    }
    const { checked, leftOut, opened, view } = read
    if (!checked.ok || opened === null) return (await this.prepareCopy(opened, view, checked)) ?? refused(checked)
    if (view !== null && !canList(opened)) throw new Error('the resources of the file cannot be listed, although it is valid')
    const warnings = [...checked.warnings.map(formatIssue), ...(view?.warnings ?? [])]
    return { ok: true, prepared: { ...partsOf(checked), warnings, origin: view === null ? null : { opened, view }, leftOut } }
  }

  /** The file with the changes that are in force over it, checked; nothing is adopted. Rejects with UsageError when the store is damaged. */
  async read(): Promise<ReadConfiguration> {
    const result = await openConfiguration(this.flags.file, this.environment)
    if (!result.ok) return { checked: result, leftOut: [], opened: null, view: null }
    const { opened } = result
    const view = await this.readStore(opened)
    if (view !== null && 'ok' in view) return { checked: view, leftOut: [], opened: null, view: null }
    if (view === null || view.inForce === 0 || !canList(opened)) {
      return { checked: this.check(opened, view?.map ?? null), leftOut: [], opened, view }
    }
    const tolerant = this.checkView(opened, view.map, tolerateAll)
    return tolerant.ok
      ? { checked: tolerant.checked, leftOut: tolerant.leftOut, opened, view }
      : { checked: tolerant, leftOut: [], opened, view }
  }

  /** A start with what ran here last, because a shared store holds what is not valid here. Null = that is not possible. */
  private async prepareCopy(
    opened: OpenedConfiguration | null,
    view: StoreView | null,
    refusal: CheckResult,
  ): Promise<PrepareResult | null> {
    if (opened === null || refusal.ok || !(this.kept instanceof SharedStore) || this.adopted !== null || view === null) return null
    const map = await this.kept.fallback()
    if (map === null) return null
    const result = this.checkView(opened, map, tolerateAll)
    if (!result.ok) return null
    const { checked, leftOut } = result
    const first = `starting with the copy of revision ${map.revision}: revision ${view.map.revision} of the store is not valid here`
    const warnings = [first, ...refusal.errors.map(formatIssue), ...checked.warnings.map(formatIssue)]
    return { ok: true, prepared: { ...partsOf(checked), warnings, origin: { opened, view: { ...view, map } }, leftOut } }
  }

  /** The adopted file with these resources instead of its own. Resources that `mayLeaveOut` allows are left out if they are not valid. */
  prepareWhole(
    view: ResourceView,
    mayLeaveOut: Tolerance = tolerateKnown(this.omitted),
  ):
    | Extract<ChangeResult, { ok: false }>
    | { readonly ok: true; readonly prepared: PreparedConfiguration; readonly warnings: readonly ConfigIssue[] } {
    const result = this.checkView(this.openedFile(), view, mayLeaveOut)
    if (!result.ok) return { ok: false, errors: result.errors }
    const { checked, leftOut } = result
    return { ok: true, prepared: { ...partsOf(checked), warnings: [], origin: null, leftOut }, warnings: checked.warnings }
  }

  /** As `prepareWhole`, for resources that others have left: whatever is not valid of them may be left out. */
  prepareOthers(view: ResourceView): ReturnType<ConfigurationSource['prepareWhole']> {
    return this.prepareWhole(view, tolerateAll)
  }

  /** As `prepareWhole`, for a change of what others have left and does not serve yet: `from`. */
  prepareUpon(from: ResourceView, view: ResourceView): ReturnType<ConfigurationSource['prepareWhole']> {
    const before = this.prepareOthers(from)
    return this.prepareWhole(view, before.ok ? tolerateKnown(before.prepared.leftOut) : strict)
  }

  /**
   * The same by way of what changes, where that is possible. `touched`: all changes that lead from revision `base` of the resources to `view`.
   * `isOne`: they stand or fall together, so if they fall it is told why; else the errors may be missing.
   */
  prepareChange(base: number, view: ResourceView, touched: readonly Touched[], isOne: boolean, mayLeaveOut?: Tolerance): ChangeResult {
    const live = this.isOmissionKept(touched) ? this.liveFor(base, touched) : null
    if (live === null) return this.prepareWhole(view, mayLeaveOut)
    const served = view instanceof ResourceMap ? withoutLeftOut(view, this.omitted) : view
    const applied = live.apply(served, touched)
    if (applied !== null) return { ok: true, prepared: { base, view, served, touched }, warnings: applied.warnings }
    return isOne ? this.prepareWhole(view, mayLeaveOut) : { ok: false, errors: [] }
  }

  /** Resources that do not serve because they, or what they need, are not valid here. */
  leftOut(): readonly LeftOut[] {
    return this.omitted
  }

  /** Whether the same is left out after these changes. */
  private isOmissionKept(touched: readonly Touched[]): boolean {
    const { omitted } = this
    if (omitted.length === 0) return true
    if (omitted.length > LEFT_OUT_MAX) return false
    const { environment } = this
    this.isOmissionSettled ??= omitted.every(({ resource: { kind, value }, isInvalid }) => {
      if (!isInvalid || isNamedByOthers(kind)) return false
      return resourceProblems(this.openedFile(), environment, kind, value, ResourceMap.empty, true).length > 0
    })
    if (!this.isOmissionSettled) return false
    const own = new Set(omitted.map(({ resource }) => resourceKey(resource.kind, resource.id)))
    return touched.every(({ kind, id }) => !own.has(resourceKey(kind, id)))
  }

  /** What a prepared change changes. Follow it by `adoptChange` or `rollBack`. */
  applyChange({ base, served, touched }: PreparedChange): ConfigurationChange {
    const applied = this.liveFor(base, touched)?.apply(served, touched) ?? null
    if (applied === null) throw new Error('a change that was prepared cannot be applied any more')
    return applied.change
  }

  /** Call when a prepared change is stored, as this revision. */
  adoptChange(revision: number): void {
    this.live?.commit()
    this.liveRevision = revision
  }

  rollBack(): void {
    this.live?.rollBack()
  }

  /** Call when `prepared` is published; `revision`: that of its resources in the store, unless it is a file that was read. */
  adopt({ origin, compiled, state, leftOut }: PreparedConfiguration, revision = origin?.view?.map.revision ?? -1): void {
    if (origin !== null) {
      this.adopted = origin.opened
      if (origin.view !== null) this.kept?.adopt(origin.view)
    }
    this.live = null
    this.compiled = this.kept === null ? null : { compiled, state }
    this.liveRevision = revision
    this.omitted = leftOut
    this.isOmissionSettled = null
  }

  /** What changes since the configuration was compiled as a whole; null = nothing. */
  liveParts(): Pick<LiveConfiguration, 'compiledRoutes' | 'limiters'> | null {
    return this.live
  }

  private liveFor(base: number, touched: readonly Touched[]): LiveConfiguration | null {
    if (touched.length === 0 || this.liveRevision !== base) return null
    if (!touched.every(({ kind }) => isLiveKind(kind))) return null
    if (this.live === null && this.compiled !== null) {
      this.live = new LiveConfiguration(this.compiled.state, this.compiled.compiled)
      this.compiled = null
    }
    const { live } = this
    return live !== null && touched.length <= CHANGES_MAX + live.compiledRoutes.length / CHANGED_SHARE ? live : null
  }

  /** How the store that gateways share is reached, by the file alone; null = it names none. No server is asked. */
  async sharedStore(): Promise<SharedStoreConfig | Extract<CheckResult, { ok: false }> | null> {
    const result = await openConfiguration(this.flags.file, this.environment)
    if (!result.ok) return result
    return asksForSharedStore(result.opened.source.value) ? this.sharedIn(result.opened) : null
  }

  /** Where the resources were read from, for people; null = the file and its journal. */
  placeOfResources(): string | null {
    return this.readPlace
  }

  /** Null = there is no Admin API, and there never was. */
  store(): ConfigurationStore | null {
    return this.kept
  }

  /** The file that was adopted last. */
  openedFile(): OpenedConfiguration {
    if (this.adopted === null) throw new UsageError('no configuration has been published yet')
    return this.adopted
  }

  async close(): Promise<void> {
    await this.kept?.close()
  }

  /** What the store holds over this file; null when there is no store. */
  private async readStore(opened: OpenedConfiguration): Promise<StoreView | Extract<CheckResult, { ok: false }> | null> {
    const root = opened.source.value
    if (this.kept !== null) await this.kept.refresh()
    else if (asksForSharedStore(root)) {
      // Another store counts from the next start on.
      if (this.adopted !== null || this.shared === 'aside') return null
      const store = this.sharedIn(opened)
      if ('ok' in store) return store
      if (this.shared === 'read') {
        const reading = await withSharedStore(store, (found) => Promise.resolve(found))
        this.readPlace = reading.place
        return viewOfShared(baseIn(root), reading)
      }
      this.kept = await openSharedStore(store, this.shared)
    } else {
      const journal = stateFileOf(root, this.flags.file)
      if (this.flags.admin === undefined && !asksForAdmin(root) && !existsSync(journal)) return null
      this.kept = await FileStore.open(journal)
    }
    return this.kept.viewOf(baseIn(root))
  }

  /** How the store is reached, which must be right before anything can be said about its resources. */
  private sharedIn(opened: OpenedConfiguration): SharedStoreConfig | Extract<CheckResult, { ok: false }> {
    const bare = this.check({ ...opened, source: withResources(opened.source, ResourceMap.empty) }, null)
    if (!bare.ok) return bare
    const { store } = bare.process
    if (store.kind === 'file') throw new Error('a store that several gateways share was asked for')
    return store
  }

  /** The file with these resources instead of its own. Only a store that others write, too, holds what is not valid. */
  private checkView(opened: OpenedConfiguration, view: ResourceView, mayLeaveOut: Tolerance): TolerantResult {
    const check = (map: ResourceView): CheckResult => this.check({ ...opened, source: withResources(opened.source, map) }, map)
    if (!(view instanceof ResourceMap) || !asksForSharedStore(opened.source.value)) {
      const checked = check(view)
      return checked.ok ? { ok: true, checked, map: ResourceMap.empty, leftOut: [] } : checked
    }
    return checkTolerant(view, check, mayLeaveOut)
  }

  private check(opened: OpenedConfiguration, view: ResourceView | null): CheckResult {
    const adminKey = this.environment['SLUICE_ADMIN_KEY']
    return checkOpened(opened, this.environment, {
      rotorSlot: this.rotorSlot,
      adjust: (config) => applyFlags(config, this.flags, adminKey),
      ...(view !== null && { alsoKnown: (kind: string) => view.gaps(kind) }),
    })
  }
}

function baseIn(root: unknown): FileBase {
  return baseOf(readBaseResources(root, wallMs()) ?? [])
}

/** A file whose resources cannot be listed is refused by its validation, which must see it as it is. */
function canList({ source }: OpenedConfiguration): boolean {
  return readBaseResources(source.value, 0) !== null
}

function partsOf({ process, compiled, consumers, limiters, state }: Extract<CheckResult, { ok: true }>) {
  return { process, compiled, consumers, limiters, state }
}

/** One line for each change that is not in force. */
export function asideTexts(view: StoreView | null): readonly string[] {
  return view?.warnings ?? []
}

function refused(checked: CheckResult): PrepareResult {
  return { ok: false, errors: checked.ok ? [] : checked.errors.map(formatIssue), warnings: checked.warnings.map(formatIssue) }
}
