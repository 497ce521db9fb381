/**
 * One pick of every balancer, in nanoseconds, by number of nodes.
 *
 *   npm run build && node native-bench/micro/balancers.mjs        (SLUICE_DIST: another build folder)
 *
 * All nodes are observed (as with health checks), up, and have some requests in flight, so that nothing takes the short way; the first
 * row is round robin as it is without anything to observe. chash: a new key for every pick, 4,096 different ones. CPU time, best (median) of 25 rounds.
 */
import { pathToFileURL } from 'node:url'

const dist = process.env.SLUICE_DIST === undefined ? new URL('../../dist/', import.meta.url) : pathToFileURL(`${process.env.SLUICE_DIST}/`)
const { createBalancer } = await import(new URL('dataplane/balancer/balancer.js', dist))
const { SlowStart } = await import(new URL('dataplane/balancer/slow-start.js', dist))
const { Tier } = await import(new URL('dataplane/balancer/tier.js', dist))
const { createNodesRegion, NodeCells } = await import(new URL('shared/node-cells.js', dist))
const { Rotors, ROTORS_BYTES } = await import(new URL('shared/rotors.js', dist))
const { recentMs, nowMs } = await import(new URL('base/clock.js', dist))

const rounds = 25
const picks = 50_000
const keys = Array.from({ length: 4096 }, (_, index) => `10.${index >> 8}.${index & 255}.7`)

const hash = { on: 'vars', key: 'remote_addr', algorithm: 'ketama', balanceFactor: 0 }
const slowStart = { windowMs: 30_000, aggression: 1, minWeight: 0.1 }
const cases = [
  ['roundrobin, not observed', 'roundrobin', { observed: false }],
  ['roundrobin', 'roundrobin', {}],
  ['roundrobin, slow start', 'roundrobin', { slowStart }],
  ['roundrobin, a third down', 'roundrobin', { down: 3 }],
  ['random', 'random', {}],
  ['least_conn', 'least_conn', {}],
  ['ewma', 'ewma', {}],
  ['chash ketama', 'chash', { hash }],
  ['chash maglev', 'chash', { hash: { ...hash, algorithm: 'maglev' } }],
  ['chash ketama, bounded', 'chash', { hash: { ...hash, balanceFactor: 150 } }],
]

function measure(type, options, size) {
  const cells = new NodeCells(createNodesRegion(1), 1, 0)
  const rotors = new Rotors(new SharedArrayBuffer(ROTORS_BYTES))
  const members = Array.from({ length: size }, (_, index) => ({
    target: index,
    address: `10.0.${index >> 8}.${index & 255}:8080`,
    weight: 1,
    slot: options.observed === false ? 0 : index + 1,
  }))
  const now = nowMs()
  for (const { slot, target } of members) {
    if (slot === 0) continue
    cells.observe(slot, 5 + (target % 7), now, 10_000)
    for (let count = 0; count < target % 5; count++) cells.begin(slot)
    if (options.down !== undefined && target % options.down === 0) cells.close(slot, 1)
  }
  const tier = new Tier(members, cells, options.slowStart === undefined ? null : new SlowStart(slowStart, recentMs))
  const balancing = {
    hash: options.hash ?? null,
    slowStart: options.slowStart ?? null,
    ewmaDecayMs: 10_000,
    allUnhealthy: 'fail_open',
    subset: null,
  }
  const balancer = createBalancer(type, balancing, tier, { next: () => rotors.next(3), nowMs: recentMs })
  const exchanges = keys.map((clientAddress) => ({ clientAddress }))
  const times = []
  for (let round = 0; round < rounds; round++) {
    let sum = 0
    const before = process.cpuUsage()
    for (let pick = 0; pick < picks; pick++) sum += balancer.pick(exchanges[pick & 4095])
    const { user, system } = process.cpuUsage(before)
    times.push(((user + system) * 1000) / picks)
    if (sum < 0) throw new Error('a pick found nothing')
  }
  times.sort((a, b) => a - b)
  return `${Math.round(times[0])} (${Math.round(times[rounds >> 1])})`
}

const sizes = [3, 10, 100, 1000]
console.log('nanoseconds per pick: best (median)')
console.table(
  Object.fromEntries(
    cases.map(([name, type, options]) => [name, Object.fromEntries(sizes.map((size) => [`${size} nodes`, measure(type, options, size)]))]),
  ),
)
