/** A Kong declarative file run as it stands: the path table, the order of routes, protocols and hosts. */
import { afterEach, describe, expect, test } from 'vitest'
import { ask } from '../support/limit-clients.js'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
afterEach(() => bed.close())

// service.path, path of the route, strip_path, request, what the service sees
const pathTable: readonly (readonly [string, string, boolean, string, string])[] = [
  ['/', '/api/v1/users', true, '/api/v1/users/7', '/7'],
  ['/', '/api/v1/users', true, '/api/v1/users', '/'],
  ['/', '/api/v1/users', false, '/api/v1/users/7', '/api/v1/users/7'],
  ['/s', '/f', true, '/f/x', '/s/x'],
  ['/s', '/f', true, '/f', '/s'],
  ['/s', '/f', true, '/f/', '/s/'],
  ['/s/', '/f', true, '/fx', '/s/x'],
  ['/s', '/f', true, '/fx', '/s/x'],
  ['/s', '/f', false, '/f/x', '/s/f/x'],
  ['/s/', '/f', false, '/f', '/s/f'],
  ['/', '/f/', true, '/f/x?q=/f/1', '/x?q=/f/1'],
  ['/s', '~/r/(?<id>[0-9]+)', true, '/r/12/y', '/s/y'],
  ['/s', '~/r/(?<id>[0-9]+)', false, '/r/12/y', '/s/r/12/y'],
]

test('the path that a service sees', async () => {
  const upstream = await bed.upstream()
  const gateway = await bed.gateway({
    config: {
      _format_version: '3.0',
      services: pathTable.map(([path, routePath, strip], index) => ({
        name: `s${index}`,
        url: `http://127.0.0.1:${upstream.port}${path}`,
        routes: [{ name: `r${index}`, paths: [routePath], strip_path: strip, headers: { 'x-row': [String(index)] } }],
      })),
    },
  })
  const seen: unknown[] = []
  for (const [index, row] of pathTable.entries()) {
    const { status } = await ask(bed, gateway, row[3], { 'X-Row': String(index) })
    seen.push([index, status, upstream.requests.at(-1)?.target])
  }
  expect(seen).toEqual(pathTable.map((row, index) => [index, 200, row[4]]))
})

