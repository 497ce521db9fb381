/** Options of the balancers to their compiled form. */
import type { CompiledBalancing, CompiledHash } from '../schema/compiled.js'
import type { UpstreamResource } from '../schema/upstream.js'
import { milliseconds } from './validate-process.js'

export function compileBalancing(value: UpstreamResource): CompiledBalancing {
  const { slow_start: slowStart, subset } = value
  return {
    hash: value.type === 'chash' ? compileHash(value) : null,
    slowStart:
      slowStart === undefined
        ? null
        : {
            windowMs: Math.max(1, milliseconds(slowStart.window)),
            aggression: slowStart.aggression ?? 1,
            minWeight: Math.max(0.001, (slowStart.min_weight_percent ?? 10) / 100),
          },
    ewmaDecayMs: Math.max(1, milliseconds(value.ewma_decay ?? 10)),
    allUnhealthy: value.all_unhealthy ?? 'fail_open',
    subset:
      subset === undefined
        ? null
        : { match: Object.entries(subset.match).map(([label, text]) => ({ label, value: text })), fallback: subset.fallback ?? 'any' },
  }
}

function compileHash(value: UpstreamResource): CompiledHash {
  const on = value.hash_on ?? 'vars'
  return {
    on,
    key: on === 'consumer' ? '' : (value.key ?? ''),
    algorithm: value.hash_algorithm ?? 'ketama',
    balanceFactor: value.hash_balance_factor ?? 0,
  }
}
