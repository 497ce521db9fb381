/**
 * The compiled form of a configuration: plain JSON data, made once in the primary by `controlplane/compile`, packed into shared
 * memory by `controlplane/publish`, and linked lazily by each worker (`dataplane/snapshot`). Types only.
 *
 * Times are milliseconds here, whatever unit the option has in the file.
 */

import type { PathPolicy } from '../base/path.js'

export type { PathPolicy } from '../base/path.js'

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

export type RouterMode = 'radixtree_host_uri' | 'radixtree_uri' | 'radixtree_uri_with_parameter' | 'priority'

export interface CompiledConfig {
  readonly router: RouterOptions
  readonly routes: CompiledRoute[]
  readonly upstreams: CompiledUpstream[]
  /** Plugins of all global rules, in run order. They run on every request, also on those that no route matches. */
  readonly globalPlugins: CompiledPlugin[]
  /** Published keys that plugins verify tokens with: the primary fetches them. */
  readonly keySets: KeySetSpec[]
}

/** Published keys of an issuer of tokens: where they are, and how often they may be asked for. */
export interface KeySetSpec {
  /** URL of the JSON Web Key Set; empty = as the issuer's discovery document says. */
  readonly url: string
  /** For discovery: the document at `<issuer>/.well-known/openid-configuration` must name it. Else empty. */
  readonly issuer: string
  readonly verifyTls: boolean
  /** The set is fetched anew so often. */
  readonly refreshMs: number
  /** Least time between two fetches, whatever tokens ask for. */
  readonly intervalMs: number
  /** Deadline of a fetch. */
  readonly timeoutMs: number
}

export interface RouterOptions {
  readonly mode: RouterMode
  readonly path: PathPolicy
  /** Form of the answers to failures. Absent = that of APISIX. */
  readonly errors?: 'kong'
}

export interface CompiledRoute {
  readonly id: string
  readonly name: string
  readonly uris: string[]
  /** Lower-case; empty = any. Own hosts, else the service's. */
  readonly hosts: string[]
  /** Upper-case; empty = any. */
  readonly methods: string[]
  /** Addresses and CIDR blocks; empty = any. */
  readonly remoteAddrs: string[]
  /** The expression as configured (validated), or null. */
  readonly vars: Json | null
  readonly priority: number
  readonly serviceId: string
  readonly serviceName: string
  readonly labels: { [key: string]: string }
  /** Merged route ⟵ service ⟵ plugin_config, disabled ones gone, in run order. */
  readonly plugins: CompiledPlugin[]
  /** Index into `upstreams`, or -1. */
  readonly upstream: number
  /** Route timeouts; null = the upstream's. */
  readonly timeout: CompiledTimeout | null
  /** Retry rules of the route; absent = the upstream's. */
  readonly retry?: CompiledRetry
  readonly websocket: boolean
}

export interface CompiledPlugin {
  readonly name: string
  readonly priority: number
  /** What the plugin's `prepare` returned. */
  readonly prepared: Json
  /** `_meta.filter` as configured (validated), or null. */
  readonly filter: Json | null
  /** `_meta.error_response`, or null. */
  readonly errorResponse: Json | null
  /** Of a global rule: does not run where the route or the consumer has a plugin of this name. Absent = it always runs. */
  readonly overridable?: true
  /** The resource whose conf this is: `routes/1`, `services/x`, `plugin_configs/y`, `global_rules/z`. */
  readonly owner: string
}

/** Plugins that consumers bring along: laid over the chain of the route once they are known. */
export interface CompiledOverlay {
  /** Merged consumer ⟵ consumer group, in run order. */
  readonly plugins: CompiledPlugin[]
  /** Plugins of the route that are switched off for these consumers. */
  readonly off: string[]
  /** The `group_id` of these consumers, where it names no consumer group: their requests are answered with 503. Absent = all is well. */
  readonly missingGroup?: string
}

