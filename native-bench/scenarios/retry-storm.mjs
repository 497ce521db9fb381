/**
 * Storms of retries: behind some seconds of good answers everything fails, in four ways, and `retries` would allow three more tries of each
 * request. The budget (20 %, the default) bounds what the nodes get; the same upstreams with an unlimited one say what
 * they would have got. What was saved up in good times must not come at once: hence the first two seconds.
 */
import { pause, summary } from '../lib/open-loop.mjs'
import { atLeast, atMost, finding } from '../lib/scenario-kit.mjs'

export const title = 'Retry storms'

/** Requests per second of each upstream. */
const rate = 40
const quietMs = 4000
const stormMs = 5000
const beginMs = 2000
const storms = {
  'every answer is 503': { kind: 'status', status: 503 },
  'every connection is reset': { kind: 'cut' },
  'nothing is answered in time': { delayMs: 60_000 },
  'three of ten answers are 503': { kind: 'status', status: 503, share: 0.3 },
}

export async function run(kit) {
  const names = Object.keys(storms)
  const options = { retries: 3, retry_on: ['connect-failure', 'reset', 'timeout', 503], timeout: { connect: 1, send: 1, read: 0.3 } }
  const unlimited = { ...options, retry_budget: { percent: 1000, min_per_second: 1000 } }
  const sites = []
  for (const upstream of [options, unlimited]) {
    for (const name of names) sites.push({ id: `s${sites.length}`, name, upstream, nodes: await kit.nodes(2) })
  }
  const route = ({ id, upstream, nodes }) => ({ id, uri: `/${id}`, upstream: { ...upstream, nodes: nodes.map } })
  const gateway = await kit.gateway({ routes: sites.map(route) })
  const next = (number) => {
    const { id } = sites[number % sites.length]
    return { port: gateway.port, path: `/${id}`, tag: id }
  }
  const load = kit.load({ rate: rate * sites.length, next })
  await pause(quietMs)
  const from = Math.min(...(await Promise.all(sites.map(({ nodes, name }) => nodes.setAll(storms[name])))))
  await pause(stormMs)
  const records = await load.stop(3000)
  const results = await Promise.all(
    sites.map(async ({ id, nodes }) => {
      const own = records.filter(({ tag }) => tag === id)
      const arrivals = (await nodes.times()).flat()
      const begins = (time) => time >= from && time < from + beginMs
      return {
        own,
        all: arrivals.length / own.length,
        begin: arrivals.filter(begins).length / own.filter(({ dueMs }) => begins(dueMs)).length,
      }
    }),
  )
  const rows = []
  for (const [index, name] of names.entries()) {
    const [bounded, free] = [results[index], results[index + names.length]]
    rows.push(
      atMost(`${name}: requests that nodes got per request, all in all`, bounded.all, 1.2, '', 3),
      atMost(`${name}: in its first two seconds`, bounded.begin, 1.2, '', 3),
      finding(`${name}: the same two with an unlimited budget`, `${free.all.toFixed(3)}, ${free.begin.toFixed(2)}`),
    )
    if (storms[name].share === undefined) continue
    const right = ({ own }) => 100 * summary(own.filter(({ dueMs }) => dueMs >= from)).share
    rows.push(
      // Three in ten fail, and so do three in ten retries: 83 % at best. Of 200 random requests, 3 % more or less is chance.
      atLeast(`${name}: right answers in the storm`, right(bounded), 80, ' %', 1),
      finding(`${name}: right answers with an unlimited budget`, `${right(free).toFixed(1)} %`),
    )
  }
  return rows
}
