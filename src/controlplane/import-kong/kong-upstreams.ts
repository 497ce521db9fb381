/** Services, upstreams and targets of a Kong file as upstreams of ours. */
import type { DocumentPath, IssueList } from '../load-issue.js'
import { readTarget } from './entities.js'
import type { Certificate, Entity, KongEntities, Owned } from './entity-kinds.js'
import type { KongService, KongTarget, KongUpstream } from './kong-schema.js'
import { resourceName } from './kong-text.js'
import type { Origins } from './origins.js'

type Fields = { [name: string]: unknown }
type Hashing = { readonly hash_on: string; readonly key?: string }

const defaultTimeoutMs = 60_000
const defaultRetries = 5
const schemes: readonly string[] = ['http', 'https']

/** Where a service leads, its `url` taken apart. */
interface Address {
  readonly scheme: string
  readonly host: string
  readonly port: number
}

export class UpstreamImport {
  private readonly made = new Map<string, Fields>()
  private readonly upstreams: ReadonlyMap<string, Entity<KongUpstream>>
  private readonly targets = new Map<string, Owned<KongTarget, KongUpstream>[]>()
  private readonly authorities: ReadonlyMap<string, string>
  private readonly certificates: ReadonlyMap<string, Certificate>

  constructor(
    entities: KongEntities,
    private readonly keepalive: Fields | null,
    private readonly origins: Origins,
    private readonly issues: IssueList,
  ) {
    this.upstreams = new Map(entities.upstreams.map((upstream) => [upstream.name, upstream]))
    for (const target of entities.targets) {
      const name = target.owner?.name ?? ''
      this.targets.set(name, [...(this.targets.get(name) ?? []), target])
    }
    this.authorities = new Map(entities.caCertificates.map(({ name, value }) => [name, value.cert]))
    this.certificates = new Map(entities.certificates.map((one) => [one.name, one]))
  }

  get resources(): Fields[] {
    return [...this.made.values()]
  }

  /** Id of the upstream of this service; `preserveHost`: the one that is sent the client's Host. Null with an issue. */
  of(service: Entity<KongService>, preserveHost: boolean): string | null {
    const id = resourceName(preserveHost ? `${service.name}.client-host` : service.name)
    if (this.made.has(id)) return id
    const address = this.address(service)
    if (address === null) return null
    this.made.set(id, this.upstream(id, service, address, preserveHost))
    return id
  }

  private address({ value, path }: Entity<KongService>): Address | null {
    let { protocol: scheme = 'http', host, port } = value
    let at: DocumentPath = [...path, 'protocol']
    if (value.url !== undefined) {
      at = [...path, 'url']
      const url = parseUrl(value.url)
      if (url === null) {
        this.issues.error(at, `${JSON.stringify(value.url)} is not a URL`, 'a URL such as http://user-service:8080/path')
        return null
      }
      scheme = url.protocol.slice(0, -1)
      host = url.hostname
      port = url.port === '' ? undefined : Number(url.port)
    }
    if (!schemes.includes(scheme)) {
      this.issues.error(at, `protocol ${JSON.stringify(scheme)} is not supported yet`, 'http or https')
      return null
    }
    if (host === undefined) {
      this.issues.error(path, 'host: required field missing', 'a url, or a host')
      return null
    }
    return { scheme, host, port: port ?? (value.url !== undefined && scheme === 'https' ? 443 : 80) }
  }

  private upstream(id: string, service: Entity<KongService>, address: Address, preserveHost: boolean): Fields {
    const { value, path } = service
    const balanced = this.upstreams.get(address.host)
    const fields: Fields = {
      id,
      name: service.name.slice(0, 256),
      scheme: address.scheme,
      retries: value.retries ?? defaultRetries,
      timeout: this.origins.none({
        connect: (value.connect_timeout ?? defaultTimeoutMs) / 1000,
        send: (value.write_timeout ?? defaultTimeoutMs) / 1000,
        read: (value.read_timeout ?? defaultTimeoutMs) / 1000,
      }),
      ...(this.keepalive !== null && { keepalive_pool: this.origins.none({ ...this.keepalive }) }),
      ...(preserveHost ? { pass_host: 'pass' } : hostOf(balanced)),
      ...(address.scheme === 'https' && { tls: this.tls(service) }),
      ...(balanced === undefined
        ? { nodes: [this.origins.of(path, { host: address.host, port: address.port, weight: 1 })] }
        : { nodes: this.nodes(balanced), ...this.balancing(balanced), ...this.checks(balanced) }),
    }
    this.origins.of(path, fields)
    if (balanced !== undefined) {
      this.origins.field(fields, 'nodes', [...balanced.path, 'targets'])
      this.origins.field(fields, 'checks', [...balanced.path, 'healthchecks'])
      for (const field of ['type', 'hash_on', 'key']) this.origins.field(fields, field, balanced.path)
    }
    return fields
  }

