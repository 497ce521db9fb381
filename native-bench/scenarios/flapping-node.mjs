/** One of four nodes fails for a second, is well for a second, and so on. Probes and traffic judge it; retries cover what is in between. */
import { pause, summary } from '../lib/open-loop.mjs'
import { atLeast, atMost, finding } from '../lib/scenario-kit.mjs'

export const title = 'A flapping node of four, with health checks'

const rate = 300
const turnMs = 1000
const turns = 4

const checks = {
  active: {
    http_path: '/health',
    healthy: { interval: 0.2, successes: 2 },
    unhealthy: { interval: 0.2, http_failures: 2 },
  },
  passive: { unhealthy: { http_statuses: [500], http_failures: 3 } },
}

export async function run(kit) {
  const nodes = await kit.nodes(4)
  const gateway = await kit.gateway({ routes: [{ id: 'all', uri: '/*', upstream: { nodes: nodes.map, checks } }] })
  const load = kit.load({ rate, next: () => ({ port: gateway.port }) })
  await pause(turnMs)
  for (let turn = 0; turn < turns; turn++) {
    await nodes.set(0, { kind: 'status', status: 500 })
    await pause(turnMs)
    await nodes.set(0, {})
    await pause(turnMs)
  }
  const records = await load.stop()
  const { requests, count } = summary(records)
  const changes = gateway.log.filter(({ change }) => change !== undefined)
  return [
    atMost('requests that failed, per time that it fell ill', count(500) / turns, 6, '', 1),
    finding('requests that failed, of all', `${count(500)} of ${requests}`),
    atLeast('times that it was found ill', changes.filter(({ change }) => change === 'unhealthy').length, turns),
    atLeast('times that it was used again', changes.filter(({ change }) => change === 'healthy').length, turns),
  ]
}
