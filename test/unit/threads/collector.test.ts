import { expect, test } from 'vitest'
import { Collector } from '../../../src/threads/collector.js'

test('collects when it is wanted, and rests in proportion to what it took', () => {
  let nowMs = 0
  let tookMs = 10
  const collected: number[] = []
  const collector = new Collector(
    () => nowMs,
    () => {
      collected.push(nowMs)
      nowMs += tookMs
    },
  )
  const run = (untilMs: number): void => {
    for (; nowMs < untilMs; nowMs += 50) collector.wanted()
  }
  run(1000)
  expect(collected).toEqual([0])
  tookMs = 200
  run(1100)
  expect(collected).toEqual([0, 1010])
  run(5200)
  expect(collected).toHaveLength(2)
  run(5300)
  expect(collected).toHaveLength(3)
})

test('the engine of this thread can be asked; without it nothing happens', () => {
  const registry = new WeakRef({})
  const collector = Collector.ofEngine(() => 5000)
  // What a WeakRef gave is kept until the end of the turn.
  return new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
    collector.wanted()
    expect(registry.deref()).toBeUndefined()
    new Collector(() => 0, null).wanted()
  })
})
