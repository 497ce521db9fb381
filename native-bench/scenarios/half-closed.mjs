/**
 * Nodes that close their connections at bad moments. `idle`: FIN right behind an answer whose connection was to be kept, so that the next
 * request may meet a half-closed socket. A GET is sent again and nobody notices; a POST that was written must not be (RFC 9110, 9.2.2), its
 * client gets 502. `middle`: FIN in the middle of an answer; its client must see that it is cut off, and nothing may be left behind.
 */
import { pause, summary } from '../lib/open-loop.mjs'
import { atLeast, atMost, finding, until } from '../lib/scenario-kit.mjs'

export const title = 'Half-closed sockets'

const rate = 400
const runMs = 5000

export async function run(kit) {
  const [idle, middle] = await Promise.all([kit.nodes(2, { kind: 'close' }), kit.nodes(2, { kind: 'half' })])
  const route = (id, nodes) => ({ id, uri: `/${id}`, upstream: { nodes: nodes.map } })
  const gateway = await kit.gateway({ routes: [route('idle', idle), route('middle', middle)] })
  const paths = ['idle', 'middle']
  const load = kit.load({
    rate,
    next: (number) => ({
      port: gateway.port,
      path: `/${paths[number % 2]}`,
      tag: `${paths[number % 2]} ${number % 4 < 2 ? 'GET' : 'POST'}`,
      method: number % 4 < 2 ? 'GET' : 'POST',
    }),
  })
  await pause(runMs)
  const records = await load.stop()
  const of = (...tags) => summary(records.filter(({ tag }) => tags.includes(tag)))
  const [get, post, cut] = [of('idle GET'), of('idle POST'), of('middle GET', 'middle POST')]
  await until('all requests ended', async () => (await gateway.metric('gateway_worker_requests_in_flight')) === 0)
  return [
    atLeast('FIN behind the answer: right answers to GET', 100 * get.share, 100, ' %', 2),
    finding('FIN behind the answer: right answers to POST (the rest is 502)', `${(100 * post.share).toFixed(2)} %`),
    atLeast('FIN in the middle: clients that saw it', (100 * cut.count(0)) / cut.requests, 100, ' %', 2),
    finding('FIN in the middle: p50 and p99 until they saw it', `${cut.p50.toFixed(1)}, ${cut.p99.toFixed(1)} ms`),
    atMost('requests in flight afterwards', await gateway.metric('gateway_worker_requests_in_flight'), 0),
  ]
}
