/** What tokens rest on: the bounded cache, the table of revocations, and the keeper of published keys. */
import { createHash, generateKeyPairSync } from 'node:crypto'
import { inspect } from 'node:util'
import { describe, expect, test } from 'vitest'
import { BadTokenBudget } from '../../../src/auth/bad-token-budget.js'
import { CheckedToken } from '../../../src/auth/checked-token.js'
import { KeySetKeeper } from '../../../src/auth/key-set-keeper.js'
import { type KeySetNews, type KeySetSpec, keySetId } from '../../../src/auth/key-set-news.js'
import { KeySets } from '../../../src/auth/key-sets.js'
import { type KeySource, TokenProblem } from '../../../src/auth/key-source.js'
import { tokenDigest } from '../../../src/auth/token-digest.js'
import { secretKey } from '../../../src/auth/token-key.js'
import { TokenService } from '../../../src/auth/token-service.js'
import { ManualClock } from '../../../src/base/clock.js'
import { S3Fifo } from '../../../src/base/s3-fifo.js'
import { createRevocationsRegion, RevocationReader, RevocationTable, revocationDigest } from '../../../src/shared/revocations.js'
import { hs256 } from '../../plugins/tokens.js'

describe('S3-FIFO', () => {
  test('a flood of keys that never come back does not push out those that do', () => {
    const cache = new S3Fifo<number>(100)
    for (let round = 0; round < 3; round++)
      for (let key = 0; key < 50; key++) if (cache.get(`k${key}`) === undefined) cache.set(`k${key}`, key)
    for (let key = 0; key < 10_000; key++) {
      cache.set(`flood ${key}`, key)
      if (key % 20 === 0) for (let kept = 0; kept < 50; kept++) cache.get(`k${kept}`)
    }
    expect(cache.size).toBeLessThanOrEqual(100)
    expect(Array.from({ length: 50 }, (_, key) => cache.get(`k${key}`))).toEqual(Array.from({ length: 50 }, (_, key) => key))
  })

  test('weights are bounded, replaced and given back', () => {
    const cache = new S3Fifo<string>(1_000)
    cache.set('large', 'x', 101)
    expect(cache.get('large')).toBeUndefined()
    for (let key = 0; key < 200; key++) cache.set(`k${key}`, 'x', 50)
    expect(cache.weight).toBeLessThanOrEqual(1_000)
    cache.set('k199', 'y', 10)
    expect(cache.get('k199')).toBe('y')
    for (let key = 0; key < 200; key++) cache.delete(`k${key}`)
    expect([cache.size, cache.weight]).toEqual([0, 0])
    for (let turn = 0; turn < 5_000; turn++) {
      cache.set('again', 'x', 5)
      cache.delete('again')
    }
    expect([cache.size, cache.weight]).toEqual([0, 0])
  })
})

test('a token stands for its SHA-256', () => {
  for (const text of ['', 'a.b.c', 'é😀', 'x'.repeat(20_000)])
    expect(Buffer.from(tokenDigest(text), 'latin1').toString('hex')).toBe(createHash('sha256').update(text, 'utf8').digest('hex'))
})

describe('what bad tokens may cost', () => {
  const SLICE_MS = 100
  const FREE = 100
  const ALL = 500

  function budgetAt(startMs: number) {
    const clock = { ms: startMs }
    return { clock, budget: new BadTokenBudget(() => clock.ms) }
  }

  test('one client that sends nothing but bad ones is looked at a hundred times a slice; others go on', () => {
    const { clock, budget } = budgetAt(10_000)
    for (let slice = 0; slice < 3; slice++) {
      let looked = 0
      for (let index = 0; index < 1_000; index++) {
        if (!budget.admits('bad')) continue
        looked++
        budget.charge('bad')
      }
      expect(looked).toBe(FREE)
      expect(budget.admits('good')).toBe(true)
      clock.ms += SLICE_MS
    }
  })

  test('many clients together have a bound too, and who was bad in the slice before waits longer', () => {
    const { clock, budget } = budgetAt(10_000)
    let looked = 0
    for (let index = 0; index < 2_000; index++) {
      if (!budget.admits(`bad ${index}`)) continue
      looked++
      budget.charge(`bad ${index}`)
    }
    expect(looked).toBe(ALL)
    expect(budget.admits('good')).toBe(false)
    clock.ms += SLICE_MS
    for (let index = 0; index < FREE; index++) budget.charge('another')
    expect([budget.admits('bad 0'), budget.admits('good')]).toEqual([false, true])
    clock.ms += SLICE_MS
    for (let index = 0; index < FREE; index++) budget.charge('another')
    expect(budget.admits('bad 0')).toBe(true)
    clock.ms += 50 * SLICE_MS
    for (let index = 0; index < FREE; index++) budget.charge('yet another')
    expect([budget.admits('another'), budget.admits('yet another')]).toEqual([true, false])
  })
})