export interface CompiledTimeout {
  readonly connectMs: number
  readonly sendMs: number
  readonly readMs: number
  /** From the beginning of a try to the head of its answer. Absent = no limit. */
  readonly perTryMs?: number
  /** From the arrival of the request to the end of the answer. Absent = no limit. */
  readonly totalMs?: number
}

/** Which tries are repeated. */
export interface CompiledRetry {
  readonly connectFailure: boolean
  readonly reset: boolean
  readonly timeout: boolean
  readonly statuses: readonly number[]
  /** Also requests that are not idempotent and were sent. */
  readonly nonIdempotent: boolean
  /** 0 = retries start at once. */
  readonly backoffBaseMs: number
  readonly backoffMaxMs: number
  /** Longest `Retry-After` that is waited for; 0 = the field is not looked at. */
  readonly retryAfterMaxMs: number
}

export interface CompiledRetryBudget {
  readonly percent: number
  readonly minPerSecond: number
}

/** How deadlines are passed on. */
export interface CompiledDeadline {
  readonly header: string
  readonly fromClient: boolean
}

/** What is done when an upstream fails, is late, or has too much to do. What is absent is as it is by default. */
export interface CompiledResilience {
  readonly retry?: CompiledRetry
  readonly budget?: CompiledRetryBudget
  readonly deadline?: CompiledDeadline
  readonly concurrency?: CompiledConcurrency
  readonly hedge?: CompiledHedge
}

/** When a second try is sent beside a late one. */
export interface CompiledHedge {
  /** With a percentile: the least delay. */
  readonly delayMs: number
  /** 0 = the delay alone decides. */
  readonly percentile: number
}

/** Bound of the requests that an upstream has at a time. */
export interface CompiledConcurrency {
  readonly limit: number
  readonly queue: number
  readonly queueTimeoutMs: number
  /** Null = the limit stands still. */
  readonly adaptive: { readonly min: number; readonly max: number; readonly tolerance: number } | null
}

export interface CompiledUpstream {
  /** Stable across reloads while it means the same upstream: `upstreams/<id>`, `routes/<id>`, `services/<id>`, `traffic-split:<hash>`. */
  readonly key: string
  readonly name: string
  readonly type: BalancerType
  readonly balancing: CompiledBalancing
  readonly scheme: 'http' | 'https'
  readonly nodes: CompiledNode[]
  readonly passHost: 'pass' | 'node' | 'rewrite'
  /** Only with `passHost: rewrite`, else empty. */
  readonly upstreamHost: string
  /** -1 = number of nodes - 1. */
  readonly retries: number
  /** 0 = no limit. */
  readonly retryTimeoutMs: number
  readonly timeout: CompiledTimeout
  readonly keepalive: CompiledKeepalive
  readonly tls: CompiledUpstreamTls | null
  /**
   * Slot of the shared round-robin rotor (shared/rotors) and of the cells of the upstream (shared/upstream-cells); the same key keeps the
   * same slot across reloads.
   */
  readonly rotor: number
  /** Absent = defaults. */
  readonly resilience?: CompiledResilience
  /** Absent = none. */
  readonly checks?: CompiledChecks
  readonly outlierDetection?: CompiledOutlierDetection
}

export interface CompiledChecks {
  readonly active: CompiledActiveCheck
  /** Null = the traffic says nothing about health. */
  readonly passive: CompiledPassiveCheck | null
}

export interface CompiledActiveCheck {
  readonly type: 'http' | 'https' | 'tcp'
  readonly timeoutMs: number
  readonly concurrency: number
  /** Host of the request and TLS name; empty = that of the node. */
  readonly host: string
  /** 0 = that of the node. */
  readonly port: number
  readonly path: string
  readonly method: string
  readonly body: string
  /** `Name: value`. */
  readonly headers: readonly string[]
  readonly verify: boolean
  readonly healthyIntervalMs: number
  readonly unhealthyIntervalMs: number
  readonly limits: CompiledHealthLimits
}

export interface CompiledPassiveCheck {
  readonly type: 'http' | 'https' | 'tcp'
  readonly limits: CompiledHealthLimits
}

