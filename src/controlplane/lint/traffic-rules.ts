/** Rules about the way of requests: limits, authentication, what travels in clear. */
import type { CheckedPlugin } from '../load-types.js'
import type { LintRule, LintSubject, LintUpstream } from './lint-rule.js'
import { isLimit, isOptions } from './plugin-kinds.js'
import { hostOf, isInside, isLoopback } from './reach.js'

export const trafficRules: readonly LintRule[] = [
  {
    id: 'route-without-limit',
    severity: 'warning',
    group: 'security',
    finds: 'A public route to an upstream without any limit of requests.',
    why: 'One client can take all that the service behind it has.',
    find(subject, report) {
      const byConsumer = consumersAreLimited(subject)
      for (const { entry, plugins, upstream, authentication, isPublic } of subject.routes) {
        if (!isPublic || upstream === null || plugins.some(isLimit)) continue
        if (authentication !== null && byConsumer) continue
        if (upstream.value.concurrency !== undefined) continue
        report(
          entry.path,
          'anybody may ask as often as they like',
          'rate-limit or another limit on the route, its service, its consumers or as a global rule',
        )
      }
    },
  },
  {
    id: 'route-without-authentication',
    severity: 'advice',
    group: 'security',
    finds: 'A public route without authentication in a configuration whose other routes mostly have it.',
    why: 'It may have been forgotten.',
    find({ routes }, report) {
      const open = routes.filter(({ authentication, upstream, isPublic }) => authentication === null && upstream !== null && isPublic)
      const closed = routes.filter(({ authentication }) => authentication !== null).length
      if (closed <= open.length) return
      for (const { entry } of open)
        report(
          entry.path,
          `nobody has to say who they are here, but on ${closed} other routes`,
          'an authentication plugin, if that is not meant',
        )
    },
  },
  {
    id: 'cors-any-origin-with-credentials',
    severity: 'error',
    group: 'security',
    finds: 'CORS that lets pages of every origin read answers with the credentials of the visitor.',
    why: 'Any page that a user of the API opens can act in their name.',
    find({ plugins }, report) {
      for (const { name, conf, path } of plugins) {
        if (name !== 'cors' || !isOptions(conf) || conf['allow_credential'] !== true) continue
        const pattern = conf['allow_origins_by_regex']
        const anyPattern = Array.isArray(pattern) && pattern.some((item) => item === '.*' || item === '.+' || item === '^.*$')
        if (conf['allow_origins'] === '**' || conf['allow_origins'] === '*') {
          report([...path, 'allow_origins'], 'every origin may send credentials', 'the origins of your own pages')
        } else if (anyPattern)
          report([...path, 'allow_origins_by_regex'], 'every origin may send credentials', 'a pattern for your own pages')
      }
    },
  },
  {
    id: 'credentials-over-plain-http',
    severity: 'warning',
    group: 'security',
    finds: 'A route with authentication that clients on other machines reach by plain HTTP.',
    why: 'Keys, passwords and tokens can be read and used by whoever is on the way.',
    find({ routes, process }, report) {
      const plain = process.listeners.find(({ host, tls, proxyProtocol }) => tls === null && proxyProtocol !== true && !isLoopback(host))
      // Somebody in front ends TLS.
      if (plain === undefined || process.realIp.trustedAddresses.length > 0) return
      for (const { authentication, plugins, isPublic } of routes) {
        if (authentication === null || !isPublic || plugins.some(redirectsToHttps)) continue
        report(
          authentication.path,
          `credentials are taken on ${plain.host}:${plain.port} in clear`,
          'redirect with http_to_https, or a TLS listener alone',
          {
            atKey: true,
          },
        )
      }
    },
  },
  {
    id: 'plain-upstream-for-authenticated-route',
    severity: 'warning',
    group: 'security',
    finds: 'A route with authentication whose upstream is asked by plain HTTP outside of private networks.',
    why: 'What the gateway protects, credentials and identity headers included, can be read and changed behind it.',
    find({ routes }, report) {
      const told = new Set<LintUpstream['value']>()
      for (const { authentication, upstream } of routes) {
        if (authentication === null || upstream === null || told.has(upstream.value)) continue
        const outside = hostsOf(upstream).find((host) => !isInside(host))
        if ((upstream.value.scheme ?? 'http') !== 'http' || outside === undefined) continue
        told.add(upstream.value)
        report(upstream.path, `authenticated requests go to ${outside} in clear`, 'scheme: https with tls.verify: true')
      }
    },
  },
  {
    id: 'plain-authority',
    severity: 'error',
    group: 'security',
    finds: 'An authorization server, policy engine or issuer that is asked by plain HTTP outside of private networks.',
    why: 'Whoever answers in its place decides who may pass.',
    find({ plugins }, report) {
      for (const { plugin, path, url } of authorityUrls(plugins)) {
        if (url.protocol === 'http:' && !isInside(url.hostname))
          report([...plugin.path, ...path], `${url.hostname} is asked in clear`, 'https://')
      }
    },
  },
  {
    id: 'tls-unverified',
    severity: 'warning',
    group: 'security',
    finds: 'TLS to an authority, to Redis or to nodes outside of private networks without a check of the certificate.',
    why: 'Anybody on the way can pretend to be the other side.',
    find({ plugins, upstreams, process }, report) {
      const asked = new Set(
        authorityUrls(plugins)
          .filter(({ url }) => url.protocol === 'https:')
          .map(({ plugin }) => plugin),
      )
      for (const { conf, path } of asked)
        if (isOptions(conf) && conf['ssl_verify'] === false) report([...path, 'ssl_verify'], 'its certificate is not checked', 'true')
      for (const upstream of upstreams) {
        if (upstream.value.scheme !== 'https' || upstream.value.tls?.verify === true) continue
        const outside = hostsOf(upstream).find((host) => !isInside(host))
        if (outside !== undefined) report(upstream.path, `the certificate of ${outside} is not checked`, 'tls.verify: true')
      }
      if (process.redis?.connection.tls?.verify === false)
        report(['sluice', 'redis'], 'the certificate of Redis is not checked', 'ssl_verify: true')
    },
  },
  {
    id: 'credentials-forwarded',
    severity: 'advice',
    group: 'security',
    finds: 'Credentials of clients that are passed on to an upstream outside of private networks.',
    why: 'Others get keys that open the gateway.',
    find({ routes }, report) {
      for (const { authentication, upstream } of routes) {
        if (authentication === null || upstream === null || !isOptions(authentication.conf)) continue
        if (authentication.conf['hide_credentials'] !== false) continue
        const outside = hostsOf(upstream).find((host) => !isInside(host))
        if (outside !== undefined) report(authentication.path, `credentials go on to ${outside}`, 'hide_credentials: true', { atKey: true })
      }
    },
  },
]

