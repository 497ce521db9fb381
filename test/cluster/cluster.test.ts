/** Limits on a real Redis Cluster of three masters: spreading, MOVED, ASK, and the loss of one master. */
import slotOf from 'cluster-key-slot'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { RedisStore } from '../../src/cluster/redis-store.js'
import { RuleLayout } from '../../src/cluster/rule-layout.js'
import type { BoundLimiter, LimiterSpec } from '../../src/limits/contract.js'
import { createLimiterRegion } from '../../src/shared/limiter-layout.js'
import { LocalLimiterStore } from '../../src/shared/limiter-store.js'
import { eventually, RedisClusterServers, redisMissing } from '../support/redis.js'
import { onCluster, oneWindow, specOf } from './fleet.js'

describe.skipIf(redisMissing !== null)('redis-cluster', () => {
  let cluster: RedisClusterServers
  let stores: RedisStore[]

  beforeAll(async () => {
    cluster = await RedisClusterServers.start()
    const region = createLimiterRegion({ members: 1, cells: 1000, logEntries: 1000, seed: [1, 2] })
    stores = [0, 1].map(
      (index) =>
        new RedisStore({
          workers: 1,
          clock: systemClock,
          nodeId: `node-${index}`,
          workerId: `node-${index}/0`,
          local: new LocalLimiterStore(region, 0, () => systemClock.wallMs()),
          counters: {
            called: () => undefined,
            failed: () => undefined,
            decidedByPolicy: () => undefined,
            leased: () => undefined,
            spent: () => undefined,
            returned: () => undefined,
            lost: () => undefined,
          },
          log: () => undefined,
        }),
    )
  })

  afterAll(async () => {
    await Promise.all(stores?.map((store) => store.close()) ?? [])
    await cluster?.close()
  })

  function bound(spec: LimiterSpec): [BoundLimiter, BoundLimiter] {
    const [first, second] = stores.map((store) => store.bind(spec))
    if (first === undefined || second === undefined) throw new Error('no store')
    return [first, second]
  }

  async function admitted(limiters: readonly BoundLimiter[], key: string | readonly string[], requests: number): Promise<number> {
    const decisions = await Promise.all(
      Array.from({ length: requests }, (_, index) => {
        const limiter = limiters[index % limiters.length]
        if (limiter === undefined) throw new Error('no limiter')
        return limiter.check(key, 1, limiter.decision())
      }),
    )
    expect(decisions.map(({ basis }) => basis)).toEqual(decisions.map(() => 'exact'))
    return decisions.filter(({ allowed }) => allowed).length
  }

  function slotOfKey(spec: LimiterSpec, key: string): number {
    return slotOf(new RuleLayout(spec, 'sluice:').call(key, 1, undefined).keys[0])
  }

  test.each(['exact', 'lease'] as const)('%s: many keys on all masters, each with several limits, each exact', async (mode) => {
    const spec = specOf(onCluster(cluster, { mode }), oneWindow(20), { algorithm: 'sliding-window', limit: 100, windowMs: 3_600_000 })
    const limiters = bound(spec)
    const keys = Array.from({ length: 12 }, (_, index) => `client {${index}}`)
    const counts = await Promise.all(keys.map((key) => admitted(mode === 'exact' ? limiters : limiters.slice(0, 1), key, 60)))
    expect(counts).toEqual(keys.map(() => 20))
    const owners = new Set(await Promise.all(keys.map((key) => cluster.ownerOf(slotOfKey(spec, key)))))
    expect(owners.size).toBe(3)
  })

  test('one key per rule: all counters of the scope lie in one slot', async () => {
    const limiters = bound(specOf(onCluster(cluster), oneWindow(7), { algorithm: 'token-bucket', rate: 0.001, burst: 99 }))
    expect(await admitted(limiters, ['a', 'b'], 20)).toBe(7)
    expect(await admitted(limiters, ['c', 'b'], 20)).toBe(7)
  })

  test('a slot that moves while it is asked for: ASK and MOVED are followed, no unit is lost or admitted twice', async () => {
    const spec = specOf(onCluster(cluster), oneWindow(400))
    const limiters = bound(spec)
    const key = 'moving'
    const slot = slotOfKey(spec, key)
    const from = await cluster.ownerOf(slot)
    const to = (from + 1) % 3
    let count = await admitted(limiters, key, 100)
    await cluster.at(to).client.cluster('SETSLOT', slot, 'IMPORTING', await cluster.idOf(from))
    await cluster.at(from).client.cluster('SETSLOT', slot, 'MIGRATING', await cluster.idOf(to))
    const [name] = new RuleLayout(spec, 'sluice:').call(key, 1, undefined).keys
    await cluster.at(from).client.call('MIGRATE', '127.0.0.1', cluster.at(to).port, name, 0, 5000)
    // The key has gone, the slot has not: every call is sent on with ASK.
    count += await admitted(limiters, key, 100)
    for (const index of [to, from, 3 - from - to]) {
      await cluster.at(index).client.cluster('SETSLOT', slot, 'NODE', await cluster.idOf(to))
    }
    // Now MOVED.
    count += await admitted(limiters, key, 300)
    expect(count).toBe(400)
  })

  test('the loss of one master leaves the keys of the others alone, and it is used again when it is back', async () => {
    const spec = specOf(onCluster(cluster), oneWindow(1_000_000))
    const [patient] = bound(spec)
    const [limiter] = bound({ ...spec, store: onCluster(cluster, { timeoutMs: 1000 }) })
    const decide = async (by: BoundLimiter, key: string) => await by.check(key, 1, by.decision())
    const basesOf = async (chosen: readonly string[]) =>
      new Set((await Promise.all(chosen.map((key) => decide(limiter, key)))).map(({ basis }) => basis))
    const sick = 2
    const keys = Array.from({ length: 30 }, (_, index) => `key-${index}`)
    const owners = await Promise.all(keys.map((key) => cluster.ownerOf(slotOfKey(spec, key))))
    const onSick = keys.filter((_, index) => owners[index] === sick)
    const onOthers = keys.filter((_, index) => owners[index] !== sick)
    expect(Math.min(onSick.length, onOthers.length)).toBeGreaterThan(0)
    await Promise.all(keys.map((key) => decide(patient, key)))
    await eventually('the connections', async () => (await basesOf(keys)).size === 1)
    cluster.at(sick).pause()
    let waiting = onSick.length
    const stuck = onSick.map((key) => decide(patient, key).finally(() => waiting--))
    try {
      // Before the deadline: who waits for the sick master holds up nobody else.
      const others = await Promise.all(onOthers.map((key) => decide(patient, key)))
      expect(new Set(others.map(({ basis }) => basis))).toEqual(new Set(['exact']))
      expect(waiting).toBe(onSick.length)
      // At the deadline: refused, and then refused at once, while the same client goes on asking the others.
      expect(await basesOf(onSick)).toEqual(new Set(['refused']))
      await eventually('decisions by the others', async () => {
        const bases = await basesOf(onOthers)
        return bases.size === 1 && bases.has('exact')
      })
      expect(await basesOf(onSick)).toEqual(new Set(['refused']))
    } finally {
      cluster.at(sick).resume()
    }
    expect(new Set((await Promise.all(stuck)).map(({ basis }) => basis))).toEqual(new Set(['exact']))
    await eventually('decisions by the paused master', async () => (await basesOf(onSick)).has('exact'))
  })
  test('a master that is killed under load: the others go on, its keys are refused, and count from zero when it is back', async () => {
    const spec = specOf(onCluster(cluster, { timeoutMs: 20_000 }), oneWindow(1_000_000))
    const limiters = bound(spec)
    const dead = 1
    const keys = Array.from({ length: 30 }, (_, index) => `load-${index}`)
    const owners = await Promise.all(keys.map((key) => cluster.ownerOf(slotOfKey(spec, key))))
    const onDead = (key: string): boolean => owners[keys.indexOf(key)] === dead
    const watched = keys.find(onDead) ?? ''
    const bases = { dead: new Set<string>(), others: new Set<string>() }
    let isOver = false
    let rounds = 0
    const used = async (key: string): Promise<number> => {
      const { basis, rules } = await limiters[0].peek(key, 1, limiters[0].decision())
      return basis === 'exact' ? (rules[0]?.used ?? -1) : -1
    }
    const lane = async (limiter: BoundLimiter): Promise<void> => {
      const out = limiter.decision()
      for (; !isOver; rounds++) {
        for (const key of keys) bases[onDead(key) ? 'dead' : 'others'].add((await limiter.check(key, 1, out)).basis)
      }
    }
    await Promise.all(keys.flatMap((key) => limiters.map((limiter) => limiter.check(key, 1000, limiter.decision()))))
    const lanes = limiters.map(lane)
    try {
      await eventually('traffic', () => rounds > 20)
      expect([...bases.dead, ...bases.others]).toEqual(['exact', 'exact'])
      await cluster.at(dead).kill()
      await eventually('refusals', () => bases.dead.has('refused'))
      bases.others.clear()
      const before = rounds
      await eventually('traffic without it', () => rounds > before + 20)
      expect([...bases.others]).toEqual(['exact'])
      await cluster.at(dead).restart()
      await eventually('its keys again', async () => (await used(watched)) >= 0)
      expect(await used(watched)).toBeLessThan(2000)
    } finally {
      isOver = true
    }
    await Promise.all(lanes)
  })
})