describe('a flood of forged tokens', () => {
  const key = secretKey('HS256', 'a secret')
  const source: KeySource = { find: () => ({ key, binding: null }) }
  const genuine = hs256({ sub: 'one' }, 'a secret')

  test('is verified a hundred times a slice, while tokens that are known are served and new ones of others are verified', () => {
    const clock = { ms: 10_000 }
    const revocations = new RevocationReader(createRevocationsRegion([1, 2], 256))
    const service = new TokenService({ revocations, nowMs: () => clock.ms })
    expect(service.check(genuine, source, 'flooding')).toBeInstanceOf(CheckedToken)
    const outcomes = new Map<string, number>()
    for (let index = 0; index < 300; index++) {
      const found = service.check(hs256({ sub: `forged ${index}` }, 'another secret'), source, 'flooding')
      const reason = found instanceof TokenProblem ? found.reason : 'accepted'
      outcomes.set(reason, (outcomes.get(reason) ?? 0) + 1)
      expect(service.check(genuine, source, 'flooding')).toBeInstanceOf(CheckedToken)
    }
    expect(Object.fromEntries(outcomes)).toEqual({ signature: 100, overload: 200 })
    expect(service.verifications).toBe(101)
    expect(service.check(hs256({ sub: 'two' }, 'a secret'), source, 'elsewhere')).toBeInstanceOf(CheckedToken)
    expect(service.check(hs256({ sub: 'three' }, 'a secret'), source, 'flooding')).toMatchObject({ reason: 'overload' })
    // A token that was genuine is verified again when its time is over, flood or not.
    clock.ms += 60_000
    for (let index = 0; index < 100; index++) service.check(hs256({ sub: `more ${index}` }, 'another secret'), source, 'flooding')
    const before = service.verifications
    expect(service.check(genuine, source, 'flooding')).toBeInstanceOf(CheckedToken)
    expect(service.verifications).toBe(before + 1)
    expect(service.check(hs256({ sub: 'three' }, 'a secret'), source, 'flooding')).toMatchObject({ reason: 'overload' })
    // Unless it is not genuine any more: that is found out once.
    clock.ms += 60_000
    for (let index = 0; index < 100; index++) service.check(hs256({ sub: `yet more ${index}` }, 'another secret'), source, 'flooding')
    const withdrawn = { find: () => new TokenProblem('key') }
    expect(service.check(genuine, withdrawn, 'flooding')).toMatchObject({ reason: 'key' })
    expect(service.check(genuine, withdrawn, 'flooding')).toMatchObject({ reason: 'overload' })
    clock.ms += 100
    expect(service.check(hs256({ sub: 'three' }, 'a secret'), source, 'flooding')).toBeInstanceOf(CheckedToken)
  })

  test('whoever finds what is remembered finds no token', () => {
    const service = new TokenService({ revocations: new RevocationReader(createRevocationsRegion([1, 2], 256)) })
    const found = service.check(genuine, source, '')
    const parts = genuine.split('.')
    // Signatures and payloads alike, in whatever is reachable from the service.
    expect(found).toBeInstanceOf(CheckedToken)
    const text = inspect([service, found], { depth: 20, maxArrayLength: null, maxStringLength: null })
    expect(text).toContain('one')
    for (const part of parts) expect(text).not.toContain(part)
  })
})

describe('the table of revocations', () => {
  test('finds what is in force, forgets what is over, and refuses what finds no place', () => {
    const region = createRevocationsRegion([7, 9], 256)
    const table = new RevocationTable(region)
    const reader = new RevocationReader(region)
    expect(reader.version()).toBe(0)
    let taken = 0
    while (table.add(`digest ${taken}`, 100, 10)) taken++
    expect(taken).toBeGreaterThan(128)
    expect(taken).toBeLessThanOrEqual(256)
    for (let index = 0; index < taken; index++) expect(reader.has(`digest ${index}`, 99)).toBe(true)
    expect(reader.has(`digest ${taken}`, 99)).toBe(false)
    expect(reader.has('digest 0', 100)).toBe(false)
    const version = reader.version()
    // Places of entries that are over are taken again; one that is there is only made longer.
    expect(table.add('digest 0', 300, 100)).toBe(true)
    expect(table.add('digest 0', 200, 100)).toBe(true)
    expect(table.add(`digest ${taken}`, 300, 100)).toBe(true)
    expect(reader.version()).toBeGreaterThan(version)
    expect([reader.has('digest 0', 299), reader.has(`digest ${taken}`, 299), reader.has('digest 1', 100)]).toEqual([true, true, false])
  })

  test('gives back what was undone, and finds what lies behind it', () => {
    const region = createRevocationsRegion([7, 9], 128)
    const table = new RevocationTable(region)
    for (let index = 0; index < 100; index++) table.add(`digest ${index}`, 100, 10)
    const version = table.version()
    for (let index = 0; index < 100; index += 2) table.remove(`digest ${index}`)
    table.remove('nothing of this name')
    expect(table.version()).toBeGreaterThan(version)
    for (let index = 0; index < 100; index++) expect(table.has(`digest ${index}`, 50)).toBe(index % 2 === 1)
    expect(table.add('digest 0', 100, 50)).toBe(true)
    expect(table.has('digest 0', 50)).toBe(true)
  })

  test('a token is known by what is signed, whatever its signature looks like; kinds are kept apart', () => {
    expect(revocationDigest('token', 'a.b.c')).toBe(revocationDigest('token', 'a.b.d'))
    expect(revocationDigest('token', 'a.b.c')).not.toBe(revocationDigest('token', 'a.x.c'))
    expect(revocationDigest('token', 'opaque')).not.toBe(revocationDigest('token', 'opaque2'))
    expect(revocationDigest('jti', 'a')).not.toBe(revocationDigest('sub', 'a'))
  })
})

