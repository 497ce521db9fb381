/**
 * A configuration that gateways share in one Redis, as named texts. Runs in the primary; knows nothing of what the texts mean.
 *
 *   {prefix}{configuration:NAME}:state, :resources, :log      see lua/configuration-write.lua
 *
 * A change says upon which one it was made; another one by now means that nothing is changed. Redis may lose data (a restart without
 * persistence, a failover): the `token` of a revision tells two histories apart.
 *
 * Everything rejects with RedisFailure when Redis does not answer in time.
 */
import { randomBytes } from 'node:crypto'
import type { Clock } from '../base/clock.js'
import { listenOn } from './channel.js'
import { RedisClient } from './client.js'
import { loadScript } from './script.js'
import { type RedisSettings, settingsName } from './settings.js'

/** Whether there is something new is answered at once; a whole configuration takes its time. */
const WHOLE_DEADLINE_MS = 10_000
/** A log that is longer ends at the last revision that fits. */
const LOG_BYTES_MAX = 16 * 1_048_576

/** One revision of one configuration. */
export interface RecordPosition {
  /** Of the configuration, for as long as it lives. */
  readonly id: string
  readonly revision: number
  readonly token: string
}

export interface RecordChange {
  /** Kind and id. */
  readonly field: string
  /** Empty = there is none; `-` = deleted although others name it. */
  readonly text: string
}

export type RecordNews =
  | { readonly state: 'same' }
  | { readonly state: 'empty' }
  | {
      readonly state: 'changed'
      readonly position: RecordPosition
      /** The changes are all that there is; else those since the known position. */
      readonly isWhole: boolean
      readonly changes: readonly RecordChange[]
    }

export interface LoggedRevision {
  readonly revision: number
  readonly atMs: number
  /** Gateway that wrote it. */
  readonly by: string
  readonly changes: readonly (RecordChange & { readonly before: string })[]
}

export interface RecordLog {
  /** Of the newest revision. */
  readonly token: string
  /** Revision behind which the log begins. */
  readonly oldest: number
  readonly revisions: readonly LoggedRevision[]
}

export interface SharedConfigurationOptions {
  readonly settings: RedisSettings
  /** Of the configuration: several may lie in one Redis. */
  readonly name: string
  readonly clock: Clock
  /** Names this gateway in the log. */
  readonly nodeId: string
  /** Revisions in the log. */
  readonly revisionsMax: number
  /** For changes and for reading everything; default 10 s. */
  readonly wholeDeadlineMs?: number
}

export class SharedConfiguration {
  /** For people, without secrets. */
  readonly place: string
  private readonly scripts = {
    read: loadScript('configuration-read'),
    write: loadScript('configuration-write'),
    log: loadScript('configuration-log'),
  }
  private readonly quick: RedisClient
  private readonly patient: RedisClient
  private readonly keys: readonly [state: string, resources: string, log: string]
  private readonly channel: string
  private listening: { close(): void } | null = null

  /** Connects at once. Throws RangeError for settings that cannot work. */
  constructor(private readonly options: SharedConfigurationOptions) {
    const { settings, clock, name } = options
    // The store says itself when Redis is away, in its own words.
    const log = (): void => {}
    this.quick = new RedisClient({ settings, clock, log })
    const deadlineMs = Math.max(options.wholeDeadlineMs ?? WHOLE_DEADLINE_MS, settings.deadlineMs)
    this.patient = new RedisClient({ settings: { ...settings, deadlineMs }, clock, log })
    const start = `${settings.keyPrefix}{configuration:${name}}:`
    this.keys = [`${start}state`, `${start}resources`, `${start}log`]
    this.channel = `${start}news`
    this.place = `${settingsName(settings)} ${start}*`
  }

  /** What has changed since `known`; null = everything. */
  async read(known: RecordPosition | null): Promise<RecordNews> {
    const seen = [known?.revision ?? 0, known?.token ?? '']
    const glance = positionIn(await this.quick.run(this.scripts.read, this.keys, [...seen, 'look']))
    if (glance === null) return { state: 'empty' }
    if (glance.token === known?.token) return { state: 'same' }
    const reply = await this.patient.run(this.scripts.read, this.keys, [...seen, 'read'])
    const position = positionIn(reply)
    if (position === null || !Array.isArray(reply)) return { state: 'empty' }
    const [, , , form, ...rest] = reply.map(String)
    if (form === undefined) return { state: 'same' }
    return { state: 'changed', position, isWhole: form === 'whole', changes: form === 'whole' ? pairsOf(rest) : rest.flatMap(changesIn) }
  }

  /**
   * Changes the configuration at `known` (null: there must be none). With `isWhole` the changes take the place of all that was there.
   * Null: it is another configuration by now, and nothing was changed. When this rejects, it may have been changed all the same: reading tells.
   */
  async write(
    known: RecordPosition | null,
    next: { readonly id: string; readonly revision: number },
    changes: readonly RecordChange[],
    atMs: number,
    isWhole: boolean,
  ): Promise<RecordPosition | null> {
    const token = randomBytes(12).toString('base64url')
    const { nodeId, revisionsMax } = this.options
    const head = [known?.token ?? '', next.id, token, next.revision, Math.round(atMs), nodeId, revisionsMax, LOG_BYTES_MAX]
    const list = JSON.stringify(changes.flatMap(({ field, text }) => [field, text]))
    const args = [...head, isWhole ? 'whole' : 'change', list]
    const reply = await this.patient.run(this.scripts.write, [...this.keys, this.channel], args)
    return Number(reply) === 1 ? { ...next, token } : null
  }

  /** The revisions behind this one, as far as the log reaches. Null = there is no configuration. */
  async log(behind: number): Promise<RecordLog | null> {
    const reply = await this.patient.run(this.scripts.log, [this.keys[0], this.keys[2]], [behind])
    if (!Array.isArray(reply) || reply.length < 3) return null
    const [token = '', oldest = '', newest = '', ...entries] = reply.map(String)
    const first = Number(newest) - entries.length + 1
    return { token, oldest: Number(oldest), revisions: entries.map((entry, index) => revisionIn(entry, first + index)) }
  }

  /** Calls `heard` when others have written, as long as it is not closed. Messages may be lost. */
  listen(heard: () => void): void {
    this.listening ??= listenOn(this.options.settings, this.options.clock, this.channel, heard)
  }

  close(): void {
    this.listening?.close()
    this.quick.close()
    this.patient.close()
  }
}

function positionIn(reply: unknown): RecordPosition | null {
  if (!Array.isArray(reply) || reply.length < 3) return null
  return { id: String(reply[0]), revision: Number(reply[1]), token: String(reply[2]) }
}

function pairsOf(list: readonly string[]): RecordChange[] {
  const changes: RecordChange[] = []
  for (let index = 0; index + 1 < list.length; index += 2) changes.push({ field: list[index] ?? '', text: list[index + 1] ?? '' })
  return changes
}

function changesIn(entry: string): RecordChange[] {
  return revisionIn(entry, 0).changes.map(({ field, text }) => ({ field, text }))
}

function revisionIn(entry: string, revision: number): LoggedRevision {
  const list: unknown = JSON.parse(entry.slice(entry.indexOf('\n') + 1))
  const [at = '', by = '', ...rest] = Array.isArray(list) ? list.map(String) : []
  const changes: (RecordChange & { before: string })[] = []
  for (let index = 0; index + 2 < rest.length; index += 3) {
    changes.push({ field: rest[index] ?? '', text: rest[index + 1] ?? '', before: rest[index + 2] ?? '' })
  }
  return { revision, atMs: Number(at), by, changes }
}
