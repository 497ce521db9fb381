/** One node of 100 answers every request with 500. How many requests does it get before all threads pass it over? */
import { pause, summary } from '../lib/open-loop.mjs'
import { atMost, finding } from '../lib/scenario-kit.mjs'

export const title = 'One bad node of 100'

const rate = 400
const runMs = 4000
const badIndex = 37

export async function run(kit) {
  const nodes = await kit.nodes(100)
  await nodes.set(badIndex, { kind: 'status', status: 500 })
  const plugins = { 'circuit-breaker': { scope: 'node', consecutive_failures: 2, open_seconds: 30 } }
  const gateway = await kit.gateway({ routes: [{ id: 'all', uri: '/*', plugins, upstream: { nodes: nodes.map } }] })
  const load = kit.load({ rate, next: () => ({ port: gateway.port }) })
  await pause(runMs)
  const records = await load.stop()
  const last = records.findLastIndex(({ status }) => status === 500)
  const { requests, count } = summary(records)
  const reached = (await nodes.times())[badIndex].length
  return [
    atMost('requests until the last one that it failed', last + 1, 200),
    finding('requests that it failed, of all', `${count(500)} of ${requests}`),
    finding('requests that reached it', reached),
  ]
}
