import { describe, expect, test } from 'vitest'
import { createFaultInjection } from '../../src/plugins/fault-injection.js'
import type { Json, PhaseReturn } from '../../src/plugins/plugin.js'
import { type FakeRequest, fakeExchange } from '../support/fake-exchange.js'
import { linkKit, linkPlugin, problemsOf } from '../support/link-kit.js'

/** What the request gets, and the delays it had; dice give the rolls in order. */
async function ask(conf: Json, request: FakeRequest = {}, rolls: readonly number[] = []): Promise<[Awaited<PhaseReturn>, number[]]> {
  const left = [...rolls]
  const kit = linkKit()
  const instance = linkPlugin(
    createFaultInjection(() => left.shift() ?? Number.NaN),
    conf,
    kit,
  )
  const result = await instance.rewrite?.(fakeExchange(request))
  expect(left, 'dice that were not thrown').toEqual([])
  return [result, kit.delays]
}

describe('abort', () => {
  test('status, body and headers with variables', async () => {
    const conf = { abort: { http_status: 503, body: 'no $uri', headers: { 'X-Ip': '$remote_addr', 'X-N': 1 } } }
    expect(await ask(conf, { target: '/p', clientAddress: '192.0.2.1' })).toEqual([
      {
        status: 503,
        body: 'no /p',
        headers: [
          ['X-Ip', '192.0.2.1'],
          ['X-N', '1'],
        ],
      },
      [],
    ])
  })

  test('without body the gateway words it', async () => {
    const [reply] = await ask({ abort: { http_status: 500 } })
    expect(reply).toEqual({ status: 500, headers: [] })
  })
})

test('the delay comes first, then the abort', async () => {
  const [reply, delays] = await ask({ abort: { http_status: 418 }, delay: { duration: 0.25 } })
  expect(reply).toMatchObject({ status: 418 })
  expect(delays).toEqual([250])
})

test('a delay alone goes on', async () => {
  expect(await ask({ delay: { duration: 1.5 } })).toEqual([undefined, [1500]])
})

describe('percentage', () => {
  test.each([
    [0, [], false],
    [1, [0], true],
    [1, [0.01], false],
    [50, [0.499], true],
    [50, [0.5], false],
    [100, [], true],
  ])('%i with roll %j', async (percentage, rolls, happens) => {
    const [reply] = await ask({ abort: { http_status: 500, percentage } }, {}, rolls)
    expect(reply !== undefined).toBe(happens)
  })

  test('delay and abort are sampled on their own', async () => {
    const conf = { abort: { http_status: 500, percentage: 50 }, delay: { duration: 1, percentage: 50 } }
    expect(await ask(conf, {}, [0.9, 0.1])).toMatchObject([{ status: 500 }, []])
    expect(await ask(conf, {}, [0.1, 0.9])).toEqual([undefined, [1000]])
  })

  test('over many requests the share is right', async () => {
    // A fixed linear congruential sequence: full period, so the share is known closely.
    let state = 20_261_123
    const random = () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
      return state / 2 ** 32
    }
    const instance = linkPlugin(createFaultInjection(random), { abort: { http_status: 500, percentage: 20 } })
    let aborted = 0
    for (let round = 0; round < 10_000; round++) if (instance.rewrite?.(fakeExchange()) !== undefined) aborted++
    expect(aborted).toBeGreaterThan(1850)
    expect(aborted).toBeLessThan(2150)
  })
})

describe('vars', () => {
  const conf = {
    abort: {
      http_status: 403,
      vars: [
        [['arg_name', '==', 'jack']],
        [
          ['http_age', '==', '18'],
          ['arg_x', '==', '1'],
        ],
      ],
    },
  }
  test.each<[FakeRequest, boolean]>([
    [{ target: '/?name=jack' }, true],
    [{ target: '/?x=1', headers: { Age: '18' } }, true],
    [{ headers: { Age: '18' } }, false],
    [{}, false],
  ])('one expression has to hold: %j', async (request, happens) => {
    const [reply] = await ask(conf, request)
    expect(reply !== undefined).toBe(happens)
  })
})

const plugin = createFaultInjection(() => 0)
test.each<[string, Json, string]>([
  ['nothing', {}, ''],
  ['abort without status', { abort: {} }, 'abort'],
  ['status 199', { abort: { http_status: 199 } }, 'abort.http_status'],
  ['delay without duration', { delay: {} }, 'delay'],
  ['a negative duration', { delay: { duration: -1 } }, 'delay.duration'],
  ['percentage 101', { abort: { http_status: 500, percentage: 101 } }, 'abort.percentage'],
  ['21 expressions', { abort: { http_status: 500, vars: Array.from({ length: 21 }, () => [['uri', '==', '/']]) } }, 'abort.vars'],
  ['a bad expression', { delay: { duration: 1, vars: [[['uri', 'xx', '/']]] } }, 'delay.vars.0'],
  ['a framing header', { abort: { http_status: 500, headers: { Connection: 'close' } } }, 'abort.headers.Connection'],
])('refuses %s', (_what, conf, path) => {
  expect(problemsOf(plugin, conf).map((problem) => problem.path)).toContain(path)
})
