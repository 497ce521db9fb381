/** The routing rules of semantics §1.1-§1.5 over sockets: which route answers is seen from the header that each one adds. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fieldOf, type RawConnection, textOf } from '../../src/doctor/raw-connection.js'
import { lengthResponse, type RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import type { StrictResponse } from '../../src/doctor/strict-response.js'
import type { Gateway } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'

interface Ask {
  readonly method?: string
  readonly host?: string
  readonly fields?: readonly string[]
}

class Site {
  private readonly bed = new TestBed()
  private connection: RawConnection | null = null

  private constructor(
    readonly gateway: Gateway,
    readonly upstream: RecordingUpstream,
    bed: TestBed,
  ) {
    this.bed = bed
  }

  /** Routes get the upstream and a header `X-Route` with their id, unless they bring their own. */
  static async open(routes: readonly object[], rest: object = {}): Promise<Site> {
    const bed = new TestBed()
    const upstream = await bed.upstream()
    const node = { nodes: { [`127.0.0.1:${upstream.port}`]: 1 } }
    const config = { sluice: { log: { level: 'error' } }, ...rest, routes: routes.map((route) => withMark(route, node)) }
    return new Site(await bed.gateway({ config, workers: 2 }), upstream, bed)
  }

  async ask(target: string, options: Ask = {}): Promise<StrictResponse> {
    if (this.connection === null || this.connection.ended || this.connection.closed) {
      this.connection = await this.bed.client({ port: this.gateway.port })
    }
    const lines = [`${options.method ?? 'GET'} ${target} HTTP/1.1`, `Host: ${options.host ?? 'any.test'}`, ...(options.fields ?? [])]
    return this.connection.request(`${lines.join('\r\n')}\r\n\r\n`)
  }

  /** Id of the route that answered, or the status when none did. */
  async routeOf(target: string, options: Ask = {}): Promise<string | number> {
    const response = await this.ask(target, options)
    return fieldOf(response, 'x-route') ?? response.status
  }

  close(): Promise<void> {
    return this.bed.close()
  }
}

function withMark(route: object, node: object): object {
  const { id, plugins } = route as { id: string; plugins?: object }
  return { upstream: node, ...route, plugins: { 'response-rewrite': { headers: { set: { 'X-Route': id } } }, ...plugins } }
}

type Expectation = readonly [string, string | number, Ask?]

/** One test for each expectation: the target (with host or method), and the route that must answer. */
function expectRoutes(site: () => Site, expectations: readonly Expectation[]): void {
  test.each(expectations.map(([target, route, ask]) => [ask?.method ?? 'GET', ask?.host ?? 'any.test', target, route, ask] as const))(
    '%s %s%s is %s',
    async (_method, _host, target, route, ask) => {
      expect(await site().routeOf(target, ask)).toBe(route)
    },
  )
}

function suite(name: string, routes: readonly object[], rest: object, body: (site: () => Site) => void): void {
  describe(name, () => {
    let site: Site
    beforeAll(async () => {
      site = await Site.open(routes, rest)
    })
    afterAll(() => site.close())
    body(() => site)
  })
}

const pathRoutes = [
  { id: 'exact', uri: '/exact', priority: -5 },
  { id: 'prefix-high', uri: '/exact*', priority: 100 },
  { id: 'folder', uri: '/foo/*' },
  { id: 'bar', uri: '/blog/bar*' },
  { id: 'long', uri: '/a/b/*' },
  { id: 'short', uri: '/a/*', priority: 50 },
  { id: 'low', uri: '/same', priority: 1 },
  { id: 'high', uri: '/same', priority: 2, vars: [['arg_v', '==', '2']] },
  { id: 'two-a', uris: ['/two/a', '/two/b/*'] },
  { id: 'methods', uri: '/methods', methods: ['POST', 'PUT'] },
  { id: 'var-exact', uri: '/fall/through', vars: [['http_x_test', '==', 'yes']] },
  { id: 'var-prefix', uri: '/fall/*' },
  { id: 'off', uri: '/off', status: 0 },
  { id: 'here', uri: '/address', remote_addr: '127.0.0.0/8' },
  { id: 'elsewhere', uri: '/elsewhere', remote_addrs: ['10.0.0.0/8', '2001:db8::/32'] },
  { id: 'slash', uri: '/slash/a%2Fb' },
]

