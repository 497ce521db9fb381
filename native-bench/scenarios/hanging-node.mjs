/**
 * One of ten nodes of an upstream takes 60 s to answer, is found by its slow calls and ejected; the configuration is reloaded meanwhile;
 * then the node heals. Timeouts are the recommended ones (connect 3 s, read 30 s): nothing waits for them.
 */
import { pause, summary } from '../lib/open-loop.mjs'
import { atLeast, atMost, finding } from '../lib/scenario-kit.mjs'

export const title = 'One of ten nodes takes 60 s: ejected as an outlier'

const rate = 300
const quietMs = 1500
const sickMs = 4000
const healedMs = 5000
const sick = 4
const healthy = { delayMs: 10, jitterMs: 4 }

const detection = {
  slow_call_duration: 0.3,
  consecutive_slow_calls: 3,
  base_ejection_time: 2,
  max_ejection_time: 2,
  max_ejection_percent: 20,
}

export async function run(kit) {
  const nodes = await kit.nodes(10, healthy)
  const config = (id) => ({
    routes: [{ id, uri: '/*', upstream_id: 'ten', timeout: { connect: 3, send: 10, read: 30 } }],
    upstreams: [{ id: 'ten', nodes: nodes.map, outlier_detection: detection }],
  })
  const gateway = await kit.gateway(config('before'))
  const load = kit.load({ rate, next: () => ({ port: gateway.port }) })
  await pause(quietMs)
  const sickAt = await nodes.set(sick, { delayMs: 60_000 })
  await pause(sickMs / 2)
  await gateway.reload(config('after'))
  await pause(sickMs / 2)
  const healedAt = await nodes.set(sick, healthy)
  await pause(healedMs)
  const records = await load.stop(100)

  const arrivals = (await nodes.times())[sick]
  const reached = arrivals.filter((time) => time >= sickAt && time < healedAt)
  // Cut: the first pause in its arrivals that is longer than chance. With a tenth of the load it would get one every 33 ms.
  const cutAfter = reached.findIndex((time, index) => (reached[index + 1] ?? healedAt) - time > 1000)
  const afterwards = arrivals.filter((time) => time >= healedAt)
  const others = summary(records.filter(({ dueMs, status }) => dueMs >= sickAt && dueMs < healedAt && status > 0))
  return [
    atMost('time until the node is cut', (reached[cutAfter] ?? sickAt) - sickAt, 1000, ' ms'),
    atMost('requests that reached it until then', cutAfter + 1, 50),
    finding('requests that reached it in all, before it healed', reached.length),
    finding('ejections (one each 2 s, until it heals)', await gateway.metric('gateway_upstream_node_ejections_total')),
    finding('p99 of what was answered meanwhile', `${others.p99.toFixed(1)} ms`),
    atMost('from healing to its first request', (afterwards[0] ?? Number.POSITIVE_INFINITY) - healedAt, 5000, ' ms'),
    atLeast('its share of the last second, of a tenth', shareOfLastSecond(afterwards, healedAt + healedMs), 90, ' %', 0),
  ]
}

function shareOfLastSecond(times, endMs) {
  const expected = rate / 10
  return (100 * times.filter((time) => time >= endMs - 1000 && time < endMs).length) / expected
}
