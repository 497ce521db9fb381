import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Json, PluginConfigError, type PluginInstance, type PrepareKit } from '../../src/plugins/plugin.js'
import { trafficSplit } from '../../src/plugins/traffic-split.js'
import { type FakeHeaders, fakeExchange } from '../support/fake-exchange.js'
import { configure, problemsOf, requestPhases } from './configured.js'

const own = 7

/** Upstreams by id are 100 and up; inline ones carry their index in `name`. */
const upstream: PrepareKit['upstream'] = (reference) => {
  if ('id' in reference) {
    if (reference.id === 'missing') throw new PluginConfigError('there is no upstream "missing"', reference.path)
    return 100 + Number(reference.id)
  }
  const { inline } = reference
  return typeof inline === 'object' && inline !== null && !Array.isArray(inline) ? Number(inline['name']) : -1
}

function link(conf: Json): PluginInstance {
  return configure(trafficSplit, conf, { upstream })
}

async function picks(instance: PluginInstance, count: number, headers: FakeHeaders = {}, target = '/'): Promise<number[]> {
  const found: number[] = []
  for (let index = 0; index < count; index++) {
    const exchange = fakeExchange({ headers, target })
    exchange.upstreamIndex = own
    expect(await requestPhases(instance, exchange)).toBeUndefined()
    found.push(exchange.upstreamIndex)
  }
  return found
}

function tally(found: readonly number[]): Record<number, number> {
  const counts: Record<number, number> = {}
  for (const index of found) counts[index] = (counts[index] ?? 0) + 1
  return counts
}

const always = (...weighted: Json[]): Json => ({ rules: [{ weighted_upstreams: weighted }] })

