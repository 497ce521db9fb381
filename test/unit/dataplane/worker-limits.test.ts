import { describe, expect, test } from 'vitest'
import { limitAlone } from '../../../src/dataplane/limits/limit-group.js'
import { WorkerLimits } from '../../../src/dataplane/limits/worker-limits.js'
import { linkChain } from '../../../src/dataplane/phases/chain.js'
import { compileKeyTemplate } from '../../../src/dataplane/vars/key-template.js'
import { type BoundLimiter, Decision, type LimiterSpec, type LimiterStore } from '../../../src/limits/contract.js'
import { definePlugin, type PluginInstance, Type } from '../../../src/plugins/plugin.js'
import { MetricsDirectory } from '../../../src/shared/metrics-directory.js'
import { WorkerMetrics } from '../../../src/shared/metrics-slab.js'
import { createRegions } from '../../../src/shared/regions.js'
import { fakeExchange } from '../../support/fake-exchange.js'
import { FakeLimits, linkKit } from '../../support/link-kit.js'

const local: LimiterSpec = {
  scope: 's',
  rules: [{ algorithm: 'fixed-window', limit: 2, windowMs: 60_000, start: 'clock' }],
  countRefused: false,
  dryRun: false,
  store: { kind: 'local' },
}
const connection = { nodes: [], username: null, password: null, database: 0, tls: null, timeoutMs: 1, sentinel: null }
const remote: LimiterSpec = { ...local, store: { kind: 'redis', mode: 'exact', connection, onFailure: 'allow' } }

/** Answers later, always with this basis. */
function answering(basis: Decision['basis']): LimiterStore {
  return {
    bind: (spec): BoundLimiter => ({
      spec,
      joint: null,
      giveBack: () => undefined,
      decision: () => new Decision(1),
      peek: (_keys, _cost, out) => out,
      release: () => undefined,
      check: async (_keys, _cost, out) => Object.assign(out, { basis, allowed: basis === 'allowed' }),
    }),
  }
}

function setup(basis: Decision['basis'] = 'allowed') {
  const regions = createRegions(1)
  const directory = new MetricsDirectory(regions.metrics)
  const [slab] = regions.metrics
  if (slab === undefined) throw new Error('there is no slab')
  const metrics = new WorkerMetrics(slab, (slot, labels) => directory.declare(0, slot, labels))
  const waiting: (() => void)[] = []
  const timers: number[] = []
  const cancelled: number[] = []
  const after = (ms: number, callback: () => void) => {
    const index = timers.push(ms) - 1
    waiting.push(callback)
    return () => {
      cancelled.push(index)
    }
  }
  const limits = new WorkerLimits({ local: new FakeLimits(), redis: answering(basis) }, metrics, after)
  /** Asks as the gateway does, for one request. */
  const ask = async (limiter: BoundLimiter): Promise<Decision[]> => {
    const decisions: Decision[] = []
    const limit = {
      ask: () => ({ limiter, keys: 'k', cost: 1 }),
      conclude: (_exchange: unknown, decision: Decision) => {
        decisions.push(decision)
        return decision.allowed ? undefined : { status: 429 }
      },
    }
    const instance = limitAlone({ limit }, 0, (ms) => limits.queue(ms))
    const exchange = fakeExchange()
    await instance.access?.(exchange)
    instance.log?.(exchange)
    return decisions
  }
  const counted = (): Record<string, number> =>
    Object.fromEntries(
      directory
        .series()
        .filter(({ labels, cells }) => labels[1] === 'rate_limit_requests' && cells[0] !== 0)
        .map(({ labels, cells }) => [labels.slice(2).join(' '), cells[0] ?? 0]),
    )
  return { limits, counted, directory, waiting, timers, cancelled, ask }
}

describe('limiters of a worker', () => {
  test('count what they decide', async () => {
    const { limits, counted, ask } = setup()
    const limiter = limits.bind('p', 'r', local)
    for (let sent = 0; sent < 5; sent++) await ask(limiter)
    limiter.peek('k', 1, limiter.decision())
    expect(counted()).toEqual({ 'p r allowed': 2, 'p r limited': 3 })
  })

  test('count what would have been refused', async () => {
    const { limits, counted, ask } = setup()
    const limiter = limits.bind('p', '', { ...local, dryRun: true })
    for (let sent = 0; sent < 3; sent++) await ask(limiter)
    expect(counted()).toEqual({ 'p  allowed': 2, 'p  dry_run': 1 })
  })

  test.each(['allowed', 'refused'] as const)('count a failure of the store that was %s as an error', async (basis) => {
    const { limits, counted, ask } = setup(basis)
    expect((await ask(limits.bind('p', 'r', remote)))[0]?.basis).toBe(basis)
    expect(counted()).toEqual({ 'p r error': 1 })
  })

  test('say how many requests wait; who leaves waits no more', async () => {
    const { limits, directory, waiting, cancelled } = setup()
    const places = [limits.queue(5), limits.queue(6), limits.queue(7)]
    expect(directory.fixed().queuedByLimits).toBe(3)
    waiting[0]?.()
    await places[0]?.over
    expect(directory.fixed().queuedByLimits).toBe(2)
    places[1]?.leave()
    places[1]?.leave()
    await places[1]?.over
    expect(cancelled).toContain(1)
    expect(directory.fixed().queuedByLimits).toBe(1)
    directory.retire(0)
    expect(directory.fixed().queuedByLimits).toBe(0)
  })

  test('wait longer than one timer can', async () => {
    const { limits, directory, waiting, timers } = setup()
    const longest = 2 ** 31 - 1
    const { over } = limits.queue(2 * longest + 5)
    for (let timer = 0; timer < 3; timer++) {
      expect(directory.fixed().queuedByLimits).toBe(1)
      waiting[timer]?.()
      await Promise.resolve().then(() => undefined)
    }
    await over
    expect(timers).toEqual([longest, longest, 5])
    expect(directory.fixed().queuedByLimits).toBe(0)
  })
})

test('a plugin that gives something back is logged whatever its filter says by then', () => {
  const plugin = (name: string, instance: PluginInstance) =>
    definePlugin({ name, priority: 1, description: 'For tests.', schema: Type.Object({}), prepare: () => ({}), link: () => instance })
  const instance = { log: () => undefined }
  const plugins = new Map([
    ['giving', plugin('giving', { ...instance, alwaysLogs: true })],
    ['plain', plugin('plain', instance)],
  ])
  const compiled = ['giving', 'plain'].map((name) => ({
    name,
    priority: 1,
    prepared: {},
    filter: [['arg_x', '==', '1']],
    errorResponse: null,
    owner: 'routes/1',
  }))
  const { log } = linkChain(compiled, plugins, linkKit())
  expect(log.map(({ name, filter }) => [name, filter === null])).toEqual([
    ['giving', true],
    ['plain', false],
  ])
})

test.each([
  ['constant', 'constant'],
  ['$http_x_a', undefined],
  ['$http_x_a-$remote_addr', '-10.0.0.9'],
  ['a $http_x_a b', undefined],
  ['$http_x_empty', undefined],
  ['\\$x', '$x'],
])('the key template %j names %j', (text, key) => {
  const exchange = fakeExchange({ clientAddress: '10.0.0.9', headers: { 'X-Empty': '' } })
  expect(compileKeyTemplate(text)(exchange)).toBe(key)
})
