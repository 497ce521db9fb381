/**
 * Uploads of 60 KiB to an upstream that hangs: each keeps its body for a repetition, so that memory grows with every request. With
 * `max_memory` the gateway refuses what is not critical before that bound, and serves again when the uploads have gone.
 */
import { pause, summary } from '../lib/open-loop.mjs'
import { atLeast, atMost, finding, until } from '../lib/scenario-kit.mjs'

export const title = 'Memory in overload'

const rate = 500
const floodMs = 7000
const body = Buffer.alloc(60 * 1024, 'x')
const mebi = 2 ** 20
/** What the gateway may use beyond what it uses at rest. */
const roomBytes = 120 * mebi

export async function run(kit) {
  const nodes = await kit.nodes([{ delayMs: 2 }, { delayMs: 3_600_000 }])
  const route = (id, port, priority) => ({ id, uri: `/${id}`, labels: { priority }, upstream: { nodes: { [`127.0.0.1:${port}`]: 1 } } })
  const routes = [
    route('flood', nodes.ports[1], 'normal'),
    route('plain', nodes.ports[0], 'normal'),
    route('checkout', nodes.ports[0], 'critical'),
  ]
  const free = await kit.gateway({ routes })
  const restBytes = free.residentBytes()
  const bound = restBytes + roomBytes
  const bounded = await kit.gateway({ routes, sluice: { overload: { max_memory: bound } } })
  const flood = async (gateway, ms) => {
    const before = gateway.residentBytes()
    let most = 0
    const load = kit.load({
      rate,
      next: (number) =>
        number % 10 === 0
          ? { port: gateway.port, path: '/checkout', tag: 'checkout' }
          : { port: gateway.port, path: '/flood', tag: 'flood', method: 'PUT', body },
    })
    for (const end = performance.now() + ms; performance.now() < end; await pause(20)) most = Math.max(most, gateway.residentBytes())
    const records = await load.stop(500)
    const of = (tag) => summary(records.filter((record) => record.tag === tag))
    return { before, most, checkout: of('checkout'), flood: of('flood') }
  }
  const tested = await flood(bounded, floodMs)
  const begun = performance.now()
  const back = await until(
    'normal requests are served again',
    async () => (await fetch(`http://127.0.0.1:${bounded.port}/plain`)).status === 200,
    6000,
  )
    .then(() => performance.now() - begun)
    .catch(() => Number.POSITIVE_INFINITY)
  const unbounded = await flood(free, 4000)
  const size = (bytes) => (bytes / mebi).toFixed(0)
  return [
    atMost('most resident memory, of the bound', (100 * tested.most) / bound, 100, ' %', 1),
    finding(
      'at rest, bound, most; most of a gateway without a bound in half the time',
      `${[restBytes, bound, tested.most, unbounded.most].map(size).join(', ')} MiB`,
    ),
    finding('uploads refused, of all', `${tested.flood.count(503)} of ${tested.flood.requests}`),
    atLeast('right answers of the critical route meanwhile', 100 * tested.checkout.share, 99, ' %', 1),
    finding('p99 of the critical route', `${tested.checkout.p99.toFixed(0)} ms`),
    atMost('until normal requests are served again', back, 5000, ' ms'),
  ]
}
