/** The bundled load suites: what is sent, not how it is measured. */
import { UsageError } from '../../base/errors.js'

export const suiteNames = ['plain', 'keepalive', 'post', 'routes'] as const

export type SuiteName = (typeof suiteNames)[number]

/** One measured line of a report. */
export interface BenchCase {
  readonly suite: SuiteName
  readonly title: string
  readonly method: 'GET' | 'POST'
  /** Request targets, sent in turn by every connection; at least one. */
  readonly paths: readonly string[]
  /** Bytes of the request body; 0 = none. */
  readonly bodyBytes: number
  /** A new connection for every request. */
  readonly reconnect: boolean
}

/** Where the requests of the suites go. */
export interface SuiteTargets {
  /** Target of the plain, keepalive and post suites. */
  readonly path: string
  /** Targets of the routes suite. */
  readonly mixedPaths: readonly string[]
}

/** `keepalive_pool` of an upstream, as far as a bench sets it. */
export interface KeepalivePool {
  readonly size?: number
  readonly pipelining?: number
}

const mixedRoutesOfEachKind = 100

/**
 * The routes of a self-started gateway as an APISIX document, and the targets that reach them: exact paths, prefixes and `:params`,
 * a hundred of each, so that no lookup hits the same route twice in a row.
 */
export function selfStartDocument(
  upstreamPort: number,
  keepalive: KeepalivePool = {},
): { readonly document: object; readonly targets: SuiteTargets } {
  const routes: object[] = [{ id: 'plain', uri: '/plain', upstream_id: 'bench' }]
  const mixedPaths: string[] = []
  for (let i = 0; i < mixedRoutesOfEachKind; i++) {
    routes.push({ id: `exact-${i}`, uri: `/mixed/exact/${i}`, upstream_id: 'bench' })
    routes.push({ id: `prefix-${i}`, uri: `/mixed/prefix/${i}/*`, upstream_id: 'bench' })
    routes.push({ id: `param-${i}`, uri: `/mixed/param/${i}/:item/detail`, upstream_id: 'bench' })
    mixedPaths.push(`/mixed/exact/${i}`, `/mixed/prefix/${i}/any/depth?page=2`, `/mixed/param/${i}/item-${i}/detail`)
  }
  const document = {
    routes,
    upstreams: [
      { id: 'bench', type: 'roundrobin', nodes: [{ host: '127.0.0.1', port: upstreamPort, weight: 1 }], keepalive_pool: keepalive },
    ],
    sluice: { router: { mode: 'radixtree_uri_with_parameter' }, log: { level: 'error', access: { format: 'off' } } },
  }
  return { document, targets: { path: '/plain', mixedPaths } }
}

/**
 * The cases of a suite, in the order of the report.
 *
 * @throws UsageError when the routes suite is asked for by name and fewer than two targets are known.
 */
export function benchCases(suite: SuiteName | 'all', targets: SuiteTargets): BenchCase[] {
  const get = { method: 'GET', paths: [targets.path], bodyBytes: 0, reconnect: false } as const
  const cases: Record<SuiteName, BenchCase[]> = {
    plain: [{ ...get, suite: 'plain', title: 'plain GET' }],
    keepalive: [
      { ...get, suite: 'keepalive', title: 'kept connections' },
      { ...get, suite: 'keepalive', title: 'new connection each', reconnect: true },
    ],
    post: [
      { ...get, suite: 'post', title: 'POST 1 KB', method: 'POST', bodyBytes: 1024 },
      { ...get, suite: 'post', title: 'POST 100 KB', method: 'POST', bodyBytes: 100 * 1024 },
    ],
    routes: [{ ...get, suite: 'routes', title: `${targets.mixedPaths.length} mixed paths`, paths: targets.mixedPaths }],
  }
  if (suite !== 'all') {
    if (suite === 'routes' && targets.mixedPaths.length < 2) {
      throw new UsageError('suite "routes": found fewer than two --path targets; with --url, give --path once for every route to mix')
    }
    return cases[suite]
  }
  // Against a foreign gateway nobody can know the routes: without targets the suite is left out, and the report says so.
  return suiteNames.filter((name) => name !== 'routes' || targets.mixedPaths.length >= 2).flatMap((name) => cases[name])
}
