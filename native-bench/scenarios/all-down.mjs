/**
 * All three nodes of an upstream refuse connections; later they come back. Clients are to get an answer at once, whatever it is, and right
 * ones as soon as the nodes are there.
 */
import { pause, summary } from '../lib/open-loop.mjs'
import { atLeast, atMost, finding } from '../lib/scenario-kit.mjs'

export const title = 'All nodes down'

const rate = 200
const phaseMs = 3000

export async function run(kit) {
  const nodes = await kit.nodes(3, { delayMs: 5 })
  const route = (id, plugins) => ({ id, uri: `/${id}`, plugins, upstream: { nodes: nodes.map } })
  const breaker = { scope: 'node', consecutive_failures: 3, open_seconds: 1, backoff: 'fixed', max_open_seconds: 1, successes: 1 }
  const gateway = await kit.gateway({ routes: [route('plain', {}), route('broken', { 'circuit-breaker': breaker })] })
  const paths = ['plain', 'broken']
  const load = kit.load({ rate, next: (number) => ({ port: gateway.port, path: `/${paths[number % 2]}`, tag: paths[number % 2] }) })
  await pause(1000)
  await nodes.setAll({ kind: 'refuse' })
  const downAt = Date.now()
  await pause(phaseMs)
  const upAt = Date.now()
  await nodes.setAll({ delayMs: 5 })
  await pause(phaseMs)
  const records = await load.stop()
  const rows = []
  for (const tag of paths) {
    const own = records.filter((record) => record.tag === tag)
    const down = summary(own.filter(({ dueMs }) => dueMs > downAt && dueMs < upAt))
    const lastFailure = own.findLast(({ status }) => status !== 200)
    // What was due a moment before the nodes were back may be answered by them.
    const answered = down.count(502) + down.count(503) + down.count(200)
    const name = tag === 'plain' ? 'without a breaker' : 'with breakers of nodes'
    rows.push(
      atLeast(`${name}: answered while all are down`, (100 * answered) / down.requests, 100, ' %', 1),
      atMost(`${name}: p99 of these answers`, down.p99, 500, ' ms'),
      finding(`${name}: of these 502 (all nodes were tried) and 503 (none was)`, `${down.count(502)}, ${down.count(503)}`),
      atMost(`${name}: last wrong answer behind the return`, Math.max(0, lastFailure.dueMs - upAt), tag === 'plain' ? 500 : 1500, ' ms'),
    )
  }
  return rows
}
