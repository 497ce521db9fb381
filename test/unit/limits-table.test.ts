import { describe, expect, test } from 'vitest'
import { Decision, type LimitRule } from '../../src/limits/contract.js'
import { CELLS_PER_SEGMENT, createLimiterRegion, HOLDS_PER_MEMBER, readLimiterLayout } from '../../src/shared/limiter-layout.js'
import { LimiterLocks } from '../../src/shared/limiter-locks.js'
import { LocalLimiterStore } from '../../src/shared/limiter-store.js'
import { localStore, START_MS, specOf } from '../support/limits.js'

const minute: LimitRule = { algorithm: 'fixed-window', limit: 2, windowMs: 60_000, start: 'clock' }

describe('a table of one segment', () => {
  test('holds as many keys as it has cells, each exact', () => {
    const { store } = localStore({ cells: CELLS_PER_SEGMENT })
    const limiter = store.bind(specOf([minute]))
    const out = limiter.decision()
    const verdicts = new Set<string>()
    for (let round = 0; round < 3; round++) {
      for (let key = 0; key < CELLS_PER_SEGMENT; key++) verdicts.add(`${round} ${limiter.check(`key${key}`, 1, out).allowed} ${out.basis}`)
    }
    expect([...verdicts]).toEqual(['0 true exact', '1 true exact', '2 false exact'])
    expect(store.fill()).toBe(1)
    expect(store.stats()).toMatchObject({ cells: CELLS_PER_SEGMENT, sharedDecisions: 0, fullDecisions: 0 })
  })

  test('when it is full, further keys of a rule share one cell, counted; nobody is unlimited and no live key is thrown out', () => {
    const { store, time } = localStore({ cells: CELLS_PER_SEGMENT })
    const limiter = store.bind(specOf([minute]))
    const out = limiter.decision()
    for (let key = 0; key < CELLS_PER_SEGMENT; key++) limiter.check(`key${key}`, 2, out)
    const further = Array.from({ length: 50 }, (_, key) => {
      limiter.check(`further${key}`, 1, out)
      return `${out.allowed} ${out.basis}`
    })
    expect(further.filter((verdict) => verdict === 'true shared')).toHaveLength(2)
    expect(further.filter((verdict) => verdict === 'false shared')).toHaveLength(48)
    expect(store.stats()).toMatchObject({ sharedDecisions: 50, fullDecisions: 0 })
    for (let key = 0; key < CELLS_PER_SEGMENT; key++)
      expect(limiter.check(`key${key}`, 1, out)).toMatchObject({ allowed: false, basis: 'exact' })
    // What has expired makes room, without any sweep.
    time.nowMs += 60_000
    expect(limiter.check('further0', 1, out)).toMatchObject({ allowed: true, basis: 'exact' })
    expect(out.rules[0]?.used).toBe(1)
  })

  test('when the shared cells are used up too, requests are refused and counted', () => {
    const { store } = localStore({ cells: CELLS_PER_SEGMENT })
    const out = new Decision(1)
    const first = store.bind(specOf([minute]))
    for (let key = 0; key < CELLS_PER_SEGMENT; key++) first.check(`key${key}`, 1, out)
    for (let scope = 0; scope < CELLS_PER_SEGMENT; scope++) {
      expect(store.bind(specOf([minute], { scope: `scope${scope}` })).check('key', 1, out)).toMatchObject({
        allowed: true,
        basis: 'shared',
      })
    }
    expect(store.bind(specOf([minute], { scope: 'last' })).check('key', 1, out)).toMatchObject({
      allowed: false,
      basis: 'full',
      refusedBy: 0,
    })
    expect(store.stats().fullDecisions).toBe(1)
  })

  test('rules of one request never get the same free cell', () => {
    const { store, time } = localStore({ cells: CELLS_PER_SEGMENT })
    const spec = specOf(Array.from({ length: 16 }, (_, index): LimitRule => ({ ...minute, limit: 1000, windowMs: 60_000 + index })))
    const limiter = store.bind(spec)
    const out = limiter.decision()
    // Full of dead cells of other keys, and of the own ones of earlier minutes.
    for (let round = 1; round < 200; round++) {
      time.nowMs += 61_000
      for (let request = 1; request <= 2; request++) {
        limiter.check(`key${round % 7}`, 1, out)
        for (const rule of out.rules) expect(rule.used).toBeLessThanOrEqual(request)
      }
      limiter.peek(`key${round % 7}`, 1, out)
      expect(out.rules.reduce((sum, rule) => sum + rule.used, 0)).toBeGreaterThanOrEqual(16)
    }
  })
})

