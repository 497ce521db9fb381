/**
 * Opaque tokens: asks their issuer about them (RFC 7662), for one worker.
 *
 * An answer counts for `cacheMs` at most, never beyond the token's `exp`; that a token is not active is believed for a second. One
 * question per token at a time, at most WAITING_MAX questions under way, each with a deadline. Whether a token is valid at this moment is
 * asked at every request, as for signed ones.
 */
import { recentMs, wallMs } from '../base/clock.js'
import { S3Fifo } from '../base/s3-fifo.js'
import { revocationDigest } from '../shared/revocations.js'
import { CheckedToken } from './checked-token.js'
import { JsonClient } from './fetch-json.js'
import { TOKEN_BYTES_MAX, type TokenJson } from './jws.js'
import { type KeySource, TokenProblem } from './key-source.js'
import { tokenDigest } from './token-digest.js'
import type { TokenOutcome, TokenService } from './token-service.js'

const WAITING_MAX = 128
const INACTIVE_MS = 1_000
const INACTIVE_MAX = 4_096
const ANSWER_BYTES_MAX = 64 * 1024
const INTROSPECTORS_MAX = 256

/** Plain data, the same in all threads. */
export interface IntrospectionSpec {
  readonly url: string
  readonly clientId: string
  readonly clientSecret: string
  /** How the gateway proves who it is (RFC 6749 §2.3.1). */
  readonly clientAuth: 'client_secret_basic' | 'client_secret_post'
  readonly verifyTls: boolean
  readonly timeoutMs: number
  readonly cacheMs: number
  /** The `iss` that an answer must have, if it has one; empty = any. */
  readonly issuer: string
}

const tooLong = new TokenProblem('malformed', `longer than ${TOKEN_BYTES_MAX} bytes`)
const inactive = new TokenProblem('inactive', 'the issuer does not know the token as active')
const overload = new TokenProblem('overload', 'too many tokens wait for their issuer')
const unavailable = new TokenProblem('unavailable', 'the issuer could not be asked about the token')

export class Introspector implements KeySource {
  private readonly asked = new Map<string, Promise<TokenOutcome>>()
  /** Digest of a token to the time until which it counts as not active. */
  private readonly inactive = new S3Fifo<number>(INACTIVE_MAX)
  private isTroubled = false

  constructor(
    private readonly spec: IntrospectionSpec,
    private readonly tokens: TokenService,
    private readonly client: Pick<JsonClient, 'fetch'>,
    private readonly log: (level: 'info' | 'warn', message: string) => void,
  ) {}

  /** An opaque token has no key. */
  find(): TokenProblem {
    return inactive
  }

  /** The token as active, or why not. At once when that is known; never rejects. */
  check(text: string): TokenOutcome | Promise<TokenOutcome> {
    if (text.length > TOKEN_BYTES_MAX) return tooLong
    const digest = tokenDigest(text)
    const known = this.tokens.recall(digest, this)
    if (known !== null) return known
    if ((this.inactive.get(digest) ?? 0) > recentMs()) return inactive
    const asked = this.asked.get(digest)
    if (asked !== undefined) return asked
    if (this.asked.size >= WAITING_MAX) return overload
    const asking = this.ask(text, digest).finally(() => this.asked.delete(digest))
    this.asked.set(digest, asking)
    return asking
  }

  private async ask(text: string, digest: string): Promise<TokenOutcome> {
    let answer: unknown
    try {
      answer = await this.client.fetch({
        url: this.spec.url,
        method: 'POST',
        timeoutMs: this.spec.timeoutMs,
        bytesMax: ANSWER_BYTES_MAX,
        ...this.question(text),
      })
    } catch (error) {
      this.report(error instanceof Error ? error.message : String(error))
      return unavailable
    }
    if (typeof answer !== 'object' || answer === null || !('active' in answer) || typeof answer.active !== 'boolean') {
      this.report('its answer does not say whether the token is active')
      return unavailable
    }
    this.report('')
    const claims = { ...answer } as TokenJson
    const { issuer, cacheMs } = this.spec
    const isElsewhere = issuer !== '' && claims['iss'] !== undefined && claims['iss'] !== issuer
    if (!answer.active || isElsewhere) {
      this.inactive.set(digest, recentMs() + INACTIVE_MS)
      return inactive
    }
    const exp = claims['exp']
    const livesMs = typeof exp === 'number' ? Math.max(0, exp * 1000 - wallMs()) : cacheMs
    const freshUntilMs = recentMs() + Math.min(cacheMs, livesMs)
    const token = new CheckedToken(digest, revocationDigest('token', text), {}, claims, null, freshUntilMs)
    return this.tokens.remember(token, text.length, this, null)
  }

  private question(text: string): { readonly headers: { readonly [name: string]: string }; readonly body: string } {
    const { clientId, clientSecret, clientAuth } = this.spec
    const form = new URLSearchParams({ token: text, token_type_hint: 'access_token' })
    const headers: { [name: string]: string } = { 'content-type': 'application/x-www-form-urlencoded' }
    if (clientAuth === 'client_secret_basic') {
      // RFC 6749 §2.3.1: both parts are form-encoded before they are joined.
      const pair = `${encodeForm(clientId)}:${encodeForm(clientSecret)}`
      headers['authorization'] = `Basic ${Buffer.from(pair, 'utf8').toString('base64')}`
    } else {
      form.set('client_id', clientId)
      form.set('client_secret', clientSecret)
    }
    return { headers, body: form.toString() }
  }

  /** Says once when trouble begins and once when it ends. */
  private report(problem: string): void {
    const isTroubled = problem !== ''
    if (isTroubled === this.isTroubled) return
    this.isTroubled = isTroubled
    if (isTroubled) this.log('warn', `introspection at ${this.spec.url} failed: ${problem}`)
    else this.log('info', `introspection at ${this.spec.url} works again`)
  }
}

function encodeForm(text: string): string {
  return new URLSearchParams({ v: text }).toString().slice(2)
}

/** The introspectors of one worker: one per endpoint, kept over reloads. */
export class Introspectors {
  private readonly known = new Map<string, Introspector>()
  private readonly clients = new Map<boolean, JsonClient>()

  constructor(
    private readonly tokens: TokenService,
    private readonly log: (level: 'info' | 'warn', message: string) => void,
  ) {}

  of(spec: IntrospectionSpec): Introspector {
    const { url, clientId, clientSecret, clientAuth, verifyTls, timeoutMs, cacheMs, issuer } = spec
    const id = JSON.stringify([url, clientId, clientSecret, clientAuth, verifyTls, timeoutMs, cacheMs, issuer])
    const found = this.known.get(id)
    if (found !== undefined) return found
    for (const oldest of this.known.keys()) {
      if (this.known.size < INTROSPECTORS_MAX) break
      this.known.delete(oldest)
    }
    const client = this.clients.get(verifyTls) ?? new JsonClient(verifyTls)
    this.clients.set(verifyTls, client)
    const made = new Introspector(spec, this.tokens, client, this.log)
    this.known.set(id, made)
    return made
  }

  async close(): Promise<void> {
    await Promise.all([...this.clients.values()].map((client) => client.close()))
  }
}
