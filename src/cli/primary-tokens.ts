/**
 * The primary's part in tokens: it writes the table of revocations, keeps it in step with the other gateways through Redis, and
 * fetches the published keys of issuers for all workers.
 */
import { KeySetKeeper } from '../auth/key-set-keeper.js'
import type { KeySetNews, KeySetSpec } from '../auth/key-set-news.js'
import type { Clock } from '../base/clock.js'
import type { RevocationSync } from '../cluster/revocations.js'
import type { RevocationOutcome, RevocationRequest } from '../controlplane/admin/revocations.js'
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

export class PrimaryTokens {
  private readonly table: RevocationTable
  private sync: RevocationSync | null = null
  private hasSaidFull = false
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
    const [{ RevocationSync }, { RedisClient }, { settingsOf }] = await Promise.all([
      import('../cluster/revocations.js'),
      import('../cluster/client.js'),
      import('../cluster/redis-store.js'),
    ])
    const client = new RedisClient({ settings: settingsOf(redis), clock, log: (level, message) => log[level](message) })
    this.sync = new RevocationSync({ client, clock, learn: (digest, untilS) => this.learn(digest, untilS) })
    if (!(await this.sync.begin())) {
      log.warn(`${client.name} did not say what is revoked; it is asked again and again, and until it answers only new revocations count`)
    }
  }

  /** When it resolves with anything but `full`, no worker lets through what was revoked. */
  async revoke({ kind, value, ttlS }: RevocationRequest): Promise<RevocationOutcome> {
    const nowS = this.nowS()
    const digest = revocationDigest(kind, value)
    if (!this.table.add(digest, nowS + ttlS, nowS)) return { state: 'full' }
    this.options.log.info(`a ${kind} was revoked for ${ttlS} s`)
    const failure = await (this.sync?.publish(digest, nowS + ttlS) ?? null)
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
    if (this.table.add(digest, untilS, this.nowS()) || this.hasSaidFull) return
    this.hasSaidFull = true
    this.options.log.error('the table of revocations is full: revocations of other nodes are not obeyed on this node until some end')
  }

  private nowS(): number {
    return this.options.clock.wallMs() / 1000
  }
}