describe('traffic-split', () => {
  test('weights are exact over every cycle', async () => {
    const instance = link(always({ upstream_id: 1, weight: 8 }, { weight: 2 }))
    const found = await picks(instance, 100)
    expect(tally(found)).toEqual({ 101: 80, [own]: 20 })
    for (let start = 0; start < 100; start += 10) expect(tally(found.slice(start, start + 10))).toEqual({ 101: 8, [own]: 2 })
  })

  test('property: any weights, any cycle', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(9), { minLength: 1, maxLength: 20 }), fc.nat(30), async (weights, offset) => {
        const total = weights.reduce((sum, weight) => sum + weight, 0)
        fc.pre(total > 0)
        const instance = link(always(...weights.map((weight, index) => ({ upstream_id: String(index), weight }))))
        await picks(instance, offset)
        const expected: Record<number, number> = {}
        for (const [index, weight] of weights.entries()) if (weight > 0) expected[100 + index] = weight
        if (offset % total === 0) expect(tally(await picks(instance, total))).toEqual(expected)
        else {
          await picks(instance, total - (offset % total))
          expect(tally(await picks(instance, total))).toEqual(expected)
        }
      }),
      { seed: 20260102, numRuns: 100, verbose: 1 },
    )
  })

  test('weights default to 1, and no weighted_upstreams means the own upstream', async () => {
    expect(tally(await picks(link(always({ upstream_id: 1 }, { upstream_id: 2 })), 10))).toEqual({ 101: 5, 102: 5 })
    expect(tally(await picks(link({ rules: [{}] }), 3))).toEqual({ [own]: 3 })
  })

  test('weight 0 is never picked', async () => {
    expect(tally(await picks(link(always({ upstream_id: 1, weight: 0 }, { upstream_id: 2, weight: 3 })), 9))).toEqual({ 102: 9 })
  })

  test('inline upstreams', async () => {
    const inline = { name: '3', nodes: { '127.0.0.1:1': 1 } }
    expect(tally(await picks(link(always({ upstream: inline, weight: 1 }, { weight: 1 })), 4))).toEqual({ 3: 2, [own]: 2 })
  })

  test('conditions within a rule are OR-ed, within vars AND-ed', async () => {
    const instance = link({
      rules: [
        {
          match: [
            {
              vars: [
                ['arg_a', '==', '1'],
                ['http_x', '==', 'y'],
              ],
            },
            { vars: [['arg_b', '>', 5]] },
          ],
          weighted_upstreams: [{ upstream_id: 1 }],
        },
      ],
    })
    expect(await picks(instance, 1, { X: 'y' }, '/?a=1')).toEqual([101])
    expect(await picks(instance, 1, {}, '/?a=1')).toEqual([own])
    expect(await picks(instance, 1, {}, '/?b=6')).toEqual([101])
    expect(await picks(instance, 1, {}, '/?b=5')).toEqual([own])
  })

  test('the first rule that applies decides', async () => {
    const instance = link({
      rules: [
        { match: [{ vars: [['http_release', '==', 'one']] }], weighted_upstreams: [{ upstream_id: 1 }] },
        { match: [{ vars: [['http_release', '~~', '^(one|two)$']] }], weighted_upstreams: [{ upstream_id: 2 }] },
        { match: [], weighted_upstreams: [{ upstream_id: 3, weight: 1 }, { weight: 1 }] },
        { weighted_upstreams: [{ upstream_id: 4 }] },
      ],
    })
    expect(await picks(instance, 1, { release: 'one' })).toEqual([101])
    expect(await picks(instance, 1, { release: 'two' })).toEqual([102])
    expect(tally(await picks(instance, 4))).toEqual({ 103: 2, [own]: 2 })
  })

  test('rules count apart from each other', async () => {
    const instance = link({
      rules: [
        { match: [{ vars: [['arg_v', '==', '1']] }], weighted_upstreams: [{ upstream_id: 1 }, { upstream_id: 2 }] },
        { weighted_upstreams: [{ upstream_id: 3 }, { upstream_id: 4 }] },
      ],
    })
    const mixed: number[] = []
    for (let round = 0; round < 4; round++) mixed.push(...(await picks(instance, 1, {}, '/?v=1')), ...(await picks(instance, 1)))
    expect(tally(mixed)).toEqual({ 101: 2, 102: 2, 103: 2, 104: 2 })
  })

  test.each(['http_x_user', '$http_x_user'])('sticky_key %s: the same value goes to the same upstream', async (sticky_key) => {
    const conf = { sticky_key, rules: [{ weighted_upstreams: [{ upstream_id: 1, weight: 3 }, { weight: 1 }] }] }
    const [first, second] = [link(conf), link(conf)]
    const found: number[] = []
    for (let user = 0; user < 400; user++) {
      const chosen = await picks(first, 3, { 'X-User': `user-${user}` })
      expect(new Set(chosen).size).toBe(1)
      expect(await picks(second, 1, { 'X-User': `user-${user}` })).toEqual(chosen.slice(0, 1))
      found.push(...chosen.slice(0, 1))
    }
    const share = tally(found)[101] ?? 0
    expect(share).toBeGreaterThan(260)
    expect(share).toBeLessThan(340)
  })

  test('raising the share of the canary only moves users towards it', async () => {
    const at = (weight: number) =>
      link({ rules: [{ sticky_key: 'arg_u', weighted_upstreams: [{ upstream_id: 1, weight }, { weight: 100 - weight }] }] })
    const [before, after] = [at(10), at(30)]
    let moved = 0
    for (let user = 0; user < 400; user++) {
      const [was] = await picks(before, 1, {}, `/?u=${user}`)
      const [is] = await picks(after, 1, {}, `/?u=${user}`)
      if (was === 101) expect(is).toBe(101)
      else if (is === 101) moved++
    }
    expect(moved).toBeGreaterThan(40)
  })

  test('requests without a sticky value go by turns', async () => {
    const conf = { rules: [{ sticky_key: 'cookie_user', weighted_upstreams: [{ upstream_id: 1 }, { upstream_id: 2 }] }] }
    expect(tally(await picks(link(conf), 10))).toEqual({ 101: 5, 102: 5 })
  })

  test('a sticky entry of weight 0 is never picked', async () => {
    const instance = link({ sticky_key: 'arg_u', rules: [{ weighted_upstreams: [{ upstream_id: 1, weight: 0 }, { upstream_id: 2 }] }] })
    for (let user = 0; user < 50; user++) expect(await picks(instance, 1, {}, `/?u=${user}`)).toEqual([102])
  })

  test('an upstream that does not exist is a configuration error with its place', () => {
    const conf = { rules: [{ match: [{ vars: [['arg_a', '==', '1']] }], weighted_upstreams: [{ weight: 1 }, { upstream_id: 'missing' }] }] }
    expect(() => link(conf)).toThrow(PluginConfigError)
    expect(() => link(conf)).toThrow('there is no upstream "missing"')
    try {
      link(conf)
    } catch (error) {
      expect(error instanceof PluginConfigError && error.path).toBe('rules.0.weighted_upstreams.1.upstream_id')
    }
  })

  test('all weights 0, both kinds of upstream and broken expressions are configuration errors', () => {
    expect(problemsOf(trafficSplit, always({ weight: 0 }, { upstream_id: 1, weight: 0 }))).toEqual([
      'rules.0.weighted_upstreams: all weights are 0; expected at least one weight above 0',
    ])
    expect(problemsOf(trafficSplit, always({ upstream_id: 1, upstream: {} }))[0]).toMatch(
      /^rules\.0\.weighted_upstreams\.0: upstream_id and upstream/,
    )
    const broken = { rules: [{ match: [{ vars: [['arg_a', 'xx', '1']] }] }] }
    expect(problemsOf(trafficSplit, broken)[0]).toMatch(
      /^rules\.0\.match\.0\.vars: failed to validate the 'vars' expression: invalid operator 'xx'/,
    )
  })

  test.each<[Json]>([
    [{}],
    [{ rules: [] }],
    [always({ weight: -1 })],
    [always(...Array.from({ length: 21 }, () => ({ weight: 1 })))],
    [always()],
    [{ rules: [{ match: [{}] }] }],
    [{ rules: [{}], sticky_key: 'not a name' }],
    [{ rules: [{ sticky_key: 'post_arg_user' }] }],
  ])('refuses %j', (conf) => {
    expect(problemsOf(trafficSplit, conf)).toHaveLength(1)
  })
})
