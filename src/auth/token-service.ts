/**
 * Checks tokens for one worker, and remembers those that are genuine.
 *
 *   token ─ known, fresh, same source ──────────────────────────────► CheckedToken (nothing is allocated)
 *     └─ read → source finds the key → algorithm → [known to be bad] → signature → remembered ─► CheckedToken, or TokenProblem
 *
 * A token is known by its whole text; the index is its last 128 bits, which for a signed token are a part of its signature. So a
 * hit needs no digest over the whole text (0.7 µs against 0.15 µs), and two texts are never taken for one another. A remembered
 * token counts for the key that verified it and no other, for at most FRESH_MS and only while that key is current. What failed is
 * remembered by digest for FAILED_MS. Everything is bounded; a token that is too large to remember is verified every time.
 */
import { createHash } from 'node:crypto'
import { recentMs } from '../base/clock.js'
import { S3Fifo } from '../base/s3-fifo.js'
import { type RevocationReader, revocationDigest } from '../shared/revocations.js'
import { CheckedToken } from './checked-token.js'
import { readToken, type UnverifiedToken } from './jws.js'
import { type KeyMatch, type KeySource, TokenProblem } from './key-source.js'
import type { TokenKey } from './token-key.js'

export const FRESH_MS = 60_000
const FAILED_MS = 1_000
const FAILED_MAX = 4_096
/** Estimated bytes of all remembered tokens of a worker: about 30,000 of usual size. */
const CACHE_BYTES_DEFAULT = 64 * 1024 * 1024
/** Objects around a token, and its claims as objects. */
const TOKEN_OVERHEAD_BYTES = 600
const INDEX_CHARACTERS = 22
/** Slow verifications at a time: what is tried for bad tokens must not take all cores. */
const ELSEWHERE_MAX = 2
/** More are turned away. */
const ELSEWHERE_WAITING_MAX = 1_024

export type TokenOutcome = CheckedToken | TokenProblem

const wrongAlgorithm = new TokenProblem('algorithm')
const wrongSignature = new TokenProblem('signature')
const overload = new TokenProblem('overload', 'too many tokens wait to be verified')

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
  private readonly revocations: RevocationReader
  private readonly nowMs: () => number
  private elsewhere = 0
  private readonly waiting: (() => void)[] = []
  /** Signatures that were checked; for tests and measurements. */
  verifications = 0

  constructor(options: TokenServiceOptions) {
    this.revocations = options.revocations
    this.nowMs = options.nowMs ?? recentMs
    this.known = new S3Fifo(options.cacheBytes ?? CACHE_BYTES_DEFAULT)
  }

  /** Tokens that are remembered. */
  get size(): number {
    return this.known.size
  }

  /** The token as genuine, or why it is not. At once when it is known or its key is quick; never rejects. */
  check(text: string, source: KeySource): TokenOutcome | Promise<TokenOutcome> {
    const known = this.known.get(indexOf(text))
    if (known === undefined || known.text !== text || !this.isFresh(known)) return this.read(text, source)
    return known.source === source ? known : this.findAgain(known, source)
  }

  /** A token that the caller has found genuine by other means, if it is known and fresh. */
  recall(text: string, source: KeySource): CheckedToken | null {
    const known = this.known.get(indexOf(text))
    return known !== undefined && known.text === text && known.source === source && this.isFresh(known) ? known : null
  }

  remember(token: CheckedToken, source: KeySource, binding: unknown): CheckedToken {
    token.source = source
    token.binding = binding
    this.known.set(indexOf(token.text), token, TOKEN_OVERHEAD_BYTES + 3 * token.text.length)
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
  private findAgain(known: CheckedToken, source: KeySource): TokenOutcome | Promise<TokenOutcome> {
    // What an issuer said about an opaque token is another one's word there.
    if (known.key === null) return this.read(known.text, source)
    const match = source.find(known.header, known.claims)
    return match instanceof Promise ? match.then((found) => this.bindAgain(known, source, found)) : this.bindAgain(known, source, match)
  }

  private bindAgain(known: CheckedToken, source: KeySource, match: KeyMatch | TokenProblem): TokenOutcome | Promise<TokenOutcome> {
    if (match instanceof TokenProblem) return match
    if (known.key?.identity !== match.key.identity) return this.read(known.text, source)
    known.source = source
    known.binding = match.binding
    known.viewOwner = null
    return known
  }

  private read(text: string, source: KeySource): TokenOutcome | Promise<TokenOutcome> {
    const token = readToken(text)
    if (typeof token === 'string') return new TokenProblem('malformed', token)
    const match = source.find(token.header, token.claims)
    return match instanceof Promise
      ? match.then((found) => this.verify(text, token, source, found))
      : this.verify(text, token, source, match)
  }

  private verify(
    text: string,
    token: UnverifiedToken,
    source: KeySource,
    match: KeyMatch | TokenProblem,
  ): TokenOutcome | Promise<TokenOutcome> {
    if (match instanceof TokenProblem) return match
    const { key } = match
    if (token.header['alg'] !== key.algorithm) return wrongAlgorithm
    const failure = createHash('sha256').update(key.identity).update(text, 'latin1').digest('base64url')
    if ((this.failed.get(failure) ?? 0) > this.nowMs()) return wrongSignature
    const conclude = (isValid: boolean): TokenOutcome => {
      if (isValid) return this.accept(text, token, source, match)
      this.failed.set(failure, this.nowMs() + FAILED_MS)
      return wrongSignature
    }
    this.verifications++
    if (!key.isSlow) return conclude(key.verify(token.input, token.signature))
    if (this.waiting.length >= ELSEWHERE_WAITING_MAX) return overload
    return this.verifyElsewhere(key, token).then(conclude)
  }

  private accept(text: string, token: UnverifiedToken, source: KeySource, match: KeyMatch): CheckedToken {
    // The text may be a part of a larger string, which would be kept alive as a whole.
    const own = Buffer.from(text, 'latin1').toString('latin1')
    const checked = new CheckedToken(own, token.header, token.claims, match.key, this.nowMs() + FRESH_MS)
    return this.remember(checked, source, match.binding)
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

function indexOf(text: string): string {
  return text.slice(-INDEX_CHARACTERS)
}

function digestsOf(token: CheckedToken): readonly string[] {
  const digests = [revocationDigest('token', token.text)]
  for (const kind of ['jti', 'sub'] as const) {
    const value = Object.hasOwn(token.claims, kind) ? token.claims[kind] : undefined
    if (typeof value === 'string' || typeof value === 'number') digests.push(revocationDigest(kind, String(value)))
  }
  return digests
}