  private tls({ value, path }: Entity<KongService>): Fields {
    const authorities = (value.ca_certificates ?? []).map((id, index) => {
      const found = this.authorities.get(id)
      if (found === undefined) {
        this.issues.error(
          [...path, 'ca_certificates', index],
          `there is no CA certificate ${JSON.stringify(id)}`,
          'the id of one of ca_certificates',
        )
      }
      return found ?? ''
    })
    const reference = value.client_certificate
    const name = typeof reference === 'string' ? reference : (reference?.id ?? reference?.name)
    const client = name === undefined ? undefined : this.certificates.get(name)
    if (name !== undefined && client === undefined) {
      this.issues.error([...path, 'client_certificate'], `there is no certificate ${JSON.stringify(name)}`, 'the id of one of certificates')
    }
    if (value.tls_sans !== undefined) this.issues.error([...path, 'tls_sans'], 'tls_sans is not supported', 'no tls_sans')
    return this.origins.of(path, {
      verify: value.tls_verify ?? false,
      ...(authorities.length > 0 && { ca: authorities.join('\n') }),
      ...(client !== undefined && { client_cert: client.value.cert, client_key: client.value.key }),
    })
  }

  private nodes(upstream: Entity<KongUpstream>): Fields[] {
    const nodes = new Map<string, Fields>()
    for (const { value, path } of this.targets.get(upstream.name) ?? []) {
      const address = readTarget(value.target)
      if (address === null) continue
      if (value.failover === true) {
        this.issues.error(
          [...path, 'failover'],
          'failover targets are not supported',
          'a node with a lower priority in a file of our own form',
        )
      }
      const node = this.origins.of(path, { ...address, weight: value.weight ?? 100 })
      // Kong keeps one entry per target: the last one.
      nodes.set(`${address.host}:${address.port}`, node)
    }
    return this.origins.of([...upstream.path, 'targets'], [...nodes.values()])
  }

  private balancing({ value, path }: Entity<KongUpstream>): Fields {
    if (value.use_srv_name === true) this.issues.error([...path, 'use_srv_name'], 'use_srv_name is not supported', 'false')
    if (value.client_certificate !== undefined) {
      this.issues.error(
        [...path, 'client_certificate'],
        'client certificates of upstreams are not supported',
        'client_certificate of the service',
      )
    }
    const hashOn = value.hash_on ?? 'none'
    const algorithm = value.algorithm ?? (hashOn === 'none' ? 'round-robin' : 'consistent-hashing')
    if (algorithm === 'sticky-sessions') {
      this.issues.error([...path, 'algorithm'], 'algorithm sticky-sessions is not supported', 'consistent-hashing with hash_on cookie')
      return {}
    }
    if (algorithm === 'least-connections') return { type: 'least_conn' }
    if (algorithm === 'latency') return { type: 'ewma' }
    if (algorithm === 'round-robin') return { type: 'roundrobin' }
    if (value.hash_fallback !== undefined && value.hash_fallback !== 'none') {
      this.issues.error([...path, 'hash_fallback'], 'hash_fallback is not supported', 'none')
    }
    return { type: 'chash', ...this.hashing(value, path) }
  }

  private hashing(value: KongUpstream, path: DocumentPath): Fields {
    const need = (field: 'hash_on_header' | 'hash_on_cookie' | 'hash_on_query_arg'): string => {
      const name = value[field]
      if (name === undefined) this.issues.error(path, `failed conditional validation: ${field} is required`, `a field ${field}`)
      return name ?? ''
    }
    const result = ((): Hashing | null => {
      switch (value.hash_on ?? 'none') {
        case 'consumer':
          return { hash_on: 'consumer' }
        case 'ip':
          return { hash_on: 'vars', key: 'remote_addr' }
        case 'header':
          return { hash_on: 'header', key: need('hash_on_header') }
        case 'cookie':
          this.issues.warn([...path, 'hash_on_cookie'], 'the cookie is read but never set by the gateway', 'a service that sets it')
          return { hash_on: 'cookie', key: need('hash_on_cookie') }
        case 'path':
          return { hash_on: 'vars', key: 'uri' }
        case 'query_arg':
          return { hash_on: 'vars', key: `arg_${need('hash_on_query_arg')}` }
        default:
          return null
      }
    })()
    if (result !== null) return { ...result }
    this.issues.error(
      [...path, 'hash_on'],
      `hash_on ${value.hash_on ?? 'none'} is not supported with consistent-hashing`,
      'consumer, ip, header, cookie, path or query_arg',
    )
    return {}
  }

