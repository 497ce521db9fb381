/** One thread that hammers limits in shared memory: says that it is ready, waits at the gate, decides, reports, ends. */
import { parentPort, workerData } from 'node:worker_threads'
import type { Decision, LimiterSpec } from '../../src/limits/contract.js'
import { LocalLimiterStore } from '../../src/shared/limiter-store.js'

export interface LimiterThreadStart {
  readonly member: number
  readonly region: SharedArrayBuffer
  /** int32[0]: 0 = wait, 1 = go, 2 = stop. */
  readonly gate: SharedArrayBuffer
  readonly spec: LimiterSpec
  /** Decided together with `spec`; every thread names them in another order. */
  readonly others: readonly LimiterSpec[]
  /** Keys of one request, per round: one per rule. */
  readonly rounds: readonly (readonly string[])[]
  /** Clients that this thread serves in turn, and requests of each per round. */
  readonly clients: number
  readonly requests: number
  /** The time that all threads are given; 0 = the real one. */
  readonly nowMs: number
  /** Admitted requests by round, counted right behind the decision. Admitted ones are released at once if `release`. */
  readonly admitted: SharedArrayBuffer
  readonly release: boolean
  /** Goes through the rounds again and again until told to stop. */
  readonly endless: boolean
}

const port = parentPort
if (port === null) throw new Error('this module runs as a worker thread')
const start = workerData as LimiterThreadStart
const store = new LocalLimiterStore(start.region, start.member, start.nowMs === 0 ? () => Date.now() : () => start.nowMs)
const limiter = store.bind(start.spec)
const decisions = Array.from({ length: start.clients }, () => limiter.decision())
const admitted = new Int32Array(start.admitted)
const gate = new Int32Array(start.gate)

const others = start.others.map((spec) => store.bind(spec))

/** The limiters of one request in the order of this thread. */
function decideTogether(keys: readonly string[], out: Decision): void {
  const asks = [{ limiter, keys, cost: 1, overrides: undefined, out }]
  for (const other of others) asks.push({ limiter: other, keys, cost: 1, overrides: undefined, out: other.decision() })
  const turn = start.member % asks.length
  const turned = [...asks.slice(turn), ...asks.slice(0, turn)]
  limiter.joint?.decide(turned, false)
  out.allowed = asks.every((ask) => ask.out.allowed)
}

function decideRound(keys: readonly string[], round: number): void {
  for (let request = 0; request < start.requests; request++) {
    for (const out of decisions) {
      if (others.length === 0) limiter.check(keys, 1, out)
      else decideTogether(keys, out)
      if (!out.allowed) continue
      Atomics.add(admitted, round, 1)
      if (start.release) limiter.release(out.hold)
    }
  }
}

port.postMessage('ready')
Atomics.wait(gate, 0, 0)
do {
  for (const [round, keys] of start.rounds.entries()) decideRound(keys, round)
} while (start.endless && Atomics.load(gate, 0) === 1)
port.postMessage('done')
