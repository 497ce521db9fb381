/**
 * Checks tokens for one worker, and remembers those that are genuine.
 *
 *   token ─ known, fresh, same source ──────────────────────────────► CheckedToken (nothing is allocated)
 *     └─ read → source finds the key → algorithm → [known to be bad] → signature → remembered ─► CheckedToken, or TokenProblem
 *
 * A token is known by the SHA-256 of its whole text; the text itself is not kept. A remembered token counts for the key that verified
 * it and no other, for at most FRESH_MS and only while that key is current. What failed is remembered for FAILED_MS. Everything is
 * bounded; a token that is too large to remember is verified every time. What bad tokens may cost is for the BadTokenBudget to say.
 */
import { recentMs } from '../base/clock.js'
import { DigestMap } from '../base/digest-map.js'
import { type FifoEntry, S3Fifo } from '../base/s3-fifo.js'
import { type RevocationReader, revocationDigest } from '../shared/revocations.js'
import { BadTokenBudget } from './bad-token-budget.js'
import { CheckedToken } from './checked-token.js'
import { readToken, type UnverifiedToken } from './jws.js'
import { type KeyMatch, type KeySource, TokenProblem } from './key-source.js'
import { tokenDigest } from './token-digest.js'
import type { TokenKey } from './token-key.js'

export const FRESH_MS = 60_000
const FAILED_MS = 1_000
const FAILED_MAX = 4_096
/** Estimated bytes of all remembered tokens of a worker: about 50,000 of usual size. */
const CACHE_BYTES_DEFAULT = 64 * 1024 * 1024
/** Objects around a token: digests, entries, claims without their values. */
const TOKEN_OVERHEAD_BYTES = 900
/** Slow verifications at a time: what is tried for bad tokens must not take all cores. */
const ELSEWHERE_MAX = 2
/** More are turned away. */
const ELSEWHERE_WAITING_MAX = 1_024

export type TokenOutcome = CheckedToken | TokenProblem

const wrongAlgorithm = new TokenProblem('algorithm')
const wrongSignature = new TokenProblem('signature')
const overload = new TokenProblem('overload', 'too many tokens wait to be verified')
const tooManyBad = new TokenProblem('overload', 'too many bad tokens at this moment')

export interface TokenServiceOptions {
  readonly revocations: RevocationReader
  readonly cacheBytes?: number
  /** Monotonic milliseconds; tests own it. */
  readonly nowMs?: () => number
}

export class TokenService {
  private readonly known: S3Fifo<CheckedToken>
  /** Digest of key and token to the time until which it needs not be tried again. */
  private readonly failed = new S3Fifo<number>(FAILED_MAX)
  private readonly budget: BadTokenBudget
  private readonly revocations: RevocationReader
  private readonly nowMs: () => number
  private elsewhere = 0
  private readonly waiting: (() => void)[] = []
  /** Signatures that were checked; for tests and measurements. */
  verifications = 0

  constructor(options: TokenServiceOptions) {
    this.revocations = options.revocations
    this.nowMs = options.nowMs ?? recentMs
    this.known = new S3Fifo(options.cacheBytes ?? CACHE_BYTES_DEFAULT, new DigestMap<FifoEntry<CheckedToken>>())
    this.budget = new BadTokenBudget(this.nowMs)
  }

  /** Tokens that are remembered. */
  get size(): number {
    return this.known.size
  }

  /**
   * The token as genuine, or why it is not. At once when it is known or its key is quick; never rejects. `from`: the client, whose bad
   * tokens are counted.
   */
  check(text: string, source: KeySource, from: string): TokenOutcome | Promise<TokenOutcome> {
    const digest = tokenDigest(text)
    const known = this.known.get(digest)
    if (known === undefined) return this.readUnknown(text, digest, source, from)
    // What was genuine once is worth another look, whatever else is sent.
    if (!this.isFresh(known)) return this.readAgain(text, digest, source)
    return known.source === source ? known : this.findAgain(known, text, source)
  }

  /** A token that the caller has found genuine by other means, if it is known and fresh. */
  recall(digest: string, source: KeySource): CheckedToken | null {
    const known = this.known.get(digest)
    return known !== undefined && known.source === source && this.isFresh(known) ? known : null
  }

  /** `length`: of the token's text. */
  remember(token: CheckedToken, length: number, source: KeySource, binding: unknown): CheckedToken {
    token.source = source
    token.binding = binding
    this.known.set(token.digest, token, TOKEN_OVERHEAD_BYTES + 2 * length)
    return token
  }

  /** Whether the token, its id or its subject is revoked at this time. One atomic load, unless something was revoked since. */
  isRevoked(token: CheckedToken, nowS: number): boolean {
    const version = this.revocations.version()
    if (token.clearVersion === version) return false
    if (version !== 0) {
      token.revocationDigests ??= digestsOf(token)
      for (const digest of token.revocationDigests) if (this.revocations.has(digest, nowS)) return true
    }
    token.clearVersion = version
    return false
  }

  /** A new configuration: what the old one found must not hold its memory. Signatures stay verified. */
  forgetBindings(): void {
    this.known.forEach((token) => {
      // What stands for an issuer's word lives as long as the worker.
      if (token.key !== null) token.source = null
      token.binding = null
      token.view = null
      token.viewOwner = null
    })
  }

