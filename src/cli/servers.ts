/** The two servers of the primary for operators: metrics and status without a key, admin with one. */
import { type AdminActions, type AdminServer, startAdminServer } from '../controlplane/admin/server.js'
import type { Json } from '../schema/compiled.js'
import type { ProcessConfig, SocketAddress } from '../schema/process.js'
import type { EpochBoard } from '../shared/epochs.js'
import type { MetricsDirectory } from '../shared/metrics-directory.js'
import type { ProcessLog } from '../telemetry/process-log.js'
import {
  type ExplainQuery,
  type GatewayState,
  type StatusServer,
  type StatusServerOptions,
  startStatusServer,
} from '../telemetry/status-server.js'
import { adminKeys } from './admin-key.js'
import type { PrimaryConfiguration } from './primary-configuration.js'
import { version } from './version.js'

export interface OperatorServersOptions {
  readonly config: ProcessConfig
  readonly board: EpochBoard
  readonly directory: MetricsDirectory
  readonly state: () => GatewayState
  readonly explain: (query: ExplainQuery) => Json
  readonly limits: StatusServerOptions['limits']
  readonly limitTable: StatusServerOptions['limitTable']
  readonly nodes: StatusServerOptions['nodes']
  readonly healthchecks: StatusServerOptions['healthchecks']
  readonly healthcheck: StatusServerOptions['healthcheck']
  readonly breakers: AdminActions['breakers']
  readonly samples: StatusServerOptions['samples']
  readonly configuration: PrimaryConfiguration
  readonly reload: AdminActions['reload']
  readonly revocations: AdminActions['revocations']
  readonly fault: AdminActions['fault']
  readonly log: ProcessLog
}

export interface OperatorServers {
  /** Real addresses; null = not configured. */
  readonly metrics: SocketAddress | null
  readonly admin: SocketAddress | null
  close(): Promise<void>
}

/** Starts what is configured. Rejects with UsageError, everything closed, when an address cannot be used. */
export async function startOperatorServers(options: OperatorServersOptions): Promise<OperatorServers> {
  const { config, board, directory, state, explain, limits, limitTable, nodes, healthchecks, healthcheck, samples } = options
  const { configuration, log } = options
  const running: (StatusServer | AdminServer)[] = []
  const close = async () => void (await Promise.all(running.map((server) => server.close())))
  let metrics: SocketAddress | null = null
  let admin: SocketAddress | null = null
  try {
    if (config.metrics !== null) {
      const address = config.metrics
      const server = await startStatusServer({
        address,
        directory,
        board,
        state,
        explain,
        limits,
        limitTable,
        nodes,
        healthchecks,
        healthcheck,
        latencyBoundsMs: config.latencyBoundsMs,
        samples: () => [...samples(), ...configuration.samples()],
        log: (message) => log.error(message),
      })
      running.push(server)
      metrics = server.address
    }
    if (config.admin !== null) {
      const actions: AdminActions = {
        status: () => ({ ...state(), epoch: board.published(), workers: board.readAll() }),
        reload: options.reload,
        revocations: options.revocations,
        breakers: options.breakers,
        fault: options.fault,
        store: configuration,
        resources: configuration.resources(options.reload),
        traffic: () => directory.fixed(),
        version,
        log: (message) => log.error(message),
      }
      const server = await startAdminServer(config.admin, actions, adminKeys(config.admin, log))
      running.push(server)
      admin = server.address
    }
  } catch (error) {
    await close()
    throw error
  }
  return { metrics, admin, close }
}
