/**
 * One of ten upstreams takes 60 s to answer; later it heals. A second gateway in the same minute, with ten healthy ones, says what the
 * machine itself did to latency: both get the same requests at the same times.
 *
 * Timeouts are the recommended ones (connect 3 s, read 30 s): it is the slow calls under way that open the breaker, not their end.
 */
import { pause, summary } from '../lib/open-loop.mjs'
import { atLeast, atMost, finding } from '../lib/scenario-kit.mjs'

export const title = 'One of ten upstreams takes 60 s'

const rate = 600
const quietMs = 2500
const sickMs = 5000
const healedMs = 6000
const healthy = { delayMs: 20, jitterMs: 4 }

const breaker = {
  slow_call_ratio: 0.2,
  slow_call_seconds: 0.2,
  window_seconds: 1,
  minimum_requests: 20,
  open_seconds: 1,
  backoff: 'fixed',
  max_open_seconds: 1,
  successes: 3,
}

function config(ports) {
  const routes = ports.map((port, index) => ({
    id: `u${index}`,
    uri: `/u${index}`,
    plugins: { 'circuit-breaker': breaker },
    timeout: { connect: 3, send: 10, read: 30 },
    upstream: { nodes: { [`127.0.0.1:${port}`]: 1 } },
  }))
  return { routes }
}

export async function run(kit) {
  const nodes = await kit.nodes(11, healthy)
  const { ports } = nodes
  const [control, tested] = await Promise.all(
    [config(ports.slice(0, 10)), config([ports[10], ...ports.slice(1, 10)])].map((c) => kit.gateway(c)),
  )
  // A third of the requests goes to upstream 0, the other nine share the rest.
  const next = (number) => {
    const gateway = number % 2 === 0 ? control : tested
    const turn = number >> 1
    const upstream = turn % 3 === 0 ? 0 : 1 + (turn % 9)
    return {
      port: gateway.port,
      path: `/u${upstream}`,
      tag: `${gateway === control ? 'control' : 'tested'} ${upstream === 0 ? 'sick' : 'nine'}`,
    }
  }
  const load = kit.load({ rate, next })
  await pause(quietMs)
  const sickAt = await nodes.set(10, { delayMs: 60_000 })
  await pause(sickMs)
  const healedAt = await nodes.set(10, healthy)
  await pause(healedMs)
  const records = await load.stop(100)

  const during = (tag, from, to) => records.filter((record) => record.tag === tag && record.dueMs >= from && record.dueMs < to)
  const nine = (gateway) => summary(during(`${gateway} nine`, sickAt, healedAt))
  const [base, kept] = [nine('control'), nine('tested')]
  const arrivals = (await nodes.times())[10]
  // Cut: the first refusal. Later requests are probes, one open time apart.
  const refusals = records.filter(({ tag, status, dueMs }) => tag === 'tested sick' && status === 503 && dueMs >= sickAt)
  const cutAt = refusals[0]?.dueMs ?? Number.POSITIVE_INFINITY
  const reached = arrivals.filter((time) => time >= sickAt && time < healedAt)
  const beforeCut = reached.filter((time) => time <= cutAt + 50)
  const lastRefusal = Math.max(healedAt, ...refusals.map(({ dueMs }) => dueMs))
  const afterwards = summary(during('tested sick', lastRefusal + 1, healedAt + healedMs - 200))
  const opened = tested.transitions('route:u0').filter(({ time, from, to }) => time >= sickAt && from === 'closed' && to === 'open')
  return [
    atMost('p99 of the other nine, by that of ten healthy ones at the same time', kept.p99 / base.p99, 1.1, '', 3),
    finding(
      'p50 and p99 of the other nine; of ten healthy ones',
      `${[kept.p50, kept.p99, base.p50, base.p99].map((ms) => ms.toFixed(1)).join(', ')} ms`,
    ),
    atLeast('throughput of the other nine, by that of ten healthy ones', (100 * kept.good) / base.good, 95, ' %', 1),
    atMost('time until the sick one is cut', cutAt - sickAt, 1000, ' ms'),
    atMost('requests that reached it until then', beforeCut.length, 50),
    finding('requests that reached it in all (probes included)', reached.length),
    atMost('from healing to its full share', lastRefusal - healedAt, 5000, ' ms'),
    atLeast('its answers from then on that are right', 100 * afterwards.share, 100, ' %', 1),
    atMost('times that it was cut', opened.length, 1),
  ]
}