  private isFresh(token: CheckedToken): boolean {
    return token.freshUntilMs > this.nowMs() && (token.key === null || token.key.isCurrent)
  }

  /** The same token for another route or configuration: who knows its key there? */
  private findAgain(known: CheckedToken, text: string, source: KeySource): TokenOutcome | Promise<TokenOutcome> {
    // What an issuer said about an opaque token is another one's word there.
    if (known.key === null) return this.read(text, known.digest, source)
    const match = source.find(known.header, known.claims)
    if (match instanceof Promise) return match.then((found) => this.bindAgain(known, text, source, found))
    return this.bindAgain(known, text, source, match)
  }

  private bindAgain(
    known: CheckedToken,
    text: string,
    source: KeySource,
    match: KeyMatch | TokenProblem,
  ): TokenOutcome | Promise<TokenOutcome> {
    if (match instanceof TokenProblem) return match
    if (known.key?.identity !== match.key.identity) return this.read(text, known.digest, source)
    known.source = source
    known.binding = match.binding
    known.viewOwner = null
    return known
  }

  /** As `read`, unless bad tokens have cost enough for the moment; what comes of it is charged to the client. */
  private readUnknown(text: string, digest: string, source: KeySource, from: string): TokenOutcome | Promise<TokenOutcome> {
    if (!this.budget.admits(from)) return tooManyBad
    const outcome = this.read(text, digest, source)
    return outcome instanceof Promise ? outcome.then((found) => this.charged(found, from)) : this.charged(outcome, from)
  }

  /** A token that was genuine once; if it is not any more, it is like any other from now on. */
  private readAgain(text: string, digest: string, source: KeySource): TokenOutcome | Promise<TokenOutcome> {
    const outcome = this.read(text, digest, source)
    return outcome instanceof Promise ? outcome.then((found) => this.unlessBad(found, digest)) : this.unlessBad(outcome, digest)
  }

  private unlessBad(outcome: TokenOutcome, digest: string): TokenOutcome {
    if (outcome instanceof TokenProblem && !isPassing(outcome)) this.known.delete(digest)
    return outcome
  }

  private charged(outcome: TokenOutcome, from: string): TokenOutcome {
    if (outcome instanceof TokenProblem && !isPassing(outcome)) this.budget.charge(from)
    return outcome
  }

  private read(text: string, digest: string, source: KeySource): TokenOutcome | Promise<TokenOutcome> {
    const token = readToken(text)
    if (typeof token === 'string') return new TokenProblem('malformed', token)
    const match = source.find(token.header, token.claims)
    return match instanceof Promise
      ? match.then((found) => this.verify(text, digest, token, source, found))
      : this.verify(text, digest, token, source, match)
  }

  private verify(
    text: string,
    digest: string,
    token: UnverifiedToken,
    source: KeySource,
    match: KeyMatch | TokenProblem,
  ): TokenOutcome | Promise<TokenOutcome> {
    if (match instanceof TokenProblem) return match
    const { key } = match
    if (token.header['alg'] !== key.algorithm) return wrongAlgorithm
    const failure = digest + key.identity
    if ((this.failed.get(failure) ?? 0) > this.nowMs()) return wrongSignature
    const conclude = (isValid: boolean): TokenOutcome => {
      if (isValid) return this.accept(text, digest, token, source, match)
      this.failed.set(failure, this.nowMs() + FAILED_MS)
      return wrongSignature
    }
    this.verifications++
    if (!key.isSlow) return conclude(key.verify(token.input, token.signature))
    if (this.waiting.length >= ELSEWHERE_WAITING_MAX) return overload
    return this.verifyElsewhere(key, token).then(conclude)
  }

  private accept(text: string, digest: string, token: UnverifiedToken, source: KeySource, match: KeyMatch): CheckedToken {
    const { header, claims } = token
    const checked = new CheckedToken(digest, revocationDigest('token', text), header, claims, match.key, this.nowMs() + FRESH_MS)
    return this.remember(checked, text.length, source, match.binding)
  }

  private async verifyElsewhere(key: TokenKey, token: UnverifiedToken): Promise<boolean> {
    if (this.elsewhere >= ELSEWHERE_MAX) await new Promise<void>((resolve) => this.waiting.push(resolve))
    else this.elsewhere++
    const isValid = await key.verifyElsewhere(token.input, token.signature)
    // The place goes to who waits longest, or is given back.
    const next = this.waiting.shift()
    if (next === undefined) this.elsewhere--
    else next()
    return isValid
  }
}

/** Not the fault of the token. */
function isPassing({ reason }: TokenProblem): boolean {
  return reason === 'unavailable' || reason === 'overload'
}

function digestsOf(token: CheckedToken): readonly string[] {
  const digests = [token.revocationDigest]
  for (const kind of ['jti', 'sub'] as const) {
    const value = Object.hasOwn(token.claims, kind) ? token.claims[kind] : undefined
    if (typeof value === 'string' || typeof value === 'number') digests.push(revocationDigest(kind, String(value)))
  }
  return digests
}
