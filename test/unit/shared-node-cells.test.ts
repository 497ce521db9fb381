import { describe, expect, test } from 'vitest'
import { createNodesRegion, NodeBoard, NodeCells, NodeSlots, NodeStatus, nodesBytes, Outcome } from '../../src/shared/node-cells.js'

const SLOT = 7

function nodes(workers = 2): { board: NodeBoard; workers: NodeCells[] } {
  const region = createNodesRegion(workers)
  return {
    board: new NodeBoard(region, workers),
    workers: Array.from({ length: workers }, (_, index) => new NodeCells(region, workers, index)),
  }
}

function pair(): [NodeBoard, NodeCells, NodeCells] {
  const { board, workers } = nodes()
  return [board, workers[0] as NodeCells, workers[1] as NodeCells]
}

describe('requests in flight', () => {
  test('are counted over all workers', () => {
    const [board, one, other] = pair()
    one.begin(SLOT)
    other.begin(SLOT)
    other.begin(SLOT)
    expect([board.inFlight(SLOT), one.inFlight(SLOT), one.inFlight(SLOT + 1)]).toEqual([3, 3, 0])
    one.end(SLOT, Outcome.Success)
    other.end(SLOT, Outcome.Neutral)
    expect(board.inFlight(SLOT)).toBe(1)
  })

  test('of a worker that died are taken out, once, and those of others stay', () => {
    const [board, one, other] = pair()
    for (let count = 0; count < 5; count++) one.begin(SLOT)
    one.begin(SLOT + 1)
    other.begin(SLOT)
    board.retire(0)
    board.retire(0)
    expect([board.inFlight(SLOT), board.inFlight(SLOT + 1)]).toEqual([1, 0])
    // The replacement has the same place.
    one.begin(SLOT)
    expect(board.inFlight(SLOT)).toBe(2)
  })
})

describe('outcomes', () => {
  test('failures count in a row until a success; gateway failures until anything else', () => {
    const [board, one, other] = pair()
    const outcomes = [Outcome.ConnectError, Outcome.GatewayError, Outcome.Neutral]
    for (const outcome of outcomes) {
      one.begin(SLOT)
      one.end(SLOT, outcome)
    }
    expect([board.consecutiveFailures(SLOT), board.consecutiveGatewayFailures(SLOT)]).toEqual([2, 2])
    other.begin(SLOT)
    other.end(SLOT, Outcome.ServerError)
    expect([board.consecutiveFailures(SLOT), board.consecutiveGatewayFailures(SLOT)]).toEqual([3, 0])
    other.begin(SLOT)
    other.end(SLOT, Outcome.Success)
    expect([board.consecutiveFailures(SLOT), board.successes(SLOT), board.failures(SLOT)]).toEqual([0, 1, 3])
  })
})

describe('latency', () => {
  test('rises at once and falls with the age of what it replaces', () => {
    const [board, one] = pair()
    one.observe(SLOT, 10, 1000, 10_000)
    expect(board.latencyUs(SLOT)).toBe(10_000)
    one.observe(SLOT, 50, 2000, 10_000)
    expect(board.latencyUs(SLOT)).toBe(50_000)
    one.observe(SLOT, 10, 12_000, 10_000)
    // One decay time later: e^-1 of the old, the rest of the new.
    expect(board.latencyUs(SLOT)).toBeCloseTo(10_000 + 40_000 * Math.exp(-1), -1)
    expect(board.latencyAgeMs(SLOT, 12_500)).toBe(500)
  })

  test('of what was given up only raises it', () => {
    const [board, one] = pair()
    one.observe(SLOT, 10, 1000, 10_000)
    one.observe(SLOT, 5, 90_000, 10_000, true)
    expect(board.latencyUs(SLOT)).toBe(10_000)
    one.observe(SLOT, 700, 90_000, 10_000, true)
    expect(board.latencyUs(SLOT)).toBe(700_000)
  })

  test('doubles with every failure, however quick, up to a minute', () => {
    const [board, one] = pair()
    one.penalise(SLOT, 0.1, 1000)
    expect(board.latencyUs(SLOT)).toBe(50_000)
    one.penalise(SLOT, 0.1, 1000)
    expect(board.latencyUs(SLOT)).toBe(100_000)
    for (let count = 0; count < 20; count++) one.penalise(SLOT, 0.1, 1000)
    expect(board.latencyUs(SLOT)).toBe(60_000_000)
  })

  test('ages are right where the clock of a cell wraps', () => {
    const [board, one] = pair()
    one.observe(SLOT, 10, 2 ** 31 - 100, 10_000)
    expect(board.latencyAgeMs(SLOT, 2 ** 31 + 900)).toBe(1000)
    one.observe(SLOT, 10, 2 ** 32 - 100, 10_000)
    expect(board.latencyAgeMs(SLOT, 2 ** 32 + 100)).toBe(200)
  })
})

