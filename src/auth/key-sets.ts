/**
 * The published keys of issuers as one worker knows them. The primary fetches (key-set-keeper); a token with an unknown key id waits,
 * with a deadline, for the next fetch, and only so many tokens wait at a time.
 */
import type { JsonWebKey } from 'node:crypto'
import type { Clock } from '../base/clock.js'
import { isTokenAlgorithm, type TokenAlgorithm, tokenAlgorithms } from './algorithm.js'
import type { TokenJson } from './jws.js'
import { type KeySetNews, type KeySetSpec, keySetId } from './key-set-news.js'
import { TokenProblem } from './key-source.js'
import { jwkKeys, type TokenKey } from './token-key.js'

const WAITING_MAX = 256
const SETS_MAX = 1_024

const wrongAlgorithm = new TokenProblem('algorithm')
const unknownKey = new TokenProblem('unknown-key', 'no published key fits the token')
const unavailable = new TokenProblem('unavailable', 'the keys of the issuer could not be fetched')
/** Published keys are public keys: whatever a set says, none of them is a shared secret. */
const asymmetric: ReadonlySet<TokenAlgorithm> = new Set(tokenAlgorithms.filter((name) => !name.startsWith('HS')))

interface Waiting {
  readonly header: TokenJson
  readonly sinceMs: number
  readonly settle: (outcome: TokenKey | TokenProblem) => void
}

export class KeySet {
  private byId = new Map<string, readonly TokenKey[]>()
  private all: readonly TokenKey[] = []
  private readonly waiting = new Set<Waiting>()

  constructor(
    readonly spec: KeySetSpec,
    private readonly clock: Clock,
    private readonly ask: () => void,
  ) {}

  /** True as soon as keys are known. */
  get isLoaded(): boolean {
    return this.all.length > 0
  }

  /** The key for a token with this header. A promise when it must be fetched first; it never rejects. */
  find(header: TokenJson): TokenKey | TokenProblem | Promise<TokenKey | TokenProblem> {
    const found = this.pick(header)
    if (found !== null) return found
    if (this.waiting.size >= WAITING_MAX) return this.isLoaded ? unknownKey : unavailable
    this.ask()
    return new Promise((resolve) => {
      const { intervalMs, timeoutMs } = this.spec
      const cancel = this.clock.after(intervalMs + 2 * timeoutMs, () => waiting.settle(this.isLoaded ? unknownKey : unavailable))
      const waiting: Waiting = {
        header,
        sinceMs: this.clock.nowMs(),
        settle: (outcome) => {
          cancel()
          this.waiting.delete(waiting)
          resolve(outcome)
        },
      }
      this.waiting.add(waiting)
    })
  }

  learn(news: KeySetNews): void {
    if (news.keys !== null) this.replace(news.keys)
    let hopes = false
    for (const waiting of [...this.waiting]) {
      const found = this.pick(waiting.header)
      if (found !== null) waiting.settle(found)
      else if (news.keys === null) waiting.settle(unavailable)
      else if (waiting.sinceMs <= news.startedMs) waiting.settle(unknownKey)
      else hopes = true
    }
    if (hopes) this.ask()
  }

  /** null: a key that is not known, or not yet. */
  private pick(header: TokenJson): TokenKey | TokenProblem | null {
    const { alg, kid } = header
    if (typeof alg !== 'string' || !isTokenAlgorithm(alg) || !asymmetric.has(alg)) return wrongAlgorithm
    const candidates = typeof kid === 'string' ? this.byId.get(kid) : this.all
    let found: TokenKey | null = null
    for (const key of candidates ?? []) {
      if (key.algorithm !== alg) continue
      // Without a key id it must be clear which key is meant.
      if (found !== null) return unknownKey
      found = key
    }
    if (found === null && candidates !== undefined && typeof kid === 'string') return wrongAlgorithm
    return found
  }

  /** Keys that stay keep their objects, so that what they verified stays verified. */
  private replace(keys: readonly object[]): void {
    const before = new Map(this.all.map((key) => [key.identity, key]))
    const byId = new Map<string, TokenKey[]>()
    const all = new Map<string, TokenKey>()
    for (const jwk of keys) {
      const { kid } = jwk as { readonly kid?: unknown }
      for (const made of jwkKeys(jwk as JsonWebKey, asymmetric)) {
        const key = before.get(made.identity) ?? all.get(made.identity) ?? made
        all.set(key.identity, key)
        if (typeof kid !== 'string') continue
        const list = byId.get(kid) ?? []
        if (!list.includes(key)) list.push(key)
        byId.set(kid, list)
      }
    }
    for (const [identity, key] of before) if (!all.has(identity)) key.isCurrent = false
    this.all = [...all.values()]
    this.byId = byId
  }
}

export class KeySets {
  private readonly sets = new Map<string, KeySet>()

  /** `ask`: tells the primary that the set with this id is wanted anew. */
  constructor(
    private readonly clock: Clock,
    private readonly ask: (id: string) => void,
  ) {}

  /** The set of this spec, the same one for all who use it. */
  of(spec: KeySetSpec): KeySet {
    const id = keySetId(spec)
    const known = this.sets.get(id)
    if (known !== undefined) return known
    return this.add(id, spec)
  }

  /** News may come before anybody has asked. */
  learn(news: KeySetNews): void {
    this.of(news.spec).learn(news)
  }

  private add(id: string, spec: KeySetSpec): KeySet {
    // Sets of configurations that were reloaded away: the oldest are forgotten.
    for (const oldest of this.sets.keys()) {
      if (this.sets.size < SETS_MAX) break
      this.sets.delete(oldest)
    }
    const set = new KeySet(spec, this.clock, () => this.ask(id))
    this.sets.set(id, set)
    return set
  }
}
