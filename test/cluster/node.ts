/**
 * One gateway process of a test, reduced to its Redis store: reads jobs from stdin, one JSON value a line, and writes one line for each when
 * it is done.
 * It stands for a node of a fleet: it can be killed and paused, and it shares nothing with the others but Redis.
 */
import { createInterface } from 'node:readline'
import { systemClock } from '../../src/base/clock.js'
import { RedisStore } from '../../src/cluster/redis-store.js'
import type { BoundLimiter } from '../../src/limits/contract.js'
import { createLimiterRegion } from '../../src/shared/limiter-layout.js'
import { LocalLimiterStore } from '../../src/shared/limiter-store.js'
import type { NodeAnswer, NodeJob, NodeOrder, NodeReport, NodeStart } from './node-jobs.js'

const start: NodeStart = JSON.parse(process.argv[2] ?? '')
const totals: NodeReport['totals'] = { calls: 0, failed: 0, policy: 0, leased: 0, spent: 0, returned: 0, lost: 0 }
const failures: Record<string, number> = {}
const logged: string[] = []
const region = createLimiterRegion({ members: 1, cells: 10_000, logEntries: 10_000, seed: [1, 2] })
const store = new RedisStore({
  workers: 1,
  clock: systemClock,
  nodeId: start.id,
  workerId: `${start.id}/0`,
  local: new LocalLimiterStore(region, 0, () => systemClock.wallMs()),
  counters: {
    called: () => void totals.calls++,
    failed: (reason) => {
      totals.failed++
      failures[reason] = (failures[reason] ?? 0) + 1
    },
    decidedByPolicy: () => void totals.policy++,
    leased: (units) => {
      totals.leased += units
    },
    spent: (units) => {
      totals.spent += units
    },
    returned: (units) => {
      totals.returned += units
    },
    lost: (units) => {
      totals.lost += units
    },
  },
  log: (level, message) => void logged.push(`${level} ${message}`),
})
const stopped = new Set<string>()
const limiters = new Map<string, BoundLimiter>()

function limiterOf(job: Extract<NodeJob, { do: 'check' }>): BoundLimiter {
  const id = JSON.stringify(job.spec)
  const known = limiters.get(id)
  if (known !== undefined) return known
  const limiter = store.bind(job.spec)
  limiters.set(id, limiter)
  return limiter
}

/** `lanes` requests at a time; with `perSecond`, at most so many in each second, evenly. */
async function check(job: Extract<NodeJob, { do: 'check' }>): Promise<NodeReport> {
  const limiter = limiterOf(job)
  const report: NodeReport = { admitted: 0, refused: 0, bases: {}, totals, failures, logged }
  const beganMs = systemClock.nowMs()
  let begun = 0
  const lane = async (): Promise<void> => {
    const decision = limiter.decision()
    while (begun < job.requests && !stopped.has(job.untilStopped ?? '')) {
      const index = begun++
      const dueMs = job.perSecond === undefined ? 0 : beganMs + (index / job.perSecond) * 1000
      while (systemClock.nowMs() < dueMs) await new Promise((resolve) => setTimeout(resolve, dueMs - systemClock.nowMs()))
      await limiter.check(job.key, job.cost ?? 1, decision)
      report.bases[decision.basis] = (report.bases[decision.basis] ?? 0) + 1
      if (decision.allowed) report.admitted++
      else report.refused++
      if (decision.hold >= 0 && job.keepHolds !== true) limiter.release(decision.hold)
    }
  }
  await Promise.all(Array.from({ length: job.lanes ?? 8 }, lane))
  return report
}

async function run(job: NodeJob): Promise<NodeReport> {
  if (job.do === 'check') return await check(job)
  if (job.do === 'stop') stopped.add(job.name)
  else await store.close()
  return { admitted: 0, refused: 0, bases: {}, totals, failures, logged }
}

process.stdout.write('{"ready":true}\n')
for await (const line of createInterface({ input: process.stdin })) {
  const { number, job }: NodeOrder = JSON.parse(line)
  void run(job).then((report) => {
    const answer: NodeAnswer = { number, report }
    process.stdout.write(`${JSON.stringify(answer)}\n`, () => {
      if (job.do === 'close') process.exit(0)
    })
  })
}
