import { describe, expect, test } from 'vitest'
import { Reloader, type ReloadOutcome } from '../../src/controlplane/reload.js'

/** A reload whose end the test decides. */
function controlled() {
  const pending: ((outcome: ReloadOutcome | Error) => void)[] = []
  const clock = { value: 1_000, wallMs: () => clock.value }
  const reloader = new Reloader({
    run: () =>
      new Promise((resolve, reject) => {
        pending.push((outcome) => (outcome instanceof Error ? reject(outcome) : resolve(outcome)))
      }),
    clock,
    startEpoch: 1,
  })
  return { reloader, pending, clock }
}

describe('Reloader', () => {
  test('requests during a reload share exactly one more reload after it', async () => {
    const { reloader, pending } = controlled()
    const first = reloader.request()
    const second = reloader.request()
    const third = reloader.request()
    expect(pending.length).toBe(1)
    pending[0]?.({ ok: true, epoch: 2 })
    expect(await first).toEqual({ ok: true, epoch: 2 })
    await expect.poll(() => pending.length).toBe(2)
    pending[1]?.({ ok: true, epoch: 3 })
    expect(await second).toEqual({ ok: true, epoch: 3 })
    expect(await third).toEqual({ ok: true, epoch: 3 })
    expect(pending.length).toBe(2)
  })

  test('a refused reload keeps the epoch that serves and says why; a good one clears the error', async () => {
    const { reloader, pending, clock } = controlled()
    const refused = reloader.request()
    clock.value = 2_000
    pending[0]?.({ ok: false, errors: ['a.yaml:1:1: bad', 'a.yaml:2:1: worse'] })
    await refused
    expect(reloader.state).toEqual({ lastError: 'a.yaml:1:1: bad\na.yaml:2:1: worse', lastSuccessEpoch: 1, at: 2_000, failures: 1 })
    const good = reloader.request()
    pending[1]?.({ ok: true, epoch: 2 })
    await good
    expect(reloader.state).toEqual({ lastError: null, lastSuccessEpoch: 2, at: 2_000, failures: 1 })
  })

  test('a reload that throws is a refused one', async () => {
    const { reloader, pending } = controlled()
    const outcome = reloader.request()
    pending[0]?.(new Error('disk on fire'))
    expect(await outcome).toEqual({ ok: false, errors: ['disk on fire'] })
    expect(reloader.state.lastError).toBe('disk on fire')
  })
})
