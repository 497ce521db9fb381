/**
 * An upstream that sends its answers byte by byte, one every 400 ms for 20 s: each byte renews the read timeout, so that no timeout of
 * sockets ends it. Slow calls under way do. Another upstream of the same gateway must not notice.
 */
import { pause, summary } from '../lib/open-loop.mjs'
import { atLeast, atMost, finding } from '../lib/scenario-kit.mjs'

export const title = 'Slow drip'

const rate = 300
const runMs = 6000
const breaker = { slow_call_ratio: 0.5, slow_call_seconds: 0.5, window_seconds: 2, minimum_requests: 10, open_seconds: 30 }

export async function run(kit) {
  const nodes = await kit.nodes([{ delayMs: 5 }, { kind: 'drip', bytes: 50, everyMs: 400 }])
  const route = (id, port) => ({
    id,
    uri: `/${id}`,
    plugins: { 'circuit-breaker': breaker },
    upstream: { nodes: { [`127.0.0.1:${port}`]: 1 } },
  })
  const gateway = await kit.gateway({ routes: [route('good', nodes.ports[0]), route('drip', nodes.ports[1])] })
  const load = kit.load({
    rate,
    next: (number) =>
      number % 3 === 0 ? { port: gateway.port, path: '/drip', tag: 'drip' } : { port: gateway.port, path: '/good', tag: 'good' },
  })
  await pause(runMs)
  const records = await load.stop(300)
  const [good, drip] = ['good', 'drip'].map((tag) => summary(records.filter((record) => record.tag === tag)))
  const first = records.findIndex(({ status, tag }) => tag === 'drip' && status === 503)
  const reached = (await nodes.times())[1].length
  return [
    atLeast('other upstream: right answers', 100 * good.share, 99.5, ' %', 2),
    finding('other upstream: p50 and p99', `${good.p50.toFixed(1)}, ${good.p99.toFixed(1)} ms`),
    atMost('time until it is cut', first < 0 ? Number.POSITIVE_INFINITY : records[first].dueMs - records[0].dueMs, 1500, ' ms'),
    atMost('requests that hang on it', reached, 120),
    finding('refused at once', drip.count(503)),
  ]
}
