/**
 * Reloading: one at a time, whole or not at all.
 *
 * A request during a reload runs one more after it, however many requests came: the file may have changed after it was read.
 */
import type { ProcessConfig } from '../schema/process.js'

export interface ReloadState {
  /** Why the last reload changed nothing; null when it succeeded, or none was tried. */
  readonly lastError: string | null
  /** Epoch that serves. */
  readonly lastSuccessEpoch: number
  /** Wall clock of the last try (or of the start), milliseconds since 1970. */
  readonly at: number
  /** Reloads refused since the start. */
  readonly failures: number
}

export type ReloadOutcome = { readonly ok: true; readonly epoch: number } | { readonly ok: false; readonly errors: readonly string[] }

export interface ReloaderOptions {
  /** Loads, checks, compiles and publishes; must change nothing unless all of it is right. */
  readonly run: () => Promise<ReloadOutcome>
  readonly clock: { wallMs(): number }
  /** Epoch of the configuration that the gateway started with. */
  readonly startEpoch: number
}

export class Reloader {
  private current: Promise<ReloadOutcome> | null = null
  private following: Promise<ReloadOutcome> | null = null
  private latest: ReloadState

  constructor(private readonly options: ReloaderOptions) {
    this.latest = { lastError: null, lastSuccessEpoch: options.startEpoch, at: options.clock.wallMs(), failures: 0 }
  }

  get state(): ReloadState {
    return this.latest
  }

  /** Resolves with the outcome of a reload that began after this call. Never rejects. */
  request(): Promise<ReloadOutcome> {
    if (this.following !== null) return this.following
    if (this.current === null) return this.begin()
    this.following = this.current.then(() => {
      this.following = null
      return this.begin()
    })
    return this.following
  }

  private begin(): Promise<ReloadOutcome> {
    const running = this.attempt().finally(() => {
      this.current = null
    })
    this.current = running
    return running
  }

  private async attempt(): Promise<ReloadOutcome> {
    let outcome: ReloadOutcome
    try {
      outcome = await this.options.run()
    } catch (error) {
      outcome = { ok: false, errors: [error instanceof Error ? error.message : String(error)] }
    }
    const at = this.options.clock.wallMs()
    this.latest = outcome.ok
      ? { ...this.latest, lastError: null, lastSuccessEpoch: outcome.epoch, at }
      : { ...this.latest, lastError: outcome.errors.join('\n'), at, failures: this.latest.failures + 1 }
    return outcome
  }
}

/** Sections of the file whose change takes effect at the next start only, by the name they have in the file. */
const fixedAtStart: readonly (readonly [keyof ProcessConfig, string])[] = [
  ['workers', 'workers'],
  ['accept', 'accept'],
  ['listeners', 'listeners'],
  ['admin', 'admin'],
  ['metrics', 'metrics'],
  ['latencyBoundsMs', 'plugin_attr.prometheus.default_buckets'],
  ['limits', 'limits'],
  ['log', 'log'],
  ['plugins', 'plugins'],
  ['realIp', 'real_ip'],
  ['dns', 'dns'],
  ['trustIdentityHeaders', 'trust_identity_headers'],
  ['pidFile', 'pid_file'],
  ['rateLimitTable', 'rate_limit_table'],
  ['store', 'store'],
  ['breakers', 'breakers'],
  ['overload', 'overload'],
]

/** What changed between two process configurations but needs a restart. Router options and the drain timeout do not. */
export function needsRestart(running: ProcessConfig, next: ProcessConfig): string[] {
  return fixedAtStart.filter(([key]) => JSON.stringify(fixed(running, key)) !== JSON.stringify(fixed(next, key))).map(([, name]) => name)
}

/** Certificates by server name are looked at apart (cli/primary-certificates), but for the one that stands in for a default. */
function fixed(config: ProcessConfig, key: keyof ProcessConfig): unknown {
  if (key !== 'listeners') return config[key]
  return config.listeners.map(({ tls, ...listener }) => ({
    ...listener,
    tls: tls && { certFile: tls.certFile, keyFile: tls.keyFile, standard: tls.certFile === '' ? tls.byServerName[0]?.cert : '' },
  }))
}