suite('paths (radixtree_host_uri)', pathRoutes, {}, (site) => {
  expectRoutes(site, [
    ['/exact', 'exact'],
    ['/exactly', 'prefix-high'],
    ['/exact/x', 'prefix-high'],
    ['/foo/', 'folder'],
    ['/foo/x/y', 'folder'],
    ['/foo', 404],
    ['/blog/bar', 'bar'],
    ['/blog/bar/x', 'bar'],
    ['/blog/barz', 'bar'],
    ['/blog/ba', 404],
    ['/a/b/c', 'long'],
    ['/a/c', 'short'],
    ['/same', 'low'],
    ['/same?v=2', 'high'],
    ['/two/a', 'two-a'],
    ['/two/b/x', 'two-a'],
    ['/two/b', 404],
    ['/methods', 'methods', { method: 'POST' }],
    ['/methods', 404],
    ['/methods', 404, { method: 'DELETE' }],
    ['/fall/through', 'var-exact', { fields: ['X-Test: yes'] }],
    ['/fall/through', 'var-prefix'],
    ['/off', 404],
    ['/address', 'here'],
    ['/elsewhere', 404],
    ['/EXACT', 404],
    ['/e%78act', 'exact'],
    ['/a/./b/../b/c', 'long'],
    ['//exact', 'exact'],
    ['/x/../exact', 'exact'],
    ['/exact?/foo/', 'exact'],
  ])

  test('the body of 404', async () => {
    const response = await site().ask('/nowhere')
    expect(response.status).toBe(404)
    expect(textOf(response)).toContain('"error_msg":"404 Route Not Found"')
  })
})

const hostRoutes = [
  { id: 'exact', uri: '/*', host: 'www.foo.com' },
  { id: 'wild', uri: '/*', host: '*.foo.com' },
  { id: 'wild-long', uri: '/*', host: '*.bar.foo.com' },
  { id: 'none', uri: '/none*' },
  { id: 'any', uri: '/any/*' },
  { id: 'only-a', uri: '/a', host: 'a.fall.com' },
  { id: 'wild-b', uri: '/b', host: '*.fall.com' },
  { id: 'hostless-c', uri: '/c' },
  { id: 'port', uri: '/*', host: 'port.com:8080' },
  { id: 'several', uri: '/*', hosts: ['one.com', '*.two.com'] },
  { id: 'by-service', uri: '/*', service_id: 'hosts' },
]

suite('hosts', hostRoutes, { services: [{ id: 'hosts', hosts: ['service.com'] }] }, (site) => {
  expectRoutes(site, [
    ['/x', 'exact', { host: 'www.foo.com' }],
    ['/x', 'exact', { host: 'WWW.Foo.Com' }],
    ['/x', 'exact', { host: 'www.foo.com:8443' }],
    ['/x', 'wild', { host: 'api.foo.com' }],
    ['/x', 'wild', { host: 'deep.api.foo.com' }],
    ['/x', 'wild-long', { host: 'x.bar.foo.com' }],
    ['/x', 'wild', { host: 'bar.foo.com' }],
    ['/x', 404, { host: 'foo.com' }],
    ['/none', 'none', { host: 'foo.com' }],
    ['/a', 'only-a', { host: 'a.fall.com' }],
    ['/b', 'wild-b', { host: 'a.fall.com' }],
    ['/c', 'hostless-c', { host: 'a.fall.com' }],
    ['/x', 'port', { host: 'port.com:8080' }],
    ['/x', 404, { host: 'port.com' }],
    ['/x', 404, { host: 'port.com:9090' }],
    ['/x', 'several', { host: 'one.com' }],
    ['/x', 'several', { host: 'a.two.com' }],
    ['/x', 'by-service', { host: 'service.com' }],
    ['/x', 404, { host: 'notfoo.com' }],
  ])
})

suite(
  'radixtree_uri ignores the order of hosts',
  [
    { id: 'prefix', uri: '/p/*', host: 'a.com' },
    { id: 'star', uri: '/s/*/c' },
    { id: 'exact', uri: '/p/x' },
  ],
  { sluice: { router: { mode: 'radixtree_uri' }, log: { level: 'error' } } },
  (site) => {
    expectRoutes(site, [
      ['/p/x', 'exact', { host: 'a.com' }],
      ['/p/y', 'prefix', { host: 'a.com' }],
      ['/p/y', 404, { host: 'b.com' }],
      ['/s/anything/else', 'star'],
    ])
  },
)