describe('routes, protocols, hosts', () => {
  test('go by the rules of Kong', async () => {
    const upstream = await bed.upstream()
    const url = `http://127.0.0.1:${upstream.port}`
    const marked = (name: string, fields: object) => ({ name, strip_path: false, service: { name: 'all' }, ...fields })
    const gateway = await bed.gateway({
      config: {
        _format_version: '3.0',
        _comment: 'flat entities that refer to one another',
        services: [
          { name: 'all', url, tags: ['a'] },
          { name: 'kept', url, routes: [{ name: 'kept', paths: ['/kept'], preserve_host: true, hosts: ['kept.test'] }] },
          { name: 'pool', host: 'pool.internal', path: '/p', routes: [{ name: 'pool', paths: ['/pool'] }] },
          { name: 'off', url, enabled: false, routes: [{ name: 'off', paths: ['/off'] }] },
        ],
        upstreams: [{ name: 'pool.internal', host_header: 'inner.test' }],
        targets: [{ target: `127.0.0.1:${upstream.port}`, weight: 10, upstream: 'pool.internal' }],
        routes: [
          marked('prefix', { paths: ['/foo'] }),
          marked('longer', { paths: ['/foo/bar/baz/longer/than/any/regex'] }),
          marked('regex', { paths: ['~/foo/b'] }),
          marked('regex-first', { paths: ['~/foo/b(?<rest>.*)'], regex_priority: 10 }),
          marked('two-kinds', { paths: ['/foo'], hosts: ['two.test'] }),
          marked('wildcard', { paths: ['/foo'], hosts: ['*.test'] }),
          marked('right', { paths: ['/foo'], hosts: ['right.*'] }),
          marked('three-kinds', { paths: ['/f'], hosts: ['*.test'], methods: ['POST'] }),
          marked('header', { headers: { 'x-v': ['1', '~*^2\\.'] }, paths: ['/foo'] }),
          marked('secure', { paths: ['/secure'], protocols: ['https'] }),
          marked('moved', { paths: ['/moved'], protocols: ['https'], https_redirect_status_code: 301 }),
          marked('mixed', { paths: ['/m', '~/n[0-9]$', '/m/long'], strip_path: true }),
        ],
        plugins: [
          { name: 'correlation-id', config: { header_name: 'X-Id', generator: 'uuid', echo_downstream: true } },
          { name: 'request-termination', route: 'right', config: { status_code: 418, message: 'no' } },
        ],
      },
    })
    const routeOf = async (target: string, headers: Record<string, string>) => {
      const explained = await fetch(
        `${gateway.metricsUrl}/v1/explain?${new URLSearchParams({ path: target, host: headers['Host'] ?? 'x.org', method: headers['Method'] ?? 'GET', ...(headers['X-V'] !== undefined && { 'header.X-V': headers['X-V'] }) })}`,
      )
      const { matched } = (await explained.json()) as { matched: { id: string } | null }
      return matched?.id ?? null
    }
    const cases: readonly (readonly [string, Record<string, string>, string | null])[] = [
      ['/foobar', {}, 'prefix'],
      ['/foo/bar/baz/longer/than/any/regex', {}, 'regex-first'],
      ['/foo/c', { Host: 'two.test' }, 'two-kinds'],
      ['/foo/b', { Host: 'two.test' }, 'two-kinds'],
      ['/foo', { Host: 'a.test' }, 'wildcard'],
      ['/foo', { Host: 'right.org' }, 'right'],
      ['/foo', { Host: 'a.test', Method: 'POST' }, 'three-kinds'],
      ['/foo', { 'X-V': '2.5' }, 'header'],
      ['/foo', { 'X-V': '3' }, 'prefix'],
      ['/n1', {}, 'mixed'],
      ['/off', {}, null],
    ]
    for (const [target, headers, route] of cases)
      expect([target, headers, await routeOf(target, headers)]).toEqual([target, headers, route])

    const secure = await ask(bed, gateway, '/secure')
    expect([secure.status, secure.body]).toEqual([426, '{"message":"Please use HTTPS protocol"}'])
    const moved = await ask(bed, gateway, '/moved/x?y=1')
    expect([moved.status, moved.field('location')]).toEqual([301, 'https://a.test/moved/x?y=1'])
    const lastHost = () => upstream.requests.at(-1)?.fields.find(({ name }) => name.toLowerCase() === 'host')?.value
    await ask(bed, gateway, '/foo')
    expect(lastHost()).toBe(`127.0.0.1:${upstream.port}`)
    await ask(bed, gateway, '/pool/q')
    expect([upstream.requests.at(-1)?.target, lastHost()]).toEqual(['/p/q', 'inner.test'])
    for (const [target, wanted] of [
      ['/m/long/x', '/x'],
      ['/m/x', '/x'],
      ['/n1', '/'],
    ] as const) {
      await ask(bed, gateway, target)
      expect(upstream.requests.at(-1)?.target).toBe(wanted)
    }
    expect((await ask(bed, gateway, '/foo')).field('x-id')).toMatch(/^[0-9a-f-]{36}$/)

    const none = await ask(bed, gateway, '/off')
    expect([none.status, none.field('content-type')]).toEqual([404, 'application/json; charset=utf-8'])
    const id = none.field('x-kong-request-id')
    expect(JSON.parse(none.body)).toEqual({ message: 'no Route matched with those values', request_id: id })
    const plain = await ask(bed, gateway, '/off', { Accept: 'text/plain' })
    expect(plain.body).toMatch(/^no Route matched with those values\nrequest_id: [\w-]+\n$/)
    await upstream.close()
    const gone = await ask(bed, gateway, '/foo')
    expect([gone.status, JSON.parse(gone.body).message]).toEqual([502, 'An invalid response was received from the upstream server'])
  })
})
