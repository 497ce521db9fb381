/** Picks the node of a try past the gate that a plugin may have set on the exchange. Runs on workers. */
import type { Exchange } from './exchange.js'
import type { LinkedUpstream } from './linked-upstream.js'
import type { NodePool } from './upstream/pool.js'

/**
 * The node for the next try; null when the upstream has none, undefined when the gate wants none of them. A node that the gate does not
 * want is passed over as if it had been tried. Asks the gate once for each node at most.
 */
export function pickAdmitted(exchange: Exchange, upstream: LinkedUpstream): NodePool | null | undefined {
  const { nodeGate, triedNodes } = exchange
  let picked = upstream.pick(exchange, triedNodes)
  if (nodeGate === null) return picked
  let unwanted: NodePool[] | null = null
  while (picked !== null && !nodeGate.admit(exchange, picked.address)) {
    if (unwanted === null) unwanted = [picked]
    else unwanted.push(picked)
    picked = upstream.pick(exchange, triedNodes === null ? unwanted : [...triedNodes, ...unwanted])
    // No other is left.
    if (picked !== null && unwanted.includes(picked)) return undefined
  }
  return picked
}
