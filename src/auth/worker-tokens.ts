/** Everything about tokens that one worker has: what is genuine, keys of issuers, questions to issuers, revocations. */
import type { Clock } from '../base/clock.js'
import type { KeySetSpec } from '../schema/compiled.js'
import { RevocationReader, revocationDigest } from '../shared/revocations.js'
import type { CheckedToken } from './checked-token.js'
import type { TokenKit } from './contract.js'
import { type IntrospectionSpec, type Introspector, Introspectors } from './introspection.js'
import type { KeySetNews } from './key-set-news.js'
import { type KeySet, KeySets } from './key-sets.js'
import type { KeySource } from './key-source.js'
import { type TokenOutcome, TokenService } from './token-service.js'

export interface WorkerTokensOptions {
  /** shared/revocations. */
  readonly revocations: SharedArrayBuffer
  readonly clock: Clock
  /** Tells the primary that this set of keys is wanted anew. */
  readonly askForKeys: (id: string) => void
  readonly log: (level: 'info' | 'warn', message: string) => void
}

export class WorkerTokens implements TokenKit {
  readonly service: TokenService
  private readonly revocations: RevocationReader
  private readonly clock: Clock
  private readonly keySets: KeySets
  private readonly introspectors: Introspectors
  private shared = new WeakMap<object, Map<string, unknown>>()
  /** Version of the revocations in which nothing concerned this consumer. */
  private clearConsumers = new WeakMap<object, number>()

  constructor(options: WorkerTokensOptions) {
    this.clock = options.clock
    this.revocations = new RevocationReader(options.revocations)
    this.service = new TokenService({ revocations: this.revocations })
    this.keySets = new KeySets(options.clock, options.askForKeys)
    this.introspectors = new Introspectors(this.service, options.log)
  }

  check(text: string, source: KeySource, from: string): TokenOutcome | Promise<TokenOutcome> {
    return this.service.check(text, source, from)
  }

  isRevoked(token: CheckedToken, nowS: number): boolean {
    return this.service.isRevoked(token, nowS)
  }

  keySet(spec: KeySetSpec): KeySet {
    return this.keySets.of(spec)
  }

  introspector(spec: IntrospectionSpec): Introspector {
    return this.introspectors.of(spec)
  }

  once<Value>(owner: object, name: string, make: () => Value): Value {
    const values = this.shared.get(owner) ?? new Map<string, unknown>()
    this.shared.set(owner, values)
    if (!values.has(name)) values.set(name, make())
    return values.get(name) as Value
  }

  /** Whether all credentials of a consumer are revoked. One atomic load as long as nothing was ever revoked. */
  isConsumerRevoked(consumer: { readonly username: string }): boolean {
    const version = this.revocations.version()
    if (version === 0 || this.clearConsumers.get(consumer) === version) return false
    if (this.revocations.has(revocationDigest('consumer', consumer.username), this.clock.wallMs() / 1000)) return true
    this.clearConsumers.set(consumer, version)
    return false
  }

  learnKeys(news: KeySetNews): void {
    this.keySets.learn(news)
  }

  /** Another configuration serves from now on. */
  configurationChanged(): void {
    this.service.forgetBindings()
  }

  close(): Promise<void> {
    return this.introspectors.close()
  }
}
