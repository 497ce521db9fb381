/** Two gateways with one Redis and `policy: redis`. One sees failures only; how long does the other go on asking the upstream? */
import { spawn } from 'node:child_process'
import { pause } from '../lib/open-loop.mjs'
import { freePort } from '../lib/processes.mjs'
import { atMost, finding, until } from '../lib/scenario-kit.mjs'

export const title = 'Two gateways, one Redis breaker'

const rounds = 5
const breaker = { consecutive_failures: 5, open_seconds: 1, backoff: 'fixed', max_open_seconds: 1, successes: 1, policy: 'redis' }

export async function run(kit) {
  const port = await freePort()
  const redis = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--daemonize', 'no'], {
    stdio: 'ignore',
  })
  kit.later(() => redis.kill('SIGKILL'))
  const nodes = await kit.nodes(2)
  // The second gateway asks a node that never fails: what it knows, it knows from the first.
  const config = (nodePort) => ({
    sluice: { redis: `redis://127.0.0.1:${port}` },
    routes: [{ id: 'a', uri: '/*', plugins: { 'circuit-breaker': breaker }, upstream: { nodes: { [`127.0.0.1:${nodePort}`]: 1 } } }],
  })
  const [first, second] = await Promise.all(nodes.ports.map((nodePort) => kit.gateway(config(nodePort))))
  const status = async (gateway) => (await fetch(`http://127.0.0.1:${gateway.port}/`)).status
  const openings = (gateway) => gateway.transitions('route:a').filter(({ to }) => to === 'open')
  const closings = (gateway) => gateway.transitions('route:a').filter(({ to }) => to === 'closed')
  const opened = []
  const closed = []
  for (let round = 0; round < rounds; round++) {
    await until('both closed', async () => (await status(first)) === 200 && (await status(second)) === 200)
    const before = [openings(first).length, openings(second).length, closings(first).length, closings(second).length]
    await nodes.set(0, { kind: 'status' })
    await until('the trip', async () => (await status(first)) === 503)
    await nodes.set(0, {})
    await until('the news', () => openings(second).length > before[1])
    opened.push(openings(second)[before[1]].time - openings(first)[before[0]].time)
    // Only the first probes: the second learns of it.
    await until('the recovery', async () => (await status(first)) === 200)
    await until('its news', () => closings(second).length > before[3])
    closed.push(closings(second)[before[3]].time - closings(first)[before[2]].time)
    await pause(50)
  }
  const line = (values) => values.map((value) => value.toFixed(0)).join(', ')
  return [
    atMost('longest time until the other one opens', Math.max(...opened), 250, ' ms'),
    finding('of each round', `${line(opened)} ms`),
    atMost('longest time until the other one closes', Math.max(...closed), 250, ' ms'),
    finding('of each round', `${line(closed)} ms`),
  ]
}