/** Whether consumers or their groups have limits of their own. */
function consumersAreLimited({ config }: LintSubject): boolean {
  const groups = [...config.consumerGroups.values()].flatMap(({ plugins }) => [...plugins.values()])
  const own = config.consumers.own.flatMap(({ layer }) => [...layer.plugins.values()])
  return [...groups, ...own].some((plugin) => plugin.meta.disable !== true && isLimit(plugin))
}

function redirectsToHttps({ name, conf }: CheckedPlugin): boolean {
  return name === 'redirect' && isOptions(conf) && conf['http_to_https'] === true
}

/** Hosts of the nodes. */
export function hostsOf({ value: { nodes } }: LintUpstream): string[] {
  if (nodes === undefined) return []
  return Array.isArray(nodes) ? nodes.map(({ host }) => host) : Object.keys(nodes).map(hostOf)
}

interface Authority {
  readonly plugin: CheckedPlugin
  readonly path: readonly (string | number)[]
  readonly url: URL
}

/** Who is asked, by the options that say so. */
function authorityUrls(plugins: readonly CheckedPlugin[]): Authority[] {
  return plugins.flatMap((plugin) => {
    const { name, conf } = plugin
    if (!isOptions(conf)) return []
    const introspection = conf['introspection']
    const candidates: (readonly [path: readonly string[], text: unknown])[] =
      name === 'forward-auth'
        ? [[['uri'], conf['uri']]]
        : name === 'opa'
          ? [[['host'], conf['host']]]
          : name === 'jwt-auth'
            ? [
                [['jwks_uri'], conf['jwks_uri']],
                [['introspection', 'endpoint'], isOptions(introspection) ? introspection['endpoint'] : undefined],
              ]
            : []
    return candidates.flatMap(([path, text]) =>
      typeof text === 'string' && URL.canParse(text) ? [{ plugin, path, url: new URL(text) }] : [],
    )
  })
}