const spec: KeySetSpec = { url: 'https://issuer/keys', issuer: '', verifyTls: true, refreshMs: 60_000, intervalMs: 3_000, timeoutMs: 1_000 }
const id = keySetId(spec)
const jwk = (kid: string) => ({ ...generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }), kid })

describe('published keys', () => {
  function keeper() {
    const clock = new ManualClock()
    const told: KeySetNews[] = []
    const logged: string[] = []
    const state: { fetches: number; answer: readonly object[] | Error } = { fetches: 0, answer: [jwk('one')] }
    const kept = new KeySetKeeper({
      clock,
      tell: (news) => told.push(news),
      log: (_level, message) => logged.push(message),
      fetch: async () => {
        state.fetches++
        if (state.answer instanceof Error) throw state.answer
        return state.answer
      },
    })
    /** Lets promises settle. */
    const settle = () => new Promise((resolve) => setImmediate(resolve))
    return { clock, told, logged, state, kept, settle }
  }

  test('are fetched at once, refreshed, and asked for no more often than the interval', async () => {
    const { clock, told, state, kept, settle } = keeper()
    kept.follow([spec])
    kept.follow([spec])
    await settle()
    expect([state.fetches, told.length]).toEqual([1, 1])
    for (let index = 0; index < 1_000; index++) kept.wanted(id)
    await settle()
    expect(state.fetches).toBe(1)
    clock.advance(3_000)
    await settle()
    expect(state.fetches).toBe(2)
    clock.advance(60_000)
    await settle()
    expect(state.fetches).toBe(3)
    kept.follow([])
    kept.wanted(id)
    clock.advance(600_000)
    await settle()
    expect(state.fetches).toBe(3)
  })

  test('stay known while the issuer is down, which is said once; pauses between attempts grow', async () => {
    const { clock, told, logged, state, kept, settle } = keeper()
    kept.follow([spec])
    await settle()
    state.answer = new Error('down')
    for (let second = 0; second < 200; second++) {
      clock.advance(1_000)
      await settle()
    }
    expect(state.fetches).toBeGreaterThan(4)
    expect(state.fetches).toBeLessThan(10)
    expect(told.at(-1)).toMatchObject({ keys: null, problem: 'down' })
    expect(kept.latest()).toHaveLength(1)
    expect(kept.latest()[0]?.keys).not.toBeNull()
    expect(logged).toHaveLength(1)
    state.answer = [jwk('two')]
    clock.advance(60_000)
    await settle()
    expect(logged).toHaveLength(2)
    await kept.close()
  })

  test('a worker waits for a key that it does not know, within a deadline and in bounded number', async () => {
    const clock = new ManualClock()
    const asked: string[] = []
    const sets = new KeySets(clock, (which) => asked.push(which))
    const set = sets.of(spec)
    const [one, two] = [jwk('one'), jwk('two')]
    sets.learn({ spec, keys: [one], problem: '', startedMs: clock.nowMs() })
    expect(set.find({ alg: 'EdDSA', kid: 'one' })).toMatchObject({ algorithm: 'EdDSA' })
    expect(set.find({ alg: 'EdDSA' })).toMatchObject({ algorithm: 'EdDSA' })
    for (const alg of ['RS256', 'none', 'HS256']) expect(set.find({ alg, kid: 'one' })).toBeInstanceOf(TokenProblem)
    expect(asked).toEqual([])
    clock.advance(1)
    const waiting = Promise.resolve(set.find({ alg: 'EdDSA', kid: 'two' }))
    expect(asked).toEqual([id])
    // This fetch had begun before the token came: the next one decides.
    sets.learn({ spec, keys: [one], problem: '', startedMs: clock.nowMs() - 1 })
    expect(asked).toHaveLength(2)
    sets.learn({ spec, keys: [one, two], problem: '', startedMs: clock.nowMs() + 1 })
    expect(await waiting).toMatchObject({ algorithm: 'EdDSA' })
    const outcomes = Array.from({ length: 300 }, (_, index) => set.find({ alg: 'EdDSA', kid: `random ${index}` }))
    expect(outcomes.filter((outcome) => outcome instanceof TokenProblem)).toHaveLength(300 - 256)
    clock.advance(10_000)
    expect(new Set((await Promise.all(outcomes)).map((outcome) => (outcome instanceof TokenProblem ? outcome.reason : 'found')))).toEqual(
      new Set(['unknown-key']),
    )
  })
})
