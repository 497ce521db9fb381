/** One thread that hammers circuit breakers in shared memory: says that it is ready, waits at the gate, plays its part, reports, ends. */
import { parentPort, workerData } from 'node:worker_threads'
import { type BreakerSettings, Outcome, REFUSED } from '../../src/breakers/contract.js'
import { BreakerCells } from '../../src/shared/breaker-cells.js'
import { PathBreakerTable } from '../../src/shared/path-breakers.js'

export interface BreakerThreadStart {
  readonly member: number
  readonly region: SharedArrayBuffer
  readonly pathRegion: SharedArrayBuffer
  /** int32[0]: 0 = wait, else the round that is run; -1 = end. */
  readonly gate: SharedArrayBuffer
  /** int32[round]: what all threads together counted in this round. */
  readonly counts: SharedArrayBuffer
  readonly settings: BreakerSettings
  readonly job: 'probes' | 'failures' | 'life' | 'paths'
  readonly tries: number
}

const port = parentPort
if (port === null) throw new Error('this module runs as a worker thread')
const start = workerData as BreakerThreadStart
const gate = new Int32Array(start.gate)
const counts = new Int32Array(start.counts)
let transitions = 0
const cells = new BreakerCells(start.region, () => transitions++)
const paths = new PathBreakerTable(start.pathRegion, start.member)
const { settings } = start

/** Asks for probes and keeps those it gets. */
function takeProbes(round: number): void {
  const slot = cells.slotOf(`probes ${round}`)
  for (let index = 0; index < start.tries; index++) if (cells.admit(slot, settings, 10_000) !== REFUSED) Atomics.add(counts, round, 1)
}

/** Reports failures; counts the transitions that it made. */
function fail(round: number): void {
  const slot = cells.slotOf(`failures ${round}`)
  transitions = 0
  for (let index = 0; index < start.tries; index++) cells.record(slot, settings, Outcome.failed, 10_000, 0)
  Atomics.add(counts, round, transitions)
}

/** Probes come and go: never more at a time than there are permits. `counts[1]`: at a time now; `counts[2]`: too many. */
function live(): void {
  const slot = cells.slotOf('life')
  for (let index = 0; index < start.tries; index++) {
    const ticket = cells.admit(slot, settings, 10_000)
    if (ticket <= 0) continue
    if (Atomics.add(counts, 1, 1) + 1 > settings.permits) Atomics.add(counts, 2, 1)
    Atomics.add(counts, 3, 1)
    Atomics.sub(counts, 1, 1)
    cells.settle(slot, settings, ticket, Outcome.none, 10_000)
  }
}

/** Counts failures of one path among others that are entered at the same time; `counts[1]`: breaks begun. */
function failPaths(): void {
  const conf = { failures: 10, successes: 1000, maxBreakerSec: 300 }
  for (let index = 0; index < start.tries; index++) {
    if (paths.failed('a.test', '/one', conf, 10_000) > 0) Atomics.add(counts, 1, 1)
    paths.failed('a.test', `/${index}`, conf, 10_000)
  }
}

port.postMessage('ready')
for (let round = 0; ; ) {
  // Who begins before the notification is sent may be done when it comes, and is then woken for the round it has played.
  while (Atomics.load(gate, 0) === round) Atomics.wait(gate, 0, round)
  round = Atomics.load(gate, 0)
  if (round < 0) break
  if (start.job === 'probes') takeProbes(round)
  else if (start.job === 'failures') fail(round)
  else if (start.job === 'life') live()
  else failPaths()
  port.postMessage('done')
}
