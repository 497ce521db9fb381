/**
 * Fetches the published keys of issuers for all workers. Runs in the primary; one fetch at a time per set, whoever asks.
 *
 *   follow(specs) ─► fetch ─► news to all workers ─► (refreshMs) ─► fetch …
 *   wanted(id)    ─► (not before intervalMs after the last fetch) ─► fetch
 *
 * A fetch that fails is repeated after intervalMs, doubled up to a minute; keys that are known stay in use meanwhile. Tokens with
 * random key ids can therefore cause no more than one fetch per intervalMs in the whole process.
 */
import type { Clock } from '../base/clock.js'
import { JsonClient } from './fetch-json.js'
import { type KeySetNews, type KeySetSpec, keySetId } from './key-set-news.js'

const BYTES_MAX = 512 * 1024
const KEYS_MAX = 256
const RETRY_MAX_MS = 60_000

export interface KeySetKeeperOptions {
  readonly clock: Clock
  readonly tell: (news: KeySetNews) => void
  readonly log: (level: 'info' | 'warn', message: string) => void
  /** Tests replace it. */
  readonly fetch?: (spec: KeySetSpec) => Promise<readonly object[]>
}

interface Kept {
  readonly spec: KeySetSpec
  news: KeySetNews | null
  lastFetchMs: number
  isFetching: boolean
  /** A worker asked after the fetch under way had begun. */
  isWantedAgain: boolean
  failures: number
  cancel: (() => void) | null
  isDropped: boolean
}

export class KeySetKeeper {
  private readonly sets = new Map<string, Kept>()
  private readonly clients = new Map<boolean, JsonClient>()

  constructor(private readonly options: KeySetKeeperOptions) {}

  /** These sets are in use from now on, and no others; new ones are fetched at once. */
  follow(specs: readonly KeySetSpec[]): void {
    const wanted = new Map(specs.map((spec) => [keySetId(spec), spec]))
    for (const [id, kept] of this.sets) if (!wanted.has(id)) this.drop(id, kept)
    for (const [id, spec] of wanted) {
      if (this.sets.has(id)) continue
      const kept: Kept = {
        spec,
        news: null,
        lastFetchMs: Number.NEGATIVE_INFINITY,
        isFetching: false,
        isWantedAgain: false,
        failures: 0,
        cancel: null,
        isDropped: false,
      }
      this.sets.set(id, kept)
      void this.fetch(id, kept)
    }
  }

  /** What is known of all sets, for a worker that starts. */
  latest(): readonly KeySetNews[] {
    return [...this.sets.values()].flatMap((kept) => kept.news ?? [])
  }

  /** A token names a key that no worker knows: fetched anew as soon as that may be. */
  wanted(id: string): void {
    const kept = this.sets.get(id)
    if (kept === undefined) return
    if (kept.isFetching) {
      kept.isWantedAgain = true
      return
    }
    const waitMs = kept.lastFetchMs + kept.spec.intervalMs - this.options.clock.nowMs()
    if (waitMs <= 0) void this.fetch(id, kept)
    else this.schedule(id, kept, waitMs)
  }

  async close(): Promise<void> {
    for (const [id, kept] of this.sets) this.drop(id, kept)
    await Promise.all([...this.clients.values()].map((client) => client.close()))
  }

  private drop(id: string, kept: Kept): void {
    kept.isDropped = true
    kept.cancel?.()
    this.sets.delete(id)
  }

  private schedule(id: string, kept: Kept, delayMs: number): void {
    kept.cancel?.()
    kept.cancel = this.options.clock.after(delayMs, () => void this.fetch(id, kept))
  }

  private async fetch(id: string, kept: Kept): Promise<void> {
    if (kept.isFetching || kept.isDropped) return
    const { clock, tell } = this.options
    kept.cancel?.()
    kept.cancel = null
    kept.isFetching = true
    kept.isWantedAgain = false
    const startedMs = clock.nowMs()
    kept.lastFetchMs = startedMs
    let keys: readonly object[] | null = null
    let problem = ''
    try {
      keys = await (this.options.fetch ?? ((spec) => this.download(spec)))(kept.spec)
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error)
    }
    kept.isFetching = false
    if (kept.isDropped) return
    this.report(kept, problem)
    kept.failures = keys === null ? kept.failures + 1 : 0
    const news = { spec: kept.spec, keys, problem, startedMs }
    // A replacement of a worker gets the keys that are known, whatever the last fetch came to.
    if (keys !== null || kept.news === null) kept.news = news
    tell(news)
    const { refreshMs, intervalMs } = kept.spec
    const retryMs = Math.min(Math.max(RETRY_MAX_MS, intervalMs), intervalMs * 2 ** Math.min(16, kept.failures - 1))
    const nextMs = keys === null ? retryMs : kept.isWantedAgain ? intervalMs : refreshMs
    this.schedule(id, kept, nextMs)
  }

  private report(kept: Kept, problem: string): void {
    const name = kept.spec.url === '' ? kept.spec.issuer : kept.spec.url
    if (problem !== '' && kept.failures === 0) {
      const state = kept.news?.keys == null ? 'no keys are known yet' : 'the keys that are known stay in use'
      this.options.log('warn', `keys of ${name} could not be fetched (${problem}); ${state}`)
    }
    if (problem === '' && kept.failures > 0) this.options.log('info', `keys of ${name} are fetched again`)
  }

  private async download(spec: KeySetSpec): Promise<readonly object[]> {
    const client = this.clients.get(spec.verifyTls) ?? new JsonClient(spec.verifyTls)
    this.clients.set(spec.verifyTls, client)
    const get = (url: string) => client.fetch({ url, method: 'GET', headers: {}, timeoutMs: spec.timeoutMs, bytesMax: BYTES_MAX })
    const url = spec.url !== '' ? spec.url : keysUrl(await get(discoveryUrl(spec.issuer)), spec.issuer)
    return keysOf(await get(url))
  }
}

function discoveryUrl(issuer: string): string {
  return `${issuer.replace(/\/+$/, '')}/.well-known/openid-configuration`
}

function keysUrl(document: unknown, issuer: string): string {
  if (typeof document !== 'object' || document === null) throw new Error('its discovery document is not an object')
  const { issuer: named, jwks_uri: url } = document as { readonly issuer?: unknown; readonly jwks_uri?: unknown }
  if (named !== issuer) throw new Error('its discovery document is that of another issuer')
  if (typeof url !== 'string' || !/^https?:\/\//.test(url)) throw new Error('its discovery document has no jwks_uri')
  return url
}

function keysOf(document: unknown): readonly object[] {
  const keys = typeof document === 'object' && document !== null && 'keys' in document ? document.keys : null
  if (!Array.isArray(keys)) throw new Error('its answer is not a JSON Web Key Set')
  if (keys.length > KEYS_MAX) throw new Error(`its set has ${keys.length} keys, more than ${KEYS_MAX}`)
  const objects = keys.filter((key): key is object => typeof key === 'object' && key !== null)
  // A set without keys would refuse everybody: more likely a mistake than a wish.
  if (objects.length === 0) throw new Error('its set has no keys')
  return objects
}