suite(
  'radixtree_uri_with_parameter',
  [
    { id: 'static', uri: '/user/me' },
    {
      id: 'param',
      uri: '/user/:id',
      plugins: { 'response-rewrite': { headers: { set: { 'X-Route': 'param', 'X-Id': '$uri_param_id' } } } },
    },
    {
      id: 'inner',
      uri: '/user/:id/posts/:post',
      plugins: { 'response-rewrite': { headers: { set: { 'X-Route': 'inner', 'X-Id': '$uri_param_id-$uri_param_post' } } } },
    },
    { id: 'tail', uri: '/files/*rest' },
  ],
  { sluice: { router: { mode: 'radixtree_uri_with_parameter' }, log: { level: 'error' } } },
  (site) => {
    expectRoutes(site, [
      ['/user/me', 'static'],
      ['/user/7', 'param'],
      ['/user/7/', 404],
      ['/user/', 404],
      ['/user/7/posts/9', 'inner'],
      ['/files/a/b/c', 'tail'],
    ])

    test('captures are variables', async () => {
      expect(fieldOf(await site().ask('/user/7'), 'x-id')).toBe('7')
      expect(fieldOf(await site().ask('/user/7/posts/9'), 'x-id')).toBe('7-9')
    })
  },
)

const varRoutes = (
  [
    ['eq', ['arg_a', '==', 'json']],
    ['eq-number', ['arg_a', '==', 5]],
    ['ne', ['arg_a', '~=', 'json']],
    ['gt', ['arg_a', '>', 10]],
    ['le', ['arg_a', '<=', 10]],
    ['in', ['arg_a', 'in', ['1', '2']]],
    ['in-numbers', ['arg_a', 'in', [1, 2]]],
    ['regex', ['arg_a', '~~', '^v[0-9]+$']],
    ['regex-i', ['arg_a', '~*', '^V[0-9]+$']],
    ['not', ['arg_a', '!', '==', 'json']],
    ['null', ['arg_a', '==', null]],
    ['ip', ['remote_addr', 'ipmatch', ['127.0.0.0/8']]],
    ['cookie', ['cookie_c', '==', 'x']],
    ['header', ['http_x_a', '==', 'x']],
    ['method', ['request_method', '==', 'PUT']],
    ['or', ['OR', ['arg_a', '==', '1'], ['arg_b', '==', '2']]],
    ['nor', ['!OR', ['arg_a', '==', '1'], ['arg_b', '==', '2']]],
  ] as const
).map(([id, condition]) => ({ id, uri: `/${id}`, vars: condition[0] === 'OR' || condition[0] === '!OR' ? condition : [condition] }))

suite('vars', varRoutes, {}, (site) => {
  expectRoutes(site, [
    ['/eq?a=json', 'eq'],
    ['/eq?a=xml', 404],
    ['/eq?a=json&a=xml', 'eq'],
    ['/eq', 404],
    ['/eq-number?a=5', 'eq-number'],
    ['/eq-number?a=5.0', 'eq-number'],
    ['/ne', 'ne'],
    ['/ne?a=json', 404],
    ['/gt?a=11', 'gt'],
    ['/gt?a=9', 404],
    ['/gt?a=abc', 404],
    ['/le?a=10', 'le'],
    ['/in?a=2', 'in'],
    ['/in?a=3', 404],
    ['/in-numbers?a=1', 404],
    ['/regex?a=v12', 'regex'],
    ['/regex?a=V12', 404],
    ['/regex', 404],
    ['/regex-i?a=v12', 'regex-i'],
    ['/not?a=json', 404],
    ['/not?a=xml', 'not'],
    ['/null', 'null'],
    ['/null?a=1', 404],
    ['/ip', 'ip'],
    ['/cookie', 'cookie', { fields: ['Cookie: a=b; c=x'] }],
    ['/header', 'header', { fields: ['X-A: x'] }],
    ['/method', 'method', { method: 'PUT' }],
    ['/or?b=2', 'or'],
    ['/or?b=3', 404],
    ['/nor?b=3', 'nor'],
    ['/nor?b=2', 404],
  ])
})

