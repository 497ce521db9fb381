/**
 * All connection pools of a worker, by what makes two nodes the same: address, TLS settings and keep-alive settings.
 *
 * Pools survive reloads. Which ones a snapshot uses is only known as its upstreams are linked, so a pool is forgotten when it carried
 * no connection for a while, not when a snapshot goes. (An upstream that still holds a forgotten pool keeps using it.)
 */
import type { CompiledNode, CompiledUpstream, CompiledUpstreamTls } from '../../schema/compiled.js'
import type { ConnectionEvents } from './connection.js'
import { NodePool, type PoolTally } from './pool.js'

/** Room for one read from an upstream; larger answers take several reads. */
const READ_BUFFER_BYTES = 65536

const EMPTY_POOL_MS = 60_000

/** The name that is sent and verified is the Host sent upstream where the configuration fixes it, else the node's. */
function tlsOf(upstream: CompiledUpstream, node: CompiledNode): CompiledUpstreamTls {
  const tls = upstream.tls ?? { verify: false, clientCert: '', clientKey: '', ca: '', serverName: '' }
  if (tls.serverName !== '') return tls
  const fixed = upstream.passHost === 'rewrite' ? upstream.upstreamHost.replace(/:\d+$/, '') : node.host
  return { ...tls, serverName: fixed }
}

export class PoolRegistry {
  private readonly pools = new Map<string, NodePool>()
  private readonly readBuffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES)

  constructor(
    private readonly events: ConnectionEvents,
    private readonly maxResponseHeaderBytes: number,
    readonly tally: PoolTally,
  ) {}

  get(node: CompiledNode, upstream: CompiledUpstream): NodePool {
    const { size, idleTimeoutMs, requests, pipelining } = upstream.keepalive
    const tls = upstream.scheme === 'https' ? tlsOf(upstream, node) : null
    const key = [
      node.address,
      node.port,
      node.host,
      tls === null ? '' : JSON.stringify(tls),
      size,
      idleTimeoutMs,
      requests,
      pipelining,
    ].join('|')
    const known = this.pools.get(key)
    if (known !== undefined) return known
    const pool = new NodePool(
      { node, tls, keepalive: upstream.keepalive, maxResponseHeaderBytes: this.maxResponseHeaderBytes, tally: this.tally },
      this.readBuffer,
      this.events,
    )
    this.pools.set(key, pool)
    return pool
  }

  /** Call about once a second: closes idle connections, and forgets pools that carried none for a minute. */
  sweepIdle(nowMs: number): void {
    for (const [key, pool] of this.pools) {
      pool.sweepIdle(nowMs)
      if (pool.connectionCount > 0) pool.lastUsedMs = nowMs
      else if (nowMs - pool.lastUsedMs > EMPTY_POOL_MS) this.pools.delete(key)
    }
  }

  destroy(): void {
    for (const pool of this.pools.values()) pool.destroy()
  }
}
