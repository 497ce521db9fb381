/** The primary's part in the state of upstream nodes: it gives slots, shows what is known, and cleans up behind workers that ended. */
import { nowMs, systemClock } from '../base/clock.js'
import type { NodesUpdate } from '../controlplane/dns.js'
import { NodeDirectory, needsNodeState, readNodeKey } from '../controlplane/node-slots.js'
import type { CompiledConfig, CompiledUpstream, Json } from '../schema/compiled.js'
import { NodeBoard, NodeSlots, NodeStatus } from '../shared/node-cells.js'
import type { ProcessLog } from '../telemetry/process-log.js'

export interface PrimaryNodesOptions {
  readonly region: SharedArrayBuffer
  readonly workers: number
  readonly log: ProcessLog
}

const reasons: readonly (readonly [NodeStatus, string])[] = [
  [NodeStatus.ActiveDown, 'active checks'],
  [NodeStatus.PassiveDown, 'passive checks'],
  [NodeStatus.Ejected, 'outlier'],
  [NodeStatus.Disabled, 'operator'],
]

export class PrimaryNodes {
  readonly board: NodeBoard
  readonly slots: NodeSlots
  private readonly directory: NodeDirectory

  constructor({ region, workers, log }: PrimaryNodesOptions) {
    this.board = new NodeBoard(region, workers)
    this.slots = new NodeSlots(this.board, (key) =>
      log.warn(`no slot is left for the state of node ${key}: balancers know nothing of it, and it has no health`),
    )
    this.directory = new NodeDirectory(this.slots, systemClock, needsNodeState)
  }

  /** The configuration, addresses known, with a slot in every node whose state somebody needs. */
  assign(config: CompiledConfig): CompiledConfig {
    return this.directory.assign(config)
  }

  /** See NodeDirectory. */
  assignChanges(config: CompiledConfig, changed: ReadonlyMap<number, CompiledUpstream | null>): Map<number, CompiledUpstream | null> {
    return this.directory.assignChanges(config, changed)
  }

  /** All upstreams as they are assigned now. */
  current(): Pick<CompiledConfig, 'upstreams'> {
    return this.directory.current()
  }

  assignUpdates(updates: readonly NodesUpdate[], config: CompiledConfig): NodesUpdate[] {
    return this.directory.assignUpdates(updates, config)
  }

  /** The thread of a worker has ended, and none has taken its place yet. */
  workerEnded(index: number): void {
    this.board.retire(index)
  }

  /** The page `/v1/nodes`: every node with a state, by address. */
  state(): Json {
    const { board } = this
    const now = nowMs()
    const nodes = this.slots.entries().flatMap(([key, slot]) => {
      const place = readNodeKey(key)
      if (place === null) return []
      const status = board.status(slot)
      const openMs = board.openForMs(slot, now)
      const latencyUs = board.latencyUs(slot)
      const state = {
        address: place.address,
        port: place.port,
        upstream: place.upstream === '' ? null : place.upstream,
        usable: status === 0,
        reasons: reasons.filter(([bit]) => (status & bit) !== 0).map(([, name]) => name),
        ejected_for_s: (status & NodeStatus.Ejected) === 0 ? null : Math.max(0, board.ejectedForMs(slot, now)) / 1000,
        in_flight: board.inFlight(slot),
        latency_ms: latencyUs === 0 ? null : latencyUs / 1000,
        successes: board.successes(slot),
        failures: board.failures(slot),
        consecutive_failures: board.consecutiveFailures(slot),
        open_for_s: Number.isFinite(openMs) ? Math.round(openMs) / 1000 : null,
      }
      return [state]
    })
    return { nodes: nodes.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : a.port - b.port)) }
  }
}
