import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { describe, expect, test } from 'vitest'
import { ManualClock, nowMs, systemClock, wallMs } from '../../src/base/clock.js'

describe('system clock', () => {
  test('is monotonic, and the same in other threads', async () => {
    // The clock of the machine as another thread reads it: it must lie between two readings here.
    const before = nowMs()
    const thread = new Worker(
      "const [s, n] = process.hrtime(); require('node:worker_threads').parentPort.postMessage(s * 1000 + n / 1e6)",
      {
        eval: true,
      },
    )
    const [there] = await once(thread, 'message')
    const after = nowMs()
    // performance.now() and hrtime are read a moment apart when the offset is taken.
    expect(there).toBeGreaterThan(before - 1)
    expect(there).toBeLessThan(after + 1)
    expect(Math.abs(wallMs() - Date.now())).toBeLessThan(1_000)
    await thread.terminate()
  })

  test('a timer runs once, and not after it was cancelled', async () => {
    let cancelled = 0
    const cancel = systemClock.after(1, () => {
      cancelled++
    })
    cancel()
    await new Promise<void>((resolve) => systemClock.after(20, resolve))
    expect(cancelled).toBe(0)
  })
})

describe('manual clock', () => {
  test('runs what falls due in order, at its time, also what is made meanwhile', () => {
    const clock = new ManualClock(100, 1_000)
    const seen: string[] = []
    clock.after(30, () => seen.push(`b@${clock.nowMs()}`))
    clock.after(10, () => {
      seen.push(`a@${clock.nowMs()}`)
      clock.after(5, () => seen.push(`c@${clock.nowMs()}`))
    })
    const cancel = clock.after(20, () => seen.push('never'))
    clock.after(31, () => seen.push('later'))
    cancel()
    clock.advance(30)
    expect(seen).toEqual(['a@110', 'c@115', 'b@130'])
    expect([clock.nowMs(), clock.wallMs(), clock.pending]).toEqual([130, 1_030, 1])
  })
})