describe('sliding logs', () => {
  test('a log that finds no room is refused and counted, and charges nothing', () => {
    const { store } = localStore({ cells: 10_000, logEntries: 1 })
    const limiter = store.bind(
      specOf([
        { ...minute, limit: 1000 },
        { algorithm: 'sliding-log', limit: 10_000, windowMs: 60_000 },
      ]),
    )
    const out = limiter.decision()
    let admitted = 0
    for (let key = 0; key < 40; key++) for (let batch = 0; batch < 10; batch++) if (limiter.check(`key${key}`, 100, out).allowed) admitted++
    expect(out).toMatchObject({ allowed: false, basis: 'full', refusedBy: 1 })
    expect(store.stats().fullDecisions).toBeGreaterThan(0)
    // 1024 chunks of 32; the last of each key is partly empty.
    expect(admitted * 100).toBeLessThanOrEqual(32 * 1024)
    expect(admitted * 100).toBeGreaterThan(16 * 1000)
    const refused = limiter.peek('key39', 1, out).rules
    expect(refused[0]?.used).toBe(refused[1]?.used)
  })
})

describe('requests in flight', () => {
  const spec = specOf([
    { algorithm: 'concurrency', limit: 3, ttlMs: 1000 },
    { algorithm: 'concurrency', limit: 5, ttlMs: 1000 },
  ])

  test('are returned by release, once, with all their rules', () => {
    const { store } = localStore()
    const limiter = store.bind(spec)
    const out = limiter.decision()
    const holds = [0, 1, 2].map(() => limiter.check('key', 1, out).hold)
    expect(limiter.check('key', 1, out)).toMatchObject({ allowed: false, hold: -1, refusedBy: 0 })
    limiter.release(holds[1] ?? -1)
    limiter.release(holds[1] ?? -1)
    limiter.release(-1)
    limiter.release(4711)
    expect(limiter.peek('key', 1, out).rules.map((rule) => rule.used)).toEqual([2, 2])
    for (const hold of [holds[0], holds[2]]) limiter.release(hold ?? -1)
    expect(limiter.peek('key', 1, out).rules.map((rule) => rule.used)).toEqual([0, 0])
    expect(store.fill()).toBe(0)
  })

  test('do not run out by time, and come back when their worker dies', () => {
    const { store, region, time } = localStore({ members: 3 })
    const other = new LocalLimiterStore(region, 1, () => time.nowMs)
    const mine = store.bind(spec)
    const its = other.bind(spec)
    const out = mine.decision()
    mine.check('key', 1, out)
    its.check('key', 1, out)
    its.check('key', 1, out)
    time.nowMs += 30 * 86_400_000
    expect(mine.peek('key', 1, out).rules.map((rule) => rule.used)).toEqual([3, 3])
    const primary = new LocalLimiterStore(region, 2, () => time.nowMs)
    expect(primary.recoverMember(1)).toBe(4)
    expect(mine.peek('key', 1, out).rules.map((rule) => rule.used)).toEqual([1, 1])
    expect(primary.recoverMember(1)).toBe(0)
    expect(primary.stats().recoveredHolds).toBe(4)
    // The replacement starts with an empty ledger in the same place.
    const next = new LocalLimiterStore(region, 1, () => time.nowMs).bind(spec)
    next.release(next.check('key', 1, out).hold)
    expect(mine.peek('key', 1, out).rules.map((rule) => rule.used)).toEqual([1, 1])
  })

  test('more than a worker can note are refused and counted', () => {
    const { store } = localStore()
    const limiter = store.bind(specOf([{ algorithm: 'concurrency', limit: 1_000_000, ttlMs: 1000 }]))
    const out = limiter.decision()
    let admitted = 0
    while (limiter.check('key', 1, out).allowed) admitted++
    expect(admitted).toBe(HOLDS_PER_MEMBER)
    expect(limiter.check('key', 1, out)).toMatchObject({ allowed: false, basis: 'full', hold: -1 })
    limiter.release(17)
    expect(limiter.check('key', 1, out)).toMatchObject({ allowed: true, hold: 17 })
  })
})

