/** What all threads together decide about a node: health by the state machine, ejection within its bounds. */
import { describe, expect, test } from 'vitest'
import { HealthEvent } from '../../src/shared/health-state.js'
import { createNodesRegion, NodeBoard, NodeCells, NodeStatus, Outcome } from '../../src/shared/node-cells.js'
import { HealthChange, NodeHealth } from '../../src/shared/node-health.js'

const UPSTREAM = 9
const rules = { slot: UPSTREAM, baseEjectionMs: 1000, maxEjectionMs: 2500, maxEjectionPercent: 50 }

function threads() {
  const region = createNodesRegion(1)
  const board = new NodeBoard(region, 1)
  const cells = new NodeCells(region, 1, 0)
  return { board, cells, primary: new NodeHealth(region, board), worker: new NodeHealth(region, cells) }
}

describe('health', () => {
  test('probes and traffic drive one state; the bit tells who took the node down, and goes whoever brings it back', () => {
    const { board, primary, worker } = threads()
    expect(worker.observe(1, HealthEvent.TcpFailure, 2, NodeStatus.PassiveDown, 0)).toBe(HealthChange.None)
    expect(primary.observe(1, HealthEvent.TcpFailure, 2, NodeStatus.ActiveDown, 0)).toBe(HealthChange.Down)
    expect(board.status(1)).toBe(NodeStatus.ActiveDown)
    expect(worker.observe(1, HealthEvent.TcpFailure, 2, NodeStatus.PassiveDown, 0)).toBe(HealthChange.None)
    expect(board.status(1)).toBe(NodeStatus.ActiveDown)
    expect(primary.observe(1, HealthEvent.Success, 2, NodeStatus.ActiveDown, 100)).toBe(HealthChange.None)
    expect(primary.observe(1, HealthEvent.Success, 2, NodeStatus.ActiveDown, 100)).toBe(HealthChange.Up)
    expect([board.status(1), board.openForMs(1, 150)]).toEqual([0, 50])
    expect(worker.observe(1, HealthEvent.Timeout, 1, NodeStatus.PassiveDown, 0)).toBe(HealthChange.Down)
    expect(board.status(1)).toBe(NodeStatus.PassiveDown)
    primary.forgetHealth(1, 200)
    expect([board.status(1), primary.health(1)]).toEqual([0, 0])
  })
})

describe('ejection', () => {
  test('never of more nodes than the percentage allows, one in any case, none when it is 0', () => {
    const { worker, primary } = threads()
    expect([1, 2, 3, 4].map((slot) => worker.eject(slot, 5, rules, 0) > 0)).toEqual([true, true, false, false])
    expect(primary.ejectedCount(UPSTREAM)).toBe(2)
    expect(primary.takeBack(1, UPSTREAM, 10)).toBe(true)
    expect(primary.takeBack(1, UPSTREAM, 10)).toBe(false)
    expect([worker.eject(3, 5, rules, 0) > 0, worker.eject(4, 5, rules, 0)]).toEqual([true, 0])
    const other = threads().worker
    expect([
      other.eject(1, 3, { ...rules, maxEjectionPercent: 10 }, 0) > 0,
      other.eject(2, 3, { ...rules, maxEjectionPercent: 10 }, 0),
    ]).toEqual([true, 0])
    expect(threads().worker.eject(1, 3, { ...rules, maxEjectionPercent: 0 }, 0)).toBe(0)
    expect(threads().worker.eject(1, 3, { ...rules, slot: 0 }, 0)).toBe(0)
  })

  test('lasts longer each time in a row, up to the longest; intervals that go well shorten the next', () => {
    const { worker, primary, board } = threads()
    const lengths: number[] = []
    for (let time = 0; time < 4; time++) {
      const now = time * 10_000
      const forMs = worker.eject(1, 2, rules, now)
      lengths.push(forMs)
      expect(worker.eject(1, 2, rules, now)).toBe(0)
      expect([primary.isEjectionOver(1, now + forMs - 2), primary.isEjectionOver(1, now + forMs + 1)]).toEqual([false, true])
      expect(board.status(1)).toBe(NodeStatus.Ejected)
      primary.takeBack(1, UPSTREAM, now + forMs)
    }
    expect(lengths).toEqual([1000, 2000, 2500, 2500])
    for (let time = 0; time < 9; time++) primary.forgive(1)
    expect([primary.ejections(1), worker.eject(1, 2, rules, 90_000)]).toEqual([0, 1000])
  })

  test('begins failures and slow calls anew when it ends, also while checks keep the node down', () => {
    const { worker, primary, board, cells } = threads()
    for (let time = 0; time < 3; time++) {
      cells.begin(1)
      cells.end(1, Outcome.GatewayError)
      worker.slow(1)
    }
    worker.observe(1, HealthEvent.TcpFailure, 1, NodeStatus.PassiveDown, 0)
    worker.eject(1, 2, rules, 0)
    primary.takeBack(1, UPSTREAM, 2000)
    expect([board.status(1), board.consecutiveFailures(1), board.consecutiveGatewayFailures(1)]).toEqual([NodeStatus.PassiveDown, 0, 0])
    expect([worker.slow(1), primary.slowCalls(1)]).toEqual([1, 4])
    worker.quick(1)
    expect(worker.slow(1)).toBe(1)
  })
})