/** How many observations in a row decide (0 = they do not count), and which statuses are which. */
export interface CompiledHealthLimits {
  readonly healthyStatuses: readonly number[]
  readonly unhealthyStatuses: readonly number[]
  readonly successes: number
  readonly httpFailures: number
  readonly tcpFailures: number
  readonly timeouts: number
}

/** Counts, percentages and factors of 0 are off. */
export interface CompiledOutlierDetection {
  /** Of the upstream in shared/node-cells, given together with those of its nodes; 0 = there was none left. */
  readonly slot: number
  readonly consecutive5xx: number
  readonly consecutiveGatewayFailure: number
  readonly successRateMinimumHosts: number
  readonly successRateRequestVolume: number
  /** Standard deviations, not thousandths. */
  readonly successRateStdevFactor: number
  readonly failurePercentageThreshold: number
  readonly failurePercentageMinimumHosts: number
  readonly failurePercentageRequestVolume: number
  readonly slowCallMs: number
  readonly consecutiveSlowCalls: number
  readonly slowCallPercentage: number
  readonly slowCallRequestVolume: number
  readonly intervalMs: number
  readonly baseEjectionMs: number
  readonly maxEjectionMs: number
  readonly maxEjectionPercent: number
}

export type BalancerType = 'roundrobin' | 'chash' | 'least_conn' | 'ewma' | 'random'

/** Options of the balancers, whatever the type. */
export interface CompiledBalancing {
  /** With type `chash`, else null. */
  readonly hash: CompiledHash | null
  readonly slowStart: CompiledSlowStart | null
  /** Time in which an old latency loses 63 % of its weight. */
  readonly ewmaDecayMs: number
  /** When no node is usable: all are (`fail_open`), or none is (`fail`). */
  readonly allUnhealthy: 'fail_open' | 'fail'
  readonly subset: CompiledSubset | null
}

export interface CompiledHash {
  readonly on: 'vars' | 'header' | 'cookie' | 'consumer' | 'vars_combinations'
  /** Empty with `consumer`. */
  readonly key: string
  readonly algorithm: 'ketama' | 'maglev'
  /** Most requests in flight of a node, in percent of its fair share; 0 = no bound, else at least 100. */
  readonly balanceFactor: number
}

export interface CompiledSlowStart {
  readonly windowMs: number
  readonly aggression: number
  /** Share of its weight that a node begins with, from 0 to 1. */
  readonly minWeight: number
}

export interface CompiledSubset {
  /** Label of the nodes, and the template of the value that it must have. */
  readonly match: readonly { readonly label: string; readonly value: string }[]
  readonly fallback: 'any' | 'none'
}

export interface CompiledKeepalive {
  /** Idle connections kept per worker and node. */
  readonly size: number
  readonly idleTimeoutMs: number
  /** Requests on one connection before it is closed. */
  readonly requests: number
  /** Requests in flight on one connection; 1 = no pipelining. */
  readonly pipelining: number
}

export interface CompiledUpstreamTls {
  readonly verify: boolean
  /** PEM, or empty. */
  readonly clientCert: string
  readonly clientKey: string
  readonly ca: string
  /** SNI and name to verify; empty = `upstream_host` with `pass_host: rewrite`, else the node's host. */
  readonly serverName: string
}

export interface CompiledNode {
  /** Name as configured: what `pass_host: node` sends and TLS verifies. */
  readonly host: string
  /** Address to connect to. Equal to `host` for literals; filled by DNS for names; absolute path for `unix:` nodes. */
  readonly address: string
  readonly port: number
  readonly weight: number
  readonly priority: number
  /** `metadata` of the node as far as it is text, numbers and booleans: what `subset` matches. Absent = none. */
  readonly labels?: { readonly [name: string]: string }
  /** Slot in shared/node-cells, given when addresses are known; absent or 0 = nothing needs to be known about this node. */
  readonly slot?: number
}
