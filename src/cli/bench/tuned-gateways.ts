/** Gateways with the settings of a sweep, next to a built-in upstream, measured by load generators in processes of their own. */
import { UsageError } from '../../base/errors.js'
import type { TunedSettings } from './knobs.js'
import type { LoadAnswer, LoadQuestion } from './load.js'
import { Recorder } from './measure.js'
import { Latencies } from './percentiles.js'
import type { AskedProcess, BenchProcesses, RunningGateway } from './processes.js'
import { type BenchCase, benchCases, type SuiteName, selfStartDocument } from './suites.js'
import type { Contestant, Measurer, Sample } from './sweep.js'
import { busyShare, machineTimes, processCpuSeconds } from './usage.js'

export interface TunedLoad {
  readonly suite: SuiteName
  readonly connections: number
  /** Of the client connections. */
  readonly pipelining: number
  readonly seconds: number
  /** Load before the first measurement of a gateway, which is not counted: code is compiled, connections are opened. */
  readonly warmUpSeconds: number
}

export class TunedGateways implements Measurer {
  readonly #processes: BenchProcesses
  readonly #load: TunedLoad
  readonly #upstreamPort: number
  readonly #generators: readonly AskedProcess[]
  readonly #onMeasured: () => void

  private constructor(
    processes: BenchProcesses,
    load: TunedLoad,
    upstreamPort: number,
    generators: readonly AskedProcess[],
    onMeasured: () => void,
  ) {
    this.#processes = processes
    this.#load = load
    this.#upstreamPort = upstreamPort
    this.#generators = generators
    this.#onMeasured = onMeasured
  }

  /**
   * Starts upstream and load generators, `helpers` processes of each.
   *
   * @param onMeasured called after each measurement.
   * @throws UsageError (exit code 1) when one does not come up.
   */
  static async start(processes: BenchProcesses, load: TunedLoad, helpers: number, onMeasured: () => void): Promise<TunedGateways> {
    const port = await processes.startUpstream(helpers)
    const generators = await Promise.all(Array.from({ length: Math.min(helpers, load.connections) }, () => processes.startLoad()))
    return new TunedGateways(processes, load, port, generators, onMeasured)
  }

  async open({ workers, pipelining, poolSize }: TunedSettings): Promise<Contestant> {
    const { document, targets } = selfStartDocument(this.#upstreamPort, { size: poolSize, pipelining })
    const [benchCase] = benchCases(this.#load.suite, targets)
    if (benchCase === undefined) throw new Error(`suite ${this.#load.suite} has no case`)
    const gateway = await this.#processes.startGateway(document, workers)
    const recorder = new Recorder()
    await this.#askAll(benchCase, gateway, this.#load.warmUpSeconds, recorder)
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
    const { connections, pipelining } = this.#load
    const answers = await Promise.all(
      this.#generators.map(async (generator, index) => {
        const share = Math.floor(connections / this.#generators.length) + (index < connections % this.#generators.length ? 1 : 0)
        const settings = { origin: gateway.origin, connections: share, durationSeconds, pipelining }
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
