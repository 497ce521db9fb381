/** Rules about what can be reached from outside: admin server, operators' pages, headers that are believed. */
import type { LintRule } from './lint-rule.js'
import { isOptions } from './plugin-kinds.js'
import { isLoopback } from './reach.js'

const adminPath = ['sluice', 'admin']

export const exposureRules: readonly LintRule[] = [
  {
    id: 'admin-open',
    severity: 'error',
    group: 'security',
    finds: 'An admin server that other machines reach, without a list of clients and without TLS.',
    why: 'Whoever reads the key from the network changes all routes and reads all credentials.',
    find({ process: { admin } }, report) {
      if (admin === null || isLoopback(admin.host) || admin.allow.length > 0 || admin.tls !== null) return
      report(
        adminPath,
        `the admin server listens on ${admin.host}, for every address and in clear`,
        'listen on 127.0.0.1, or allow and tls',
      )
    },
  },
  {
    id: 'admin-half-open',
    severity: 'warning',
    group: 'security',
    finds: 'An admin server that other machines reach, with a list of clients or TLS, but not both.',
    why: 'Without TLS the key can be read on the way; without a list, it is all that stands between anybody and the configuration.',
    find({ process: { admin } }, report) {
      if (admin === null || isLoopback(admin.host) || admin.allow.length > 0 === (admin.tls !== null)) return
      const missing = admin.tls === null ? 'tls' : 'allow'
      report(adminPath, `the admin server listens on ${admin.host} without ${missing}`, `sluice.admin.${missing}`)
    },
  },
  {
    id: 'admin-any-origin',
    severity: 'warning',
    group: 'security',
    finds: 'An admin server that answers web pages of every origin.',
    why: 'A page that somebody opens by chance can try keys against it.',
    find({ process: { admin }, written }, report) {
      if (admin?.origins.includes('*') !== true) return
      const own = [...adminPath, 'origins']
      report(
        written(own) === undefined ? ['deployment', 'admin', 'enable_admin_cors'] : own,
        'web pages of every origin may send requests',
        'the origins of your dashboards',
      )
    },
  },
  {
    id: 'metrics-open',
    severity: 'advice',
    group: 'security',
    finds: 'Metrics and status pages that other machines reach.',
    why: 'They need no key, and name routes, consumers and nodes.',
    find({ process: { metrics } }, report) {
      if (metrics === null || isLoopback(metrics.host)) return
      report(
        ['sluice', 'metrics'],
        `metrics and status are served on ${metrics.host}`,
        'a loopback address, or a network of operators only',
      )
    },
  },
  {
    id: 'identity-headers-believed',
    severity: 'error',
    group: 'security',
    finds: 'Identity headers of clients that pass to the upstreams, on a listener that other machines reach.',
    why: 'Anybody can send X-Consumer-Username: upstreams that believe it believe them.',
    find({ process, isExposed }, report) {
      if (process.trustIdentityHeaders && isExposed)
        report(['sluice', 'trust_identity_headers'], 'identity headers of clients are let through', 'false')
    },
  },
  {
    id: 'everybody-trusted',
    severity: 'error',
    group: 'security',
    finds: 'Forwarding headers that are believed from every address.',
    why: 'Every client names the address that limits, lists of addresses and logs then see.',
    find({ process, plugins }, report) {
      const isAll = (address: unknown) => address === '0.0.0.0/0' || address === '::/0'
      const at = process.realIp.trustedAddresses.findIndex(isAll)
      if (at >= 0)
        report(
          ['sluice', 'real_ip'],
          `${process.realIp.trustedAddresses[at]} is trusted to name the client`,
          'the addresses of your load balancers',
        )
      for (const { name, conf, path } of plugins) {
        const list = name === 'real-ip' && isOptions(conf) ? conf['trusted_addresses'] : undefined
        if (Array.isArray(list) && list.some(isAll)) {
          report([...path, 'trusted_addresses'], 'every address is trusted to name the client', 'the addresses of your load balancers')
        }
      }
    },
  },
]
