/**
 * An upstream that serves 100 requests per second is offered 1000. Good is a right answer within a second; clients go away then. Without a
 * limit all requests wait at the upstream, and what it answers comes too late; with `concurrency` it is kept busy with as many as it can
 * serve, and the others are refused at once.
 */
import { pause, summary } from '../lib/open-loop.mjs'
import { atLeast, finding } from '../lib/scenario-kit.mjs'

export const title = '10 × overload of an upstream'

const slots = 5
const delayMs = 50
const capacity = (slots * 1000) / delayMs
const goodMs = 1000
const phaseMs = 4000
/** The first second is not counted: queues fill, limits adapt. */
const settleMs = 1000

const limits = {
  none: {},
  fixed: { concurrency: { limit: 8, queue: 20, queue_timeout: 0.5 } },
  adaptive: { concurrency: { limit: 20, queue: 20, queue_timeout: 0.5, adaptive: { min: 4, max: 200 } } },
}

export async function run(kit) {
  const routes = []
  const nodes = {}
  for (const [name, options] of Object.entries(limits)) {
    nodes[name] = await kit.nodes(1, { delayMs, slots })
    routes.push({ id: name, uri: `/${name}`, upstream: { nodes: nodes[name].map, ...options } })
  }
  const gateway = await kit.gateway({ routes })
  const offer = async (name, rate) => {
    const load = kit.load({ rate, timeoutMs: goodMs, next: () => ({ port: gateway.port, path: `/${name}` }) })
    await pause(phaseMs)
    const records = await load.stop(goodMs + 200)
    const counted = records.filter(({ dueMs }) => dueMs >= records[0].dueMs + settleMs)
    const seconds = (records.at(-1).dueMs - records[0].dueMs - settleMs) / 1000
    const good = counted.filter(({ status, ms }) => status === 200 && ms <= goodMs)
    return { goodput: good.length / seconds, offered: counted.length / seconds, good: summary(good), all: summary(counted) }
  }
  const peak = await offer('fixed', 1.1 * capacity)
  const results = {}
  for (const name of Object.keys(limits)) results[name] = await offer(name, 10 * capacity)
  const row = (name) => {
    const { goodput, offered, good, all } = results[name]
    const times = good.requests === 0 ? '–' : `${good.p50.toFixed(0)}, ${good.p99.toFixed(0)} ms`
    return finding(
      `${name}: good answers/s of offered; p50 and p99 of the good ones; refused`,
      `${goodput.toFixed(0)} of ${offered.toFixed(0)}; ${times}; ${all.count(503)}`,
    )
  }
  return [
    finding('at 1.1 × capacity: good answers/s (the peak), p99', `${peak.goodput.toFixed(0)}, ${peak.good.p99.toFixed(0)} ms`),
    atLeast('10 ×, limit 8: goodput, of the peak', (100 * results.fixed.goodput) / peak.goodput, 90, ' %', 1),
    row('fixed'),
    atLeast('10 ×, adaptive limit: goodput, of the peak', (100 * results.adaptive.goodput) / peak.goodput, 90, ' %', 1),
    row('adaptive'),
    finding('10 ×, no limit: goodput, of the peak', `${((100 * results.none.goodput) / peak.goodput).toFixed(1)} %`),
    row('none'),
  ]
}
