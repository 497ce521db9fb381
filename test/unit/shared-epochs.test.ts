import { describe, expect, test } from 'vitest'
import { ManualClock, systemClock } from '../../src/base/clock.js'
import { EpochBoard, WorkerSlot } from '../../src/shared/epochs.js'
import { createRegions, WORKERS_MAX } from '../../src/shared/regions.js'

describe('regions', () => {
  test('a wrong number of workers is refused by number', () => {
    for (const wrong of [0, -1, 1.5, Number.NaN, WORKERS_MAX + 1]) expect(() => createRegions(wrong)).toThrow(`is ${wrong};`)
  })

  test('there is one metrics slab and one slot per worker', () => {
    const regions = createRegions(3)
    expect(regions.metrics).toHaveLength(3)
    expect(new EpochBoard(regions.epochs, new ManualClock()).readAll().map((view) => view.state)).toEqual(['vacant', 'vacant', 'vacant'])
    expect(() => new WorkerSlot(regions.epochs, 3)).toThrow('slots are 0 to 2')
  })
})

describe('epoch board', () => {
  test('what a worker writes is what the primary reads, in its slot only', () => {
    const clock = new ManualClock(5_000)
    const { epochs } = createRegions(2)
    const board = new EpochBoard(epochs, clock)
    const slot = new WorkerSlot(epochs, 1)
    board.reserve(1)
    board.publish(7)
    expect(slot.publishedEpoch()).toBe(7)
    slot.setState('serving')
    slot.acknowledge(7)
    slot.beat(5_000)
    slot.setInFlight(12)
    slot.setLoopLag(3.25)
    clock.advance(40)
    expect(board.read(1)).toEqual({ index: 1, state: 'serving', epoch: 7, beatAgeMs: 40, inFlight: 12, loopLagMs: 3.25, shedLevel: 0 })
    expect(board.read(0)).toMatchObject({ state: 'vacant', epoch: 0, inFlight: 0 })
  })

  test('the age of a heartbeat survives the wrap of its cell', () => {
    const clock = new ManualClock(2 ** 32 - 10)
    const { epochs } = createRegions(1)
    const board = new EpochBoard(epochs, clock)
    new WorkerSlot(epochs, 0).beat(2 ** 32 - 10)
    clock.advance(30)
    expect(board.read(0).beatAgeMs).toBe(30)
    new WorkerSlot(epochs, 0).beat(2 ** 32 + 25)
    expect(board.read(0).beatAgeMs).toBe(0)
  })

  test('epochs only rise', () => {
    const board = new EpochBoard(createRegions(1).epochs, new ManualClock())
    board.publish(2)
    expect(() => board.publish(2)).toThrow('epoch 2 cannot follow 2')
    expect(() => board.publish(1)).toThrow(RangeError)
    expect(board.published()).toBe(2)
  })

  test.each([
    ['woken by acknowledgements', undefined],
    ['polling', null],
  ])('waits for every running worker, %s', async (_, waiter) => {
    const { epochs } = createRegions(3)
    const board = new EpochBoard(epochs, systemClock, waiter)
    board.reserve(0)
    board.reserve(1)
    let settled = false
    const waiting = board.waitAll(4, 60_000).then((result) => {
      settled = true
      return result
    })
    new WorkerSlot(epochs, 0).acknowledge(4)
    new WorkerSlot(epochs, 1).acknowledge(3)
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect(settled).toBe(false)
    new WorkerSlot(epochs, 1).acknowledge(5)
    expect(await waiting).toBe(true)
  })

  test('a worker that ends is no longer waited for', async () => {
    const { epochs } = createRegions(2)
    const board = new EpochBoard(epochs, systemClock)
    board.reserve(0)
    board.reserve(1)
    new WorkerSlot(epochs, 0).acknowledge(1)
    const waiting = board.waitAll(1, 60_000)
    board.release(1)
    expect(await waiting).toBe(true)
    expect(board.read(1).state).toBe('ended')
  })

  test('says false when the time is over', async () => {
    const clock = new ManualClock()
    const { epochs } = createRegions(1)
    const board = new EpochBoard(epochs, clock, null)
    board.reserve(0)
    const waiting = board.waitAll(1, 3)
    for (let step = 0; step < 4; step++) {
      clock.advance(1)
      await Promise.resolve()
      await Promise.resolve()
    }
    expect(await waiting).toBe(false)
  })
})