suite(
  'merging and phases',
  [
    {
      id: 'route-wins',
      uri: '/merge/wins',
      service_id: 'base',
      plugins: { mocking: { response_example: 'route', content_type: 'text/plain' } },
    },
    { id: 'service-fills', uri: '/merge/fills', service_id: 'base' },
    { id: 'config-fills', uri: '/merge/config', plugin_config_id: 'shared' },
    {
      id: 'config-loses',
      uri: '/merge/config-loses',
      plugin_config_id: 'shared',
      plugins: { mocking: { response_example: 'route', content_type: 'text/plain' } },
    },
    { id: 'disabled', uri: '/merge/disabled', plugins: { mocking: { response_example: 'mock', _meta: { disable: true } } } },
    {
      id: 'filtered',
      uri: '/merge/filtered',
      plugins: { mocking: { response_example: 'mock', _meta: { filter: [['arg_on', '==', '1']] } } },
    },
    {
      id: 'own-error',
      uri: '/merge/error',
      plugins: { 'uri-blocker': { block_rules: ['merge'], _meta: { error_response: { message: 'no' } } } },
    },
    { id: 'no-upstream', uri: '/merge/none', upstream: undefined, service_id: 'bare' },
  ],
  {
    services: [{ id: 'base', plugins: { mocking: { response_example: 'service', content_type: 'text/plain' } } }, { id: 'bare' }],
    plugin_configs: [{ id: 'shared', plugins: { mocking: { response_example: 'shared', content_type: 'text/plain' } } }],
    global_rules: [{ id: 'cors', plugins: { cors: { allow_origins: 'https://app.test' } } }],
  },
  (site) => {
    test.each([
      ['/merge/wins', 200, 'route'],
      ['/merge/fills', 200, 'service'],
      ['/merge/config', 200, 'shared'],
      ['/merge/config-loses', 200, 'route'],
      ['/merge/disabled', 200, 'ok'],
      ['/merge/filtered', 200, 'ok'],
      ['/merge/filtered?on=1', 200, 'mock'],
    ])('%s is %i %s', async (target, status, body) => {
      const response = await site().ask(target)
      expect([response.status, textOf(response).trim()]).toEqual([status, body])
    })

    test('_meta.error_response replaces the body of a refusal', async () => {
      const response = await site().ask('/merge/error')
      expect([response.status, JSON.parse(textOf(response))]).toEqual([403, { message: 'no' }])
    })

    test('a route without any upstream is 503', async () => {
      const response = await site().ask('/merge/none')
      expect([response.status, JSON.parse(textOf(response)).reason]).toEqual([503, 'NO_UPSTREAM'])
    })

    test('a preflight on an unmatched path is answered by the global cors rule', async () => {
      const fields = ['Origin: https://app.test', 'Access-Control-Request-Method: PUT']
      const response = await site().ask('/unmatched', { method: 'OPTIONS', fields })
      expect([response.status, fieldOf(response, 'access-control-allow-origin')]).toEqual([200, 'https://app.test'])
    })

    test('response phases of a global rule run on 404', async () => {
      const response = await site().ask('/unmatched', { fields: ['Origin: https://app.test'] })
      expect([response.status, fieldOf(response, 'access-control-allow-origin')]).toEqual([404, 'https://app.test'])
    })
  },
)

suite(
  'encoded slashes and explain',
  [
    { id: 'kept', uri: '/enc/a%2Fb' },
    { id: 'prefix', uri: '/enc/*' },
  ],
  {},
  (site) => {
    test('%2F does not separate segments and arrives as it was', async () => {
      expect((await site().ask('/enc/x%2Fy')).status).toBe(200)
      expect(site().upstream.requests.at(-1)?.target).toBe('/enc/x%2Fy')
      expect(await site().routeOf('/enc%2Fx')).toBe(404)
    })

    test('explain names the route and why others were passed over', async () => {
      const query = 'method=GET&host=any.test&path=/enc/x'
      const answer = (await (await fetch(`${site().gateway.metricsUrl}/v1/explain?${query}`)).json()) as { matched: { id: string } | null }
      expect(answer.matched?.id).toBe('prefix')
    })

    test('the upstream sees what the router matched', async () => {
      site().upstream.answer = (request) => lengthResponse(request.target)
      expect(textOf(await site().ask('/enc//a/../b?x=//'))).toBe('/enc/b?x=//')
    })
  },
)
