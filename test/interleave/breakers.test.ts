import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ADMITTED, type BreakerSettings, Outcome, REFUSED } from '../../src/breakers/contract.js'
import { BREAKERS_BYTES, BreakerCells } from '../../src/shared/breaker-cells.js'
import { createPathBreakersRegion, PathBreakerTable } from '../../src/shared/path-breakers.js'
import { breakerSettings } from '../support/breaker-settings.js'
import type { BreakerThreadStart } from './breaker-thread.js'
import { compileRacer } from './threads.js'

let racer: Awaited<ReturnType<typeof compileRacer>>
beforeAll(async () => {
  racer = await compileRacer('breaker-thread')
})
afterAll(() => racer.remove())

const THREADS = 4
const ROUNDS = 100

class Crowd {
  readonly region = new SharedArrayBuffer(BREAKERS_BYTES)
  readonly pathRegion = createPathBreakersRegion([1, 2])
  readonly gate = new Int32Array(new SharedArrayBuffer(4))
  readonly counts = new Int32Array(new SharedArrayBuffer(4 * (ROUNDS + 1)))
  readonly cells = new BreakerCells(this.region, () => undefined)
  private readonly threads: Worker[] = []

  static async of(job: BreakerThreadStart['job'], settings: BreakerSettings, tries: number): Promise<Crowd> {
    const crowd = new Crowd()
    for (let member = 0; member < THREADS; member++) {
      const start: BreakerThreadStart = {
        member,
        region: crowd.region,
        pathRegion: crowd.pathRegion,
        gate: crowd.gate.buffer as SharedArrayBuffer,
        counts: crowd.counts.buffer as SharedArrayBuffer,
        settings,
        job,
        tries,
      }
      const thread = new Worker(racer.file, { workerData: start })
      await once(thread, 'message')
      crowd.threads.push(thread)
    }
    return crowd
  }

  /** All threads at once; resolves when all are done. */
  async round(number: number): Promise<void> {
    const done = Promise.all(this.threads.map((thread) => once(thread, 'message')))
    this.open(number)
    await done
  }

  /** Lets them begin without waiting for the end. */
  open(number: number): void {
    Atomics.store(this.gate, 0, number)
    Atomics.notify(this.gate, 0)
  }

  async kill(member: number): Promise<void> {
    await this.threads[member]?.terminate()
  }

  async end(): Promise<void> {
    this.open(-1)
    await Promise.all(this.threads.map((thread) => (thread.threadId === -1 ? null : once(thread, 'exit'))))
  }
}

/** Open, and due for probes at 10,000 ms. */
function openAndDue(cells: BreakerCells, name: string): number {
  const slot = cells.slotOf(name)
  cells.openNow(slot, 0, 1, false, 9000, 'other-gateway')
  return slot
}

describe('four threads', () => {
  test('N probes are handed out exactly, and one thread makes the transition', async () => {
    const settings = breakerSettings({ permits: 5 })
    const crowd = await Crowd.of('probes', settings, 20)
    for (let round = 1; round <= ROUNDS; round++) {
      openAndDue(crowd.cells, `probes ${round}`)
      await crowd.round(round)
    }
    await crowd.end()
    expect([...crowd.counts.subarray(1)]).toEqual(Array.from({ length: ROUNDS }, () => 5))
  })

  test('failures in a row are counted over all of them: one trip, and the news is everywhere at once', async () => {
    const settings = breakerSettings({ consecutiveFailures: THREADS * 10 })
    const crowd = await Crowd.of('failures', settings, 10)
    for (let round = 1; round <= ROUNDS; round++) {
      const slot = crowd.cells.slotOf(`failures ${round}`)
      expect(crowd.cells.admit(slot, settings, 10_000)).toBe(ADMITTED)
      await crowd.round(round)
      expect(crowd.cells.admit(slot, settings, 10_000)).toBe(REFUSED)
    }
    await crowd.end()
    expect([...crowd.counts.subarray(1)]).toEqual(Array.from({ length: ROUNDS }, () => 1))
  })

  test('probes that come and go are never too many', async () => {
    const settings = breakerSettings({ permits: 2 })
    const crowd = await Crowd.of('life', settings, 20_000)
    const slot = openAndDue(crowd.cells, 'life')
    await crowd.round(1)
    await crowd.end()
    expect([crowd.counts[1], crowd.counts[2]]).toEqual([0, 0])
    expect(crowd.counts[3]).toBeGreaterThan(1000)
    expect(crowd.cells.view(slot, settings, 10_000)).toMatchObject({ state: 'half-open', probes: 0 })
  })

  test('a thread that dies leaves places that expire, and nothing else', async () => {
    const settings = breakerSettings({ permits: 2, permitExpiryMs: 1000, successes: 1 })
    const crowd = await Crowd.of('life', settings, 2_000_000_000)
    const slot = openAndDue(crowd.cells, 'life')
    crowd.open(1)
    for (let member = 0; member < THREADS; member++) await crowd.kill(member)
    expect(crowd.cells.view(slot, settings, 10_000).state).toBe('half-open')
    const probe = crowd.cells.admit(slot, settings, 12_000)
    expect(probe).toBeGreaterThan(0)
    crowd.cells.settle(slot, settings, probe, Outcome.ok, 12_000)
    expect(crowd.cells.admit(slot, settings, 12_000)).toBe(ADMITTED)
  })

  test('failures of a path are counted exactly while other paths are entered', async () => {
    const tries = 500
    const crowd = await Crowd.of('paths', breakerSettings(), tries)
    await crowd.round(1)
    await crowd.end()
    expect(crowd.counts[1]).toBe((THREADS * tries) / 10)
    const table = new PathBreakerTable(crowd.pathRegion, THREADS)
    // Each of the others was failed once by each thread, and six more make ten.
    const conf = { failures: 10, successes: 1000, maxBreakerSec: 300 }
    for (let index = 0; index < tries; index++) {
      const seconds = Array.from({ length: 6 }, () => table.failed('a.test', `/${index}`, conf, 10_000))
      expect(seconds).toEqual([0, 0, 0, 0, 0, 2])
    }
  })
})

test('the lock of a thread that died is freed', () => {
  const region = createPathBreakersRegion([1, 2])
  const conf = { failures: 1, successes: 1, maxBreakerSec: 300 }
  const words = new Int32Array(region)
  // As if member 7 had died in every set.
  for (let at = 16; at < words.length; at += 64) words[at] = 8
  const table = new PathBreakerTable(region, 0)
  expect(table.failed('a.test', '/', conf, 1000)).toBe(0)
  table.recoverMember(7)
  expect(table.failed('a.test', '/', conf, 1000)).toBe(2)
})
