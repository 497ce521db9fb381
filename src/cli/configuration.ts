/** The configuration of this process, as often as it is asked for: file, environment and flags in; checked and compiled out. */
import { checkConfiguration } from '../controlplane/check.js'
import type { CompiledConsumers } from '../controlplane/compile-consumers.js'
import { formatIssue } from '../controlplane/load-issue.js'
import type { DeclaredLimiter } from '../limits/declared.js'
import type { CompiledConfig } from '../schema/compiled.js'
import type { ProcessConfig } from '../schema/process.js'
import { applyFlags, type StartFlags } from './flags.js'

export interface PreparedConfiguration {
  /** Flags laid over the file. */
  readonly process: ProcessConfig
  readonly compiled: CompiledConfig
  readonly consumers: CompiledConsumers
  readonly limiters: readonly DeclaredLimiter[]
  /** One line each. */
  readonly warnings: readonly string[]
}

export type PrepareResult =
  | { readonly ok: true; readonly prepared: PreparedConfiguration }
  | { readonly ok: false; readonly errors: readonly string[]; readonly warnings: readonly string[] }

export class ConfigurationSource {
  constructor(
    private readonly flags: StartFlags,
    /** What `${{NAME}}` in the file is replaced from. */
    private readonly environment: NodeJS.ProcessEnv,
    /** See shared/rotors: the same key keeps its slot over reloads. */
    private readonly rotorSlot: (key: string) => number,
  ) {}

  /** Reads the file anew. The check is the one that `sluice check` makes. */
  async prepare(): Promise<PrepareResult> {
    const adminKey = this.environment['SLUICE_ADMIN_KEY']
    const result = await checkConfiguration(this.flags.file, this.environment, {
      rotorSlot: this.rotorSlot,
      adjust: (config) => applyFlags(config, this.flags, adminKey),
    })
    const warnings = result.warnings.map(formatIssue)
    if (!result.ok) return { ok: false, errors: result.errors.map(formatIssue), warnings }
    const { process, compiled, consumers, limiters } = result
    return { ok: true, prepared: { process, compiled, consumers, limiters, warnings } }
  }
}