describe('a transaction that ends at any step', () => {
  /** Runs the steps of a transaction on two cells up to `last`, as member 0 does; then member 1 recovers it. */
  function dieAfter(last: 'begin' | 'lock' | 'stage' | 'commit' | 'apply') {
    const region = createLimiterRegion({ members: 2, cells: 2 * CELLS_PER_SEGMENT, logEntries: 1, seed: [1, 1] })
    const words = new Int32Array(region)
    const layout = readLimiterLayout(words)
    const locks = new LimiterLocks(words, layout, 0)
    const segments = [layout.cells, layout.cells + 1024] as const
    const cells = [segments[0] + 16, segments[1] + 16] as const
    const stages = ['begin', 'lock', 'stage', 'commit', 'apply']
    const reached = (stage: string) => stages.indexOf(last) >= stages.indexOf(stage)
    locks.begin()
    if (reached('lock')) for (const segment of segments) locks.lock(segment)
    if (reached('stage')) for (const cell of cells) locks.stage(cell, 1, 2, 3, 4, 5)
    // From here on as `commit` does it, which cannot be stopped in the middle from outside.
    if (reached('commit')) words[layout.journals] = 1
    if (reached('apply')) {
      words.set([1, 2, 3, 4, 5], cells[0])
      Atomics.store(words, segments[0], 0)
      // Somebody else has had the freed cell since.
      words[cells[0] + 3] = 99
    }
    const recovered = new LimiterLocks(words, layout, 0).recover()
    return { recovered, held: segments.map((segment) => words[segment]), counts: cells.map((cell) => words[cell + 3]) }
  }

  test.each([
    ['begin', { recovered: false, held: [0, 0], counts: [0, 0] }],
    ['lock', { recovered: true, held: [0, 0], counts: [0, 0] }],
    ['stage', { recovered: true, held: [0, 0], counts: [0, 0] }],
    ['commit', { recovered: true, held: [0, 0], counts: [4, 4] }],
    ['apply', { recovered: true, held: [0, 0], counts: [99, 4] }],
  ] as const)('%s', (last, expected) => {
    expect(dieAfter(last)).toEqual(expected)
  })

  test('a request that throws in the middle leaves no lock behind', () => {
    const { region } = localStore()
    let fails = false
    const store = new LocalLimiterStore(region, 0, () => {
      if (fails) throw new Error('no time')
      return START_MS
    })
    const limiter = store.bind(specOf([minute]))
    const out = limiter.decision()
    limiter.check('key', 1, out)
    fails = true
    expect(() => limiter.check('key', 1, out)).toThrow('no time')
    const other = new LocalLimiterStore(region, 1, () => START_MS).bind(specOf([minute]))
    expect(other.check('key', 1, out).rules[0]?.used).toBe(2)
  })
})

describe('regions', () => {
  test('wrong sizes, members and foreign regions are refused by name', () => {
    const sizes = { members: 1, cells: 1, logEntries: 1, seed: [0, 0] } as const
    for (const name of ['members', 'cells', 'logEntries']) {
      expect(() => createLimiterRegion({ ...sizes, [name]: 0 })).toThrow(`limiter ${name} is 0; it must be a whole number above 0`)
    }
    expect(() => createLimiterRegion({ ...sizes, cells: 1e9 })).toThrow('at most 4 GiB')
    expect(() => new LocalLimiterStore(createLimiterRegion(sizes), 1, () => 0)).toThrow('limiter member 1 does not exist')
    expect(() => new LocalLimiterStore(new SharedArrayBuffer(4096), 0, () => 0)).toThrow('limiter region of 1024 words and version 0')
  })

  test('two thirds full, a key takes at most 32 bytes', () => {
    const region = createLimiterRegion({ members: 1, cells: 14_700_000, logEntries: 1, seed: [0, 0] })
    const layout = readLimiterLayout(new Int32Array(region))
    expect(((layout.log - layout.cells) * 4) / 10_000_000).toBeLessThanOrEqual(32)
  })
})
