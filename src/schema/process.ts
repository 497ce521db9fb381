/**
 * The `sluice:` section after validation: what concerns the process, not the traffic rules. Types only; the TypeBox schema with
 * defaults and descriptions is in `schema/sluice-section.ts`. Times in milliseconds, sizes in bytes.
 */
import type { RouterOptions } from './compiled.js'

export type AcceptMode = 'auto' | 'primary' | 'kernel'

export interface ProcessConfig {
  /** 0 = the cores available to the process. */
  readonly workers: number
  readonly accept: AcceptMode
  readonly listeners: ListenerConfig[]
  readonly admin: AdminConfig | null
  /** Address of /metrics, /status and /v1/*; null = off. */
  readonly metrics: SocketAddress | null
  /** Bounds of the buckets of `apisix_http_latency`, ascending. */
  readonly latencyBoundsMs: readonly number[]
  readonly limits: LimitsConfig
  readonly log: LogConfig
  /** Module files of user plugins, absolute. */
  readonly plugins: string[]
  readonly realIp: RealIpConfig
  readonly router: RouterOptions
  readonly dns: DnsConfig
  readonly drainTimeoutMs: number
  /** Let identity headers of clients pass (default false). */
  readonly trustIdentityHeaders: boolean
  readonly pidFile: string | null
  /** Where limits with a redis policy count when their conf names no server; null = not configured. */
  readonly redis: RedisConfig | null
  readonly store: StoreConfig
  readonly rateLimitTable: { readonly keys: number }
  /** How many gateways serve the same traffic, for the checks of configurations. */
  readonly gatewayNodes: number
  /** V8's helper threads collect young objects too. */
  readonly parallelGc: boolean
  readonly overload: OverloadConfig
  /** Where changes of circuit breakers are told; null = nowhere. */
  readonly breakers: { readonly webhook: WebhookConfig | null }
}

/** Where the resources are kept. */
export type StoreConfig =
  | { readonly kind: 'file' }
  | {
      readonly kind: 'redis'
      /** Null = nothing was said, neither here nor in `ProcessConfig.redis`. */
      readonly redis: RedisConfig | null
      /** It was named for the store alone. */
      readonly isOwnRedis: boolean
      readonly name: string
      /** Last configuration that ran here; absolute. */
      readonly copyFile: string
    }
  | { readonly kind: 'etcd'; readonly etcd: EtcdConfig; readonly copyFile: string }

/** How etcd is reached, and what is read there. */
export interface EtcdConfig {
  /** URLs without a slash at the end. */
  readonly hosts: readonly string[]
  /** Begins with a slash and ends without one. */
  readonly prefix: string
  readonly timeoutMs: number
  readonly user: string | null
  readonly password: string | null
  /** Of `https` hosts; files are absolute. */
  readonly tls: {
    readonly verify: boolean
    readonly serverName: string | null
    readonly certFile: string | null
    readonly keyFile: string | null
    readonly caFile: string | null
  }
  /** Keys of 16 bytes that encrypt secrets in etcd; the first one is used for writing. */
  readonly keyring: readonly string[]
  /** Encrypt also fields of plugins. */
  readonly encryptFields: boolean
}

/** When load is shed; 0 = by this never. */
export interface OverloadConfig {
  readonly maxLagMs: number
  readonly maxMemoryBytes: number
  readonly retryAfterSeconds: number
}

export interface WebhookConfig {
  readonly url: string
  readonly timeoutMs: number
  readonly headers: { readonly [name: string]: string }
}

export interface RedisConfig {
  readonly kind: 'redis' | 'redis-cluster' | 'redis-sentinel'
  readonly connection: {
    readonly nodes: SocketAddress[]
    readonly username: string | null
    readonly password: string | null
    readonly database: number
    readonly tls: { readonly verify: boolean; readonly serverName: string | null } | null
    readonly timeoutMs: number
    readonly sentinel: {
      readonly masterName: string
      readonly role: 'master' | 'slave'
      readonly username: string | null
      readonly password: string | null
    } | null
  }
}

export interface SocketAddress {
  readonly host: string
  readonly port: number
}

export interface ListenerConfig extends SocketAddress {
  /** null = plain HTTP. */
  readonly tls: ListenerTls | null
  /** Connections begin with a PROXY protocol v2 header that names the client. Absent = false. */
  readonly proxyProtocol?: boolean
  /** The strict listener: HTTP parsers of Node, on worker 0 only. Absent = another kind. */
  readonly node?: { readonly http2: boolean }
  /** What serves a listener that is not of kind node. Absent = `tcp` where it can, else `uws`. */
  readonly transport?: 'tcp' | 'uws'
}

export interface ListenerTls {
  /** PEM files. The default certificate; `ssls` add certificates by SNI. Both empty = none: only `byServerName`, which then has entries. */
  readonly certFile: string
  readonly keyFile: string
  /** Certificates by server name, from `ssls`, as PEM text. */
  readonly byServerName: readonly NamedCertificate[]
}

/** A certificate of `ssls`, PEM text. */
export interface NamedCertificate {
  readonly names: string[]
  readonly cert: string
  readonly key: string
}

export interface AdminConfig extends SocketAddress {
  /** Empty = one is made and kept in `keyFile`. */
  readonly keys: readonly AdminKey[]
  /** Journal of what the Admin API changed; absolute. */
  readonly stateFile: string
  /** Where a key is kept that nobody configured; absolute. */
  readonly keyFile: string
  /** Clients that may connect: addresses and CIDR blocks. Empty = all that reach the address. */
  readonly allow: readonly string[]
  /** Names that may stand in Host, besides addresses, localhost and the one that is listened on; lower case. */
  readonly hosts: readonly string[]
  /** Origins of web pages that may send requests; `*` = all. */
  readonly origins: readonly string[]
  /** PEM files; null = plain HTTP. With `clientCaFile` clients must show a certificate that it has signed. */
  readonly tls: { readonly certFile: string; readonly keyFile: string; readonly clientCaFile: string | null } | null
}

export interface AdminKey {
  readonly name: string
  readonly key: string
  readonly role: 'admin' | 'viewer'
}

export interface LimitsConfig {
  /** All header fields of a request together (431). */
  readonly maxHeaderBytes: number
  /** Number of header fields of a request (431). */
  readonly maxHeaderCount: number
  /** Request target (414). */
  readonly maxTargetBytes: number
  /** Request body (413); 0 = no limit. */
  readonly maxBodyBytes: number
  /** Bytes of a body held in memory for one exchange: collected, or waiting for a slow peer. */
  readonly maxBufferedBytes: number
  /** Client connections of the process. */
  readonly maxConnections: number
  /** No byte of a request body for so long: 408. */
  readonly bodyTimeoutMs: number
  /** The client takes nothing of a response for so long: closed. */
  readonly sendTimeoutMs: number
  /** Header block of an upstream's response (502). */
  readonly maxResponseHeaderBytes: number
}

export interface LogConfig {
  readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent'
  /** `path` is absolute, or `stdout`. */
  readonly access: { readonly format: 'off' | 'common' | 'json'; readonly path: string }
}

export interface RealIpConfig {
  /** Peers whose forwarding headers are believed. Empty = nobody. */
  readonly trustedAddresses: string[]
  /** Header that names the client: lower-case. */
  readonly header: string
  readonly recursive: boolean
}

export interface DnsConfig {
  /** `host:port` of resolvers; empty = the system's. */
  readonly servers: string[]
  /** Overrides the TTL of answers; 0 = honour them (floor 1 s). */
  readonly ttlMs: number
  readonly timeoutMs: number
}
