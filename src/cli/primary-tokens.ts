/**
 * The primary's part in tokens: it writes the table of revocations, keeps it in step with the other gateways through Redis, and
 * fetches the published keys of issuers for all workers.
 */
import { KeySetKeeper } from '../auth/key-set-keeper.js'
import type { KeySetNews, KeySetSpec } from '../auth/key-set-news.js'
import type { Clock } from '../base/clock.js'
import type { RevocationSync } from '../cluster/revocations.js'
import type { RevocationActions, RevocationOutcome, RevocationRequest } from '../controlplane/admin/revocations.js'
import type { RedisConfig } from '../schema/process.js'
import { RevocationTable, revocationDigest } from '../shared/revocations.js'
import type { ProcessLog } from '../telemetry/process-log.js'

export interface PrimaryTokensOptions {
  readonly region: SharedArrayBuffer
  /** null: revocations are this node's own, and last as long as the process. */
  readonly redis: RedisConfig | null
  readonly clock: Clock
  /** Tells all workers about the keys of an issuer. */
  readonly tellKeys: (news: KeySetNews) => void
  readonly log: ProcessLog
}

/** Entries beyond which those that are over are looked for. */
const PRUNE_AT = 65_536

export class PrimaryTokens implements RevocationActions {
  private readonly table: RevocationTable
  private sync: RevocationSync | null = null
  private hasSaidFull = false
  /** What is in the table, by digest, with its ends; some are over. */
  private readonly entries = new Map<string, number>()
  private pruneAt = PRUNE_AT
  private readonly keeper: KeySetKeeper

  constructor(private readonly options: PrimaryTokensOptions) {
    const { clock, tellKeys, log } = options
    this.keeper = new KeySetKeeper({ clock, tell: tellKeys, log: (level, message) => log[level](message) })
    this.table = new RevocationTable(options.region)
  }

  /** Reads what is in force from Redis, if it answers in time. The client library is loaded only where Redis is configured. */
  async begin(): Promise<void> {
    const { redis, clock, log } = this.options
    if (redis === null) return
    const [{ RevocationSync }, { listenOn }, { RedisClient }, { settingsOf }] = await Promise.all([
      import('../cluster/revocations.js'),
      import('../cluster/channel.js'),
      import('../cluster/client.js'),
      import('../cluster/redis-store.js'),
    ])
    const settings = settingsOf(redis)
    const client = new RedisClient({ settings, clock, log: (level, message) => log[level](message) })
    this.sync = new RevocationSync({
      client,
      listen: (channel, heard) => listenOn(settings, clock, channel, heard),
      clock,
      inForce: this.entries,
      learn: (digest, untilS) => this.learn(digest, untilS),
    })
    if (!(await this.sync.begin())) {
      log.warn(`${client.name} did not say what is revoked; it is asked again and again, and until it answers only new revocations count`)
    }
  }

  /** When it resolves with anything but `full`, no worker lets through what was revoked. */
  async revoke({ kind, value, ttlS }: RevocationRequest): Promise<RevocationOutcome> {
    const nowS = this.nowS()
    const digest = revocationDigest(kind, value)
    if (!this.add(digest, nowS + ttlS)) return { state: 'full' }
    this.options.log.info(`a ${kind} was revoked for ${ttlS} s`)
    const failure = await (this.sync?.publish(digest, nowS + ttlS) ?? null)
    return failure === null ? { state: 'in-force' } : { state: 'here-only', reason: failure.message }
  }

  inForce(): ReadonlyMap<string, number> {
    this.prune()
    return this.entries
  }

  /** When it resolves, every worker lets it through again. */
  async undo(digest: string): Promise<Exclude<RevocationOutcome, { state: 'full' }> | null> {
    const untilS = this.entries.get(digest) ?? 0
    if (untilS <= this.nowS()) return null
    this.remove(digest)
    this.options.log.info(`the revocation of a ${digest.slice(0, digest.indexOf(':'))} was undone`)
    const failure = await (this.sync?.undo(digest, untilS) ?? null)
    return failure === null ? { state: 'in-force' } : { state: 'here-only', reason: failure.message }
  }

  /** The configuration uses these sets of keys, and no others. */
  follow(specs: readonly KeySetSpec[]): void {
    this.keeper.follow(specs)
  }

  /** A worker met a token whose key is not in the set. */
  keysWanted(id: string): void {
    this.keeper.wanted(id)
  }

  keySets(): readonly KeySetNews[] {
    return this.keeper.latest()
  }

  async close(): Promise<void> {
    this.sync?.close()
    await this.keeper.close()
  }

  private learn(digest: string, untilS: number): void {
    if (untilS === 0) {
      this.remove(digest)
      return
    }
    if (this.add(digest, untilS) || this.hasSaidFull) return
    this.hasSaidFull = true
    this.options.log.error('the table of revocations is full: revocations of other nodes are not obeyed on this node until some end')
  }

  private add(digest: string, untilS: number): boolean {
    const nowS = this.nowS()
    if (untilS <= nowS) return true
    if (!this.table.add(digest, untilS, nowS)) return false
    this.entries.set(digest, Math.max(untilS, this.entries.get(digest) ?? 0))
    if (this.entries.size > this.pruneAt) {
      this.prune()
      this.pruneAt = Math.max(PRUNE_AT, 2 * this.entries.size)
    }
    return true
  }

  private remove(digest: string): void {
    this.entries.delete(digest)
    this.table.remove(digest)
  }

  private prune(): void {
    const nowS = this.nowS()
    for (const [digest, untilS] of this.entries) if (untilS <= nowS) this.entries.delete(digest)
  }

  private nowS(): number {
    return this.options.clock.wallMs() / 1000
  }
}
