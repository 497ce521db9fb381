/** One racing thread: says that it is ready, waits at the gate, does its job on shared memory, reports, ends. */
import { parentPort, workerData } from 'node:worker_threads'
import { ConcurrencyCells, Held } from '../../src/shared/concurrency-cells.js'
import { WorkerSlot } from '../../src/shared/epochs.js'
import { HealthEvent } from '../../src/shared/health-state.js'
import { type SeriesDeclared, WorkerMetrics } from '../../src/shared/metrics-slab.js'
import { NodeCells, NodeStatus, Outcome } from '../../src/shared/node-cells.js'
import { NodeHealth } from '../../src/shared/node-health.js'
import { Rotors } from '../../src/shared/rotors.js'
import { UpstreamCells } from '../../src/shared/upstream-cells.js'
import { type RacerJob, type RacerReport, type RacerStart, ROUND_AMOUNT } from './jobs.js'

const port = parentPort
if (port === null) throw new Error('this module runs as a worker thread')
const report = (message: RacerReport): void => port.postMessage(message)

function drawNumbers(start: RacerStart, slot: number, picks: number): void {
  const rotors = new Rotors(start.regions.rotors)
  const numbers = new Float64Array(picks)
  for (let index = 0; index < picks; index++) numbers[index] = rotors.next(slot)
  report({ type: 'drawn', numbers })
}

function acknowledgeEpochs(start: RacerStart): void {
  const slot = new WorkerSlot(start.regions.epochs, start.index)
  slot.setState('serving')
  port?.on('message', (epoch: number) => {
    if (epoch > 0) slot.acknowledge(epoch)
    else port?.close()
  })
}

function recordRounds(start: RacerStart, rounds: number): void {
  const slab = start.regions.metrics[start.index]
  if (slab === undefined) throw new Error(`no slab ${start.index}`)
  const declare: SeriesDeclared = (slot, labels) => report({ type: 'series', slot, labels })
  const metrics = new WorkerMetrics(slab, declare)
  const counter = metrics.counter('upstream_retries')
  const series = [0, 1, 2].map((index) =>
    metrics.routeSeries({ route: `r${index}`, matchedUri: '', matchedHost: '', service: '', consumer: '', node: '' }),
  )
  for (let round = 0; round < rounds; round++) {
    metrics.requestStarted()
    series[round % 3]?.record(200 + (round % 2), 1, round % 7, 1, 1, 2)
    counter.add(ROUND_AMOUNT)
    metrics.requestEnded(round % 7)
  }
  report({ type: 'done' })
}

function tryNode(start: RacerStart, { slot, rounds, left }: RacerJob & { kind: 'tries' }): void {
  const cells = new NodeCells(start.regions.nodes, start.regions.metrics.length, start.index)
  for (let round = 0; round < rounds; round++) {
    cells.begin(slot)
    // One latency in all of these is the peak; none of the others may take its place.
    cells.observe(slot, round === rounds >> 1 ? 1000 + start.index : 1, 5000, 1e12)
    cells.end(slot, round % 2 === 0 ? Outcome.Success : Outcome.GatewayError)
  }
  for (let count = 0; count < left; count++) cells.begin(slot)
  report({ type: 'done' })
}

function takePlaces(start: RacerStart, { slot, limit, rounds, left }: Extract<RacerJob, { kind: 'places' }>): void {
  const cells = new ConcurrencyCells(start.regions.concurrency, start.regions.metrics.length, start.index)
  let most = 0
  let taken = 0
  for (let round = 0; round < rounds; round++) {
    if (!cells.take(slot, Held.Place, limit)) continue
    taken++
    most = Math.max(most, cells.count(slot, Held.Place))
    cells.give(slot, Held.Place)
  }
  for (let count = 0; count < left; count++) while (!cells.take(slot, Held.Place, limit));
  report({ type: 'drawn', numbers: Float64Array.of(most, taken) })
}

function takeRetries(start: RacerStart, slot: number, requests: number): void {
  const cells = new UpstreamCells(start.regions.upstreams)
  let taken = 0
  for (let request = 0; request < requests; request++) {
    cells.addRequests(slot, 1, 5_000_000, 5_000_000)
    cells.deposit(slot, 1900, 1_000_000_000)
    if (cells.takeRetry(slot, 1900, 0, 5_000_000)) taken++
  }
  report({ type: 'drawn', numbers: Float64Array.of(taken) })
}

const start = workerData as RacerStart
function judgeNodes(start: RacerStart, { nodes, rounds }: Extract<RacerJob, { kind: 'judge' }>): void {
  const { regions } = start
  const health = new NodeHealth(regions.nodes, new NodeCells(regions.nodes, regions.metrics.length, start.index))
  const rules = { slot: nodes + 1, baseEjectionMs: 1, maxEjectionMs: 1, maxEjectionPercent: 20 }
  for (let round = 0; round < rounds; round++) {
    const slot = 1 + ((round * 7 + start.index * 3) % nodes)
    health.eject(slot, nodes, rules, round + 1)
    health.observe(
      slot,
      (round + start.index) % 2 === 0 ? HealthEvent.Success : HealthEvent.TcpFailure,
      1,
      NodeStatus.PassiveDown,
      round + 1,
    )
  }
  report({ type: 'done' })
}

report({ type: 'ready' })
Atomics.wait(new Int32Array(start.gate), 0, 0)
if (start.job.kind === 'rotor') drawNumbers(start, start.job.slot, start.job.picks)
else if (start.job.kind === 'tries') tryNode(start, start.job)
else if (start.job.kind === 'judge') judgeNodes(start, start.job)
else if (start.job.kind === 'places') takePlaces(start, start.job)
else if (start.job.kind === 'budget') takeRetries(start, start.job.slot, start.job.requests)
else if (start.job.kind === 'epochs') acknowledgeEpochs(start)
else recordRounds(start, start.job.rounds)
