/** Gateways with the settings of a sweep, measured by load generators in processes of their own. */
import { UsageError } from '../../base/errors.js'
import type { TunedSettings } from './knobs.js'
import type { LoadAnswer, LoadQuestion } from './load.js'
import { Recorder } from './measure.js'
import { Latencies } from './percentiles.js'
import type { AskedProcess, BenchProcesses, RunningGateway } from './processes.js'
import type { BenchCase, KeepalivePool } from './suites.js'
import type { Contestant, Measurer, Sample } from './sweep.js'
import { busyShare, machineTimes, processCpuSeconds } from './usage.js'

export interface TunedTarget {
  readonly benchCase: BenchCase
  /** The configuration with the settings of a candidate. */
  document(keepalive: KeepalivePool): object
}

export interface TunedLoad {
  readonly connections: number
  /** Of the client connections. */
  readonly pipelining: number
  readonly headers: Readonly<Record<string, string>>
  readonly seconds: number
  /** Load before the first measurement of a gateway, which is not counted: code is compiled, connections are opened. */
  readonly warmUpSeconds: number
}

export class TunedGateways implements Measurer {
  readonly #processes: BenchProcesses
  readonly #load: TunedLoad
  readonly #target: TunedTarget
  readonly #generators: readonly AskedProcess[]
  readonly #onMeasured: () => void
  #isFirst = true

  private constructor(
    processes: BenchProcesses,
    load: TunedLoad,
    target: TunedTarget,
    generators: readonly AskedProcess[],
    onMeasured: () => void,
  ) {
    this.#processes = processes
    this.#load = load
    this.#target = target
    this.#generators = generators
    this.#onMeasured = onMeasured
  }

  /**
   * Starts the load generators.
   *
   * @param generators how many processes; not more than there are connections.
   * @param onMeasured called after each measurement.
   * @throws UsageError (exit code 1) when one does not come up.
   */
  static async start(
    processes: BenchProcesses,
    target: TunedTarget,
    load: TunedLoad,
    generators: number,
    onMeasured: () => void,
  ): Promise<TunedGateways> {
    const count = Math.min(generators, load.connections)
    const started = await Promise.all(Array.from({ length: count }, () => processes.startLoad()))
    return new TunedGateways(processes, load, target, started, onMeasured)
  }

  /** @throws UsageError (exit code 1) when the first gateway answers otherwise than with 2xx: then there is nothing to tune. */
  async open({ workers, pipelining, poolSize }: TunedSettings): Promise<Contestant> {
    const { benchCase } = this.#target
    const gateway = await this.#processes.startGateway(this.#target.document({ size: poolSize, pipelining }), workers)
    const recorder = new Recorder()
    await this.#askAll(benchCase, gateway, this.#load.warmUpSeconds, recorder)
    if (this.#isFirst && recorder.non2xx > 0) {
      const seen = Object.entries(recorder.statuses).map(([status, count]) => `${count} × ${status}`)
      throw new UsageError(`${benchCase.method} ${benchCase.paths[0]} was answered with ${seen.join(', ')}; expected 2xx only`, 1)
    }
    this.#isFirst = false
    return {
      measure: async () => {
        const sample = await this.#sample(benchCase, gateway)
        this.#onMeasured()
        return sample
      },
      close: () => gateway.stop(),
    }
  }

  async #sample(benchCase: BenchCase, gateway: RunningGateway): Promise<Sample> {
    const recorder = new Recorder()
    const machineBefore = machineTimes()
    const cpuBefore = processCpuSeconds(gateway.pid)
    const { seconds, failures } = await this.#askAll(benchCase, gateway, this.#load.seconds, recorder)
    const cpuAfter = processCpuSeconds(gateway.pid)
    return {
      requests: recorder.requests,
      seconds,
      failed: failures + recorder.non2xx,
      cpuSeconds: cpuBefore === null || cpuAfter === null ? null : cpuAfter - cpuBefore,
      machineBusy: busyShare(machineBefore, machineTimes()),
      latencies: recorder.latencies,
    }
  }

  /** Lets all generators work at once, each with its share of the connections. */
  async #askAll(
    benchCase: BenchCase,
    gateway: RunningGateway,
    durationSeconds: number,
    recorder: Recorder,
  ): Promise<{ readonly seconds: number; readonly failures: number }> {
    const { connections, pipelining, headers } = this.#load
    const answers = await Promise.all(
      this.#generators.map(async (generator, index) => {
        const share = Math.floor(connections / this.#generators.length) + (index < connections % this.#generators.length ? 1 : 0)
        const settings = { origin: gateway.origin, connections: share, durationSeconds, pipelining, headers }
        const question: LoadQuestion = { benchCase, settings }
        return JSON.parse(await generator.ask(question)) as LoadAnswer
      }),
    )
    let failures = 0
    let seconds = 0
    for (const { run, latencies, statuses } of answers) {
      recorder.add(Latencies.decode(latencies), statuses)
      failures += run.errors + run.timeouts
      seconds = Math.max(seconds, run.seconds)
    }
    if (recorder.requests === 0) throw new UsageError(`the gateway answered nothing in ${durationSeconds} s: ${gateway.readyLine}`, 1)
    return { seconds, failures }
  }
}