  /**
   * Checks by the traffic alone. In Kong what they take out comes back when an operator says so; here it comes back after a while, as
   * outlier detection does it.
   */
  private outliers(limits: PassiveLimits, at: DocumentPath): Fields {
    const { http_statuses: statuses, http_failures: http = 0, tcp_failures: tcp = 0, timeouts = 0 } = limits
    if (http + tcp + timeouts === 0) return {}
    this.issues.warn(
      at,
      'passive health checks without active ones become outlier_detection: a node that fails comes back by itself, after 30 s and longer each time',
      'active health checks too, if it should come back when it is probed to be well',
    )
    const others = (statuses ?? []).filter((status) => status < 500)
    if (http > 0 && others.length > 0) {
      this.issues.warn(
        [...at, 'unhealthy', 'http_statuses'],
        `${others.join(', ')} will not count, only statuses from 500`,
        'statuses from 500',
      )
    }
    const broken = [tcp, timeouts].filter((count) => count > 0)
    return {
      outlier_detection: {
        consecutive_5xx: http,
        consecutive_gateway_failure: broken.length === 0 ? 0 : Math.min(...broken),
        success_rate_stdev_factor: 0,
        max_ejection_percent: 100,
      },
    }
  }

  /** Intervals and counters of 0 mean "off" in Kong, and that is their default. */
  private checks({ value, path }: Entity<KongUpstream>): Fields {
    const checks = value.healthchecks
    if (checks === undefined) return {}
    const at = [...path, 'healthchecks']
    if ((checks.threshold ?? 0) > 0) this.issues.error([...at, 'threshold'], 'threshold is not supported', '0')
    const { active, passive } = checks
    const healthyInterval = active?.healthy?.interval ?? 0
    const unhealthyInterval = active?.unhealthy?.interval ?? 0
    const isActive = healthyInterval > 0 || unhealthyInterval > 0
    const counts = [
      passive?.healthy?.successes,
      passive?.unhealthy?.http_failures,
      passive?.unhealthy?.tcp_failures,
      passive?.unhealthy?.timeouts,
    ]
    const isPassive = counts.some((count) => (count ?? 0) > 0)
    if (!isActive && !isPassive) return {}
    if (!isActive) return this.outliers(passive?.unhealthy ?? {}, [...at, 'passive'])
    if (healthyInterval === 0 || unhealthyInterval === 0) {
      this.issues.error(
        [...at, 'active'],
        'probing only healthy or only unhealthy nodes is not supported',
        'an interval in healthy and in unhealthy',
      )
    }
    const successes = active?.healthy?.successes ?? 0
    if (successes === 0) {
      this.issues.warn([...at, 'active'], 'healthy.successes is 0, so that no probe would bring a node back; 1 is taken', 'successes: 1')
    }
    return {
      checks: {
        active: {
          ...present({
            type: active?.type,
            timeout: active?.timeout,
            concurrency: active?.concurrency,
            http_path: active?.http_path,
            https_verify_certificate: active?.https_verify_certificate,
            host: active?.https_sni,
          }),
          ...(active?.headers !== undefined && {
            req_headers: Object.entries(active.headers).flatMap(([name, values]) => values.map((one) => `${name}: ${one}`)),
          }),
          healthy: present({ ...active?.healthy, interval: Math.max(1, healthyInterval), successes: Math.max(1, successes) }),
          unhealthy: present({
            http_failures: 0,
            tcp_failures: 0,
            timeouts: 0,
            ...active?.unhealthy,
            interval: Math.max(1, unhealthyInterval),
          }),
        },
        ...(isPassive && {
          passive: {
            ...present({ type: passive?.type }),
            healthy: { successes: 0, ...passive?.healthy },
            unhealthy: { http_failures: 0, tcp_failures: 0, timeouts: 0, ...passive?.unhealthy },
          },
        }),
      },
    }
  }
}

type PassiveLimits = NonNullable<NonNullable<NonNullable<KongUpstream['healthchecks']>['passive']>['unhealthy']>

/** Fields that are there. */
function present(fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
}

function hostOf(balanced: Entity<KongUpstream> | undefined): Fields {
  const header = balanced?.value.host_header
  return header === undefined ? { pass_host: 'node' } : { pass_host: 'rewrite', upstream_host: header }
}

function parseUrl(text: string): URL | null {
  try {
    return new URL(text)
  } catch {
    return null
  }
}
