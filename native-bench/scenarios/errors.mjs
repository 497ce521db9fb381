/**
 * 30 % errors in two shapes. Everywhere: each node fails three of ten requests by chance: breaking the circuit would make it worse, so a ratio
 * of 50 % must not open it, and one of 25 % must. In three nodes of ten: those are to be left out, and then nothing fails any more.
 */
import { pause, summary } from '../lib/open-loop.mjs'
import { atLeast, atMost, finding } from '../lib/scenario-kit.mjs'

export const title = '30 % errors'

const rate = 300
const runMs = 6000
const ratio = (error_ratio) => ({ 'circuit-breaker': { consecutive_failures: 0, error_ratio, minimum_requests: 50, open_seconds: 30 } })

export async function run(kit) {
  const everywhere = await kit.nodes(10, { delayMs: 5, kind: 'status', status: 500, share: 0.3 })
  const some = await kit.nodes(Array.from({ length: 10 }, (_, index) => ({ delayMs: 5, kind: index < 3 ? 'status' : 'ok' })))
  const route = (id, plugins, nodes) => ({ id, uri: `/${id}`, plugins, upstream: { nodes: nodes.map } })
  const gateway = await kit.gateway({
    routes: [
      route('high', ratio(0.5), everywhere),
      route('low', ratio(0.25), everywhere),
      route('nodes', { 'circuit-breaker': { scope: 'node', consecutive_failures: 5, open_seconds: 30 } }, some),
    ],
  })
  const paths = ['high', 'low', 'nodes']
  const load = kit.load({ rate, next: (number) => ({ port: gateway.port, path: `/${paths[number % 3]}`, tag: paths[number % 3] }) })
  await pause(runMs)
  const records = await load.stop()
  const of = (tag) => records.filter((record) => record.tag === tag)
  const [high, low, nodes] = paths.map((tag) => summary(of(tag)))
  const lastFailure = of('nodes').findLastIndex(({ status }) => status === 500)
  return [
    finding('everywhere, threshold 50 %: right answers', `${(100 * high.share).toFixed(1)} %`),
    atMost('everywhere, threshold 50 %: times that it opened', gateway.transitions('route:high').length, 0),
    finding('everywhere, threshold 25 %: requests until it opened', of('low').findIndex(({ status }) => status === 503) + 1),
    atLeast(
      'everywhere, threshold 25 %: times that it opened',
      gateway.transitions('route:low').filter(({ to }) => to === 'open').length,
      1,
    ),
    finding('everywhere, threshold 25 %: right answers (the rest is refused at once)', `${(100 * low.share).toFixed(1)} %`),
    atMost('three nodes of ten: requests that failed', nodes.count(500), 20),
    atMost('three nodes of ten: requests until the last failure', lastFailure + 1, 100),
  ]
}
