/** Starts a gateway and an upstream on free loopback ports for one bench. */
import { BenchProcesses } from './processes.js'
import { type SuiteTargets, selfStartDocument } from './suites.js'

export interface SelfStarted {
  readonly origin: string
  readonly targets: SuiteTargets
  /** The ready line of the gateway: what is being measured. */
  readonly readyLine: string
  close(): Promise<void>
}

/**
 * @param workers worker threads of the gateway; 0 = its default, the cores available.
 * @throws UsageError (exit code 1) when the gateway or the upstream does not come up; the message carries the end of its log.
 */
export async function selfStart(workers: number): Promise<SelfStarted> {
  const processes = await BenchProcesses.open()
  try {
    const { document, targets } = selfStartDocument(await processes.startUpstream(1))
    const { origin, readyLine } = await processes.startGateway(document, workers)
    return { origin, targets, readyLine, close: () => processes.close() }
  } catch (error) {
    await processes.close()
    throw error
  }
}
