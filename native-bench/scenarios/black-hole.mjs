/**
 * One of five nodes never answers a SYN (its packets are dropped): each connection to it costs the connect timeout, and the request goes on to
 * another node. Behind three such timeouts the node is passed over.
 */
import { pause, summary } from '../lib/open-loop.mjs'
import { atLeast, atMost, finding } from '../lib/scenario-kit.mjs'

export const title = 'Black-holed SYN'

const rate = 200
const runMs = 5000
const connectSeconds = 0.5

export async function run(kit) {
  const nodes = await kit.nodes(4, { delayMs: 5 })
  const hole = await kit.blackHole()
  const gateway = await kit.gateway({
    routes: [
      {
        id: 'all',
        uri: '/*',
        timeout: { connect: connectSeconds, send: 10, read: 30 },
        plugins: { 'circuit-breaker': { scope: 'node', consecutive_failures: 3, open_seconds: 30 } },
        upstream: { nodes: { ...nodes.map, [`127.0.0.1:${hole.port}`]: 1 } },
      },
    ],
  })
  const load = kit.load({ rate, next: () => ({ port: gateway.port }) })
  await pause(runMs)
  const records = await load.stop()
  const all = summary(records)
  const held = records.filter(({ ms }) => ms !== null && ms >= connectSeconds * 1000)
  const lastHeldMs = held.length === 0 ? 0 : held.at(-1).dueMs - records[0].dueMs
  const later = summary(records.filter(({ dueMs }) => dueMs - records[0].dueMs > 2000))
  return [
    atLeast('right answers', 100 * all.share, 100, ' %', 2),
    atMost('longest wait', all.max, connectSeconds * 1000 + 500, ' ms'),
    atMost('requests that waited for the connect timeout', held.length, 50),
    atMost('time until none does any more', lastHeldMs, 1000, ' ms'),
    finding('p50 and p99 from the third second on', `${later.p50.toFixed(1)}, ${later.p99.toFixed(1)} ms`),
  ]
}
