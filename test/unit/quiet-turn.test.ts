/** When a listen socket is closed: behind a short turn, or in the end anyway. The clock is the test's. */
import { expect, test } from 'vitest'
import { atQuietTurn } from '../../src/dataplane/listener/quiet-turn.js'

/** A clock that gives the times at which turns begin, the last one for ever. */
function turnsAt(...times: number[]) {
  let reads = 0
  return { now: () => times[Math.min(reads++, times.length - 1)] ?? 0, reads: () => reads }
}

test('never in the turn that asks, nor behind one that took long', async () => {
  const clock = turnsAt(0, 5, 9, 9.01)
  let closed = 0
  const done = atQuietTurn(() => closed++, clock.now)
  expect(closed).toBe(0)
  await done
  expect(closed).toBe(1)
  expect(clock.reads()).toBe(4)
})

test('a loop that is never quiet is closed all the same', async () => {
  let now = 0
  let closed = 0
  await atQuietTurn(
    () => closed++,
    () => {
      now += 1
      return now
    },
  )
  expect(closed).toBe(1)
  expect(now).toBeGreaterThan(100)
  expect(now).toBeLessThan(1000)
})