describe('status', () => {
  test('bits are reasons of their own; the node opens anew when the last one goes', () => {
    const [board, one, other] = pair()
    one.observe(SLOT, 10, 1000, 10_000)
    one.begin(SLOT)
    one.end(SLOT, Outcome.ConnectError)
    expect(board.close(SLOT, NodeStatus.ActiveDown)).toBe(0)
    expect(other.close(SLOT, NodeStatus.Ejected)).toBe(NodeStatus.ActiveDown)
    expect(one.status(SLOT)).toBe(NodeStatus.ActiveDown | NodeStatus.Ejected)
    board.open(SLOT, NodeStatus.ActiveDown, 5000)
    expect([one.status(SLOT), one.latencyUs(SLOT)]).toEqual([NodeStatus.Ejected, 10_000])
    expect(one.openForMs(SLOT, 9000)).toBe(Number.POSITIVE_INFINITY)
    board.open(SLOT, NodeStatus.Ejected, 5000)
    expect([one.status(SLOT), one.latencyUs(SLOT), one.consecutiveFailures(SLOT), one.openForMs(SLOT, 9000)]).toEqual([0, 0, 0, 4000])
    // What was open stays as it is.
    board.open(SLOT, NodeStatus.Ejected, 8000)
    expect(one.openForMs(SLOT, 9000)).toBe(4000)
  })
})

test('a region of another number of workers is refused', () => {
  expect(() => new NodeCells(createNodesRegion(1), 2, 0)).toThrow(`expects ${nodesBytes(2)}`)
})

describe('slots', () => {
  test('a key keeps its slot and its state while it is used, and for five minutes after', () => {
    const [board, one] = pair()
    const slots = new NodeSlots(board, () => expect.unreachable())
    const slot = slots.slot('a', 0)
    expect([slots.slot('b', 0), slots.slot('a', 0)]).toEqual([slot + 1, slot])
    one.observe(slot, 10, 1000, 10_000)
    slots.retain(new Set(['b']), 1000)
    slots.retain(new Set(['b']), 300_000)
    expect([slots.known('a'), slots.slot('a', 300_000), board.latencyUs(slot)]).toEqual([slot, slot, 10_000])
    slots.retain(new Set(['b']), 400_000)
    slots.retain(new Set(['b']), 700_000)
    expect([slots.known('a'), slots.size]).toEqual([0, 1])
    expect([slots.slot('c', 700_000), board.latencyUs(slot), board.openForMs(slot, 700_100)]).toEqual([slot, 0, 100])
  })

  test('a slot with requests in flight is not freed', () => {
    const [board, one] = pair()
    const slots = new NodeSlots(board, () => expect.unreachable())
    const slot = slots.slot('a', 0)
    one.begin(slot)
    slots.retain(new Set(), 1000)
    slots.retain(new Set(), 900_000)
    expect(slots.known('a')).toBe(slot)
    one.end(slot, Outcome.Neutral)
    slots.retain(new Set(), 900_001)
    expect(slots.known('a')).toBe(0)
  })

  test('when none is left, further nodes have none, and it is said once', () => {
    const [board] = pair()
    const full: string[] = []
    const slots = new NodeSlots(board, (key) => full.push(key), 2)
    expect([slots.slot('a', 0), slots.slot('b', 0), slots.slot('b', 0), slots.slot('a', 0)]).toEqual([1, 0, 0, 1])
    expect(full).toEqual(['b'])
  })
})
