import { expect, test } from 'vitest'
import { lookUpLimits } from '../../../src/cli/limit-lookup.js'
import type { LimiterSpec, StoreSpec } from '../../../src/limits/contract.js'
import type { OverriddenRule } from '../../../src/limits/declared.js'
import { FakeLimits } from '../../support/link-kit.js'

const connection = { nodes: [], username: null, password: null, database: 0, tls: null, timeoutMs: 1, sentinel: null }
const lease: StoreSpec = { kind: 'redis', mode: 'lease', connection, onFailure: 'refuse' }

async function look(store: StoreSpec, overridden?: readonly OverriddenRule[]): Promise<unknown> {
  const limits = new FakeLimits()
  const spec: LimiterSpec = {
    scope: 's',
    rules: [{ algorithm: 'fixed-window', limit: 5, windowMs: 60_000, start: 'clock' }],
    countRefused: false,
    dryRun: false,
    store,
  }
  const limiter = limits.bind(spec)
  limiter.check('k', 2, limiter.decision())
  const declared = { plugin: 'limit-count', owner: 'global_rules/1', spec, perRoute: false, oneKey: false }
  const found = await lookUpLimits(
    { key: 'k', route: null },
    {
      limiters: [overridden === undefined ? declared : { ...declared, overridden }],
      routes: [],
      local: limits,
      redis: () => Promise.resolve(limits),
    },
  )
  return Reflect.get(Object(found), 'limits')
}

test('what is configured is shown', async () => {
  expect(await look({ kind: 'local' })).toMatchObject([
    { store: 'local', would_admit: true, rules: [{ limit: 5, used: 2, remaining: 3, window_s: 60 }] },
  ])
})

test('batches are shown as what they are', async () => {
  expect(await look(lease)).toMatchObject([{ store: 'lease', server: 'redis', rules: [{ used: 2 }] }])
})

test('what each request brings along is not made up', async () => {
  expect(await look({ kind: 'local' }, [{ limit: true, window: false }])).toMatchObject([
    { would_admit: null, rules: [{ limit: null, used: 2, remaining: null, window_s: 60, retry_after_s: null }] },
  ])
  expect(await look({ kind: 'local' }, [{ limit: false, window: true }])).toMatchObject([
    { would_admit: null, rules: [{ limit: 5, used: null, remaining: null, window_s: null, reset_s: null }] },
  ])
})
