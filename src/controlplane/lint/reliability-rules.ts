/** Rules about what happens when a part fails or is slow. */
import type { LintRule } from './lint-rule.js'
import { hostsOf } from './traffic-rules.js'

/** Longer waits hold more requests than a gateway should (failure cases of the guide). */
const CONNECT_SECONDS_MAX = 3
const READ_SECONDS_MAX = 30

export const reliabilityRules: readonly LintRule[] = [
  {
    id: 'nodes-unchecked',
    severity: 'advice',
    group: 'reliability',
    finds: 'An upstream with several nodes, without health checks and without outlier detection.',
    why: 'A node that fails keeps getting its share of the requests.',
    find({ upstreams }, report) {
      for (const upstream of upstreams) {
        const { checks, outlier_detection: outliers } = upstream.value
        if (hostsOf(upstream).length < 2 || checks !== undefined || outliers !== undefined) continue
        report(upstream.path, 'nothing notices a node that fails', 'checks or outlier_detection')
      }
    },
  },
  {
    id: 'no-breaker',
    severity: 'advice',
    group: 'reliability',
    finds: 'An upstream with one node that no circuit breaker, bound of concurrency or outlier detection protects.',
    why: 'When it is slow, every request waits for it until its time is over.',
    find({ routes }, report) {
      const told = new Set<object>()
      for (const { upstream, plugins } of routes) {
        if (upstream === null || told.has(upstream.value) || hostsOf(upstream).length !== 1) continue
        const { concurrency, checks, outlier_detection: outliers } = upstream.value
        if (concurrency !== undefined || checks !== undefined || outliers !== undefined) continue
        if (plugins.some(({ name }) => name === 'circuit-breaker' || name === 'api-breaker')) continue
        told.add(upstream.value)
        report(upstream.path, 'nothing stops requests to it while it fails', 'circuit-breaker on its routes, or concurrency')
      }
    },
  },
  {
    id: 'long-timeout',
    severity: 'advice',
    group: 'reliability',
    finds: `A timeout of more than ${CONNECT_SECONDS_MAX} s for connecting, or ${READ_SECONDS_MAX} s for reading.`,
    why: 'While requests wait for a service that is gone, they fill the gateway and its clients give up.',
    find({ routes, upstreams }, report) {
      const places = [...upstreams, ...routes.map(({ entry }) => entry)]
      for (const { value, path } of places) {
        const { connect = 0, read = 0 } = value.timeout ?? {}
        if (connect > CONNECT_SECONDS_MAX)
          report([...path, 'timeout', 'connect'], `${connect} s for a connection`, `${CONNECT_SECONDS_MAX} s or less`)
        if (read > READ_SECONDS_MAX) report([...path, 'timeout', 'read'], `${read} s for an answer`, `${READ_SECONDS_MAX} s or less`)
      }
    },
  },
  {
    id: 'repeats-unsafe-requests',
    severity: 'warning',
    group: 'reliability',
    finds: 'Retries of requests that are not idempotent.',
    why: 'A request that was carried out and whose answer was lost is carried out again.',
    find({ routes, upstreams }, report) {
      for (const { value, path } of [...upstreams, ...routes.map(({ entry }) => entry)]) {
        if (value.retry_non_idempotent === true)
          report([...path, 'retry_non_idempotent'], 'POST and PATCH are sent again', 'false, unless the service knows repeats by a key')
      }
    },
  },
  {
    id: 'test-plugin',
    severity: 'advice',
    group: 'reliability',
    finds: 'A plugin that invents answers or failures, beside an upstream.',
    why: 'It was made for tests.',
    find({ routes }, report) {
      for (const { entry, plugins, upstream } of routes) {
        if (upstream === null) continue
        for (const { name, path } of plugins) {
          const isOwn = entry.plugins.get(name)?.path === path
          if (isOwn && (name === 'fault-injection' || name === 'mocking' || name === 'echo'))
            report(path, `${name} answers instead of the upstream, or spoils it`, 'no such plugin in production', { atKey: true })
        }
      }
    },
  },
  {
    id: 'same-match-twice',
    severity: 'warning',
    group: 'reliability',
    finds: 'Two routes that match the same requests with the same priority.',
    why: 'Which of them serves is decided by the order of the file.',
    find({ routes }, report) {
      const first = new Map<string, string>()
      for (const { entry } of routes) {
        const { uri, uris, host, hosts, methods, remote_addr: address, remote_addrs: addresses, vars, priority = 0 } = entry.value
        const sorted = (list: readonly string[] | undefined, one: string | undefined) =>
          [...(list ?? (one === undefined ? [] : [one]))].sort()
        const parts = [sorted(uris, uri), sorted(hosts, host), sorted(methods, undefined), sorted(addresses, address), vars ?? [], priority]
        const key = JSON.stringify([...parts, entry.value.service_id ?? ''])
        const other = first.get(key)
        if (other === undefined) first.set(key, entry.id)
        else report(entry.path, `route ${entry.id} matches exactly what route ${other} matches`, 'another match or priority')
      }
    },
  },
]
