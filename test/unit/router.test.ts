import { describe, expect, test } from 'vitest'
import { AddressSet } from '../../src/base/address-set.js'
import { RouterIndex } from '../../src/controlplane/router-index.js'
import { Router } from '../../src/dataplane/router/router.js'
import { compileExpression } from '../../src/dataplane/vars/expression.js'
import type { CompiledRoute, RouterMode } from '../../src/schema/compiled.js'
import { uriPatternProblem, uriPatternWarning } from '../../src/schema/uri-pattern.js'
import { compiledRoute } from '../support/compiled-route.js'
import { type FakeRequest, fakeExchange } from '../support/fake-exchange.js'

type RouteFields = Partial<CompiledRoute> & { readonly uris: string[] }

const path = { encodedSlash: 'keep', doubleSlash: 'merge', deleteTailSlash: false, servlet: false } as const

/** A router over these routes; ids are given by position unless named. */
function routerOf(fields: readonly RouteFields[], mode: RouterMode = 'radixtree_host_uri') {
  const routes = fields.map((route, index) => compiledRoute({ id: String(index), ...route }))
  const linked: number[] = []
  const router = new Router(RouterIndex.of(routes, { mode, path }).tables(), (index) => {
    linked.push(index)
    const route = routes[index] as CompiledRoute
    return {
      remote: route.remoteAddrs.length > 0 ? AddressSet.of(route.remoteAddrs) : null,
      vars: route.vars === null ? null : compileExpression(route.vars),
    }
  })
  const find = (target: string, request: FakeRequest = {}) => {
    const index = router.match(fakeExchange({ target, ...request }))
    return index < 0 ? null : (routes[index] as CompiledRoute).id
  }
  return { router, find, linked }
}

describe('paths without parameters', () => {
  test('an exact path beats every prefix, whatever the priority', () => {
    const { find } = routerOf([
      { id: 'prefix', uris: ['/a*'], priority: 100 },
      { id: 'exact', uris: ['/a'] },
    ])
    expect(find('/a')).toBe('exact')
    expect(find('/ab')).toBe('prefix')
  })

  test('the longest prefix is tried first, then shorter ones', () => {
    const { find } = routerOf([
      { id: 'all', uris: ['/*'] },
      { id: 'long', uris: ['/api/v1/*'], methods: ['POST'] },
      { id: 'short', uris: ['/api/*'] },
    ])
    expect(find('/api/v1/x', { method: 'POST' })).toBe('long')
    expect(find('/api/v1/x')).toBe('short')
    expect(find('/other')).toBe('all')
  })

  test('* matches nothing and crosses slashes; /foo/* does not match /foo', () => {
    const { find } = routerOf([
      { id: 'bar', uris: ['/blog/bar*'] },
      { id: 'foo', uris: ['/foo/*'] },
    ])
    expect(['/blog/bar', '/blog/bar/x/y', '/blog/barz'].map((target) => find(target))).toEqual(['bar', 'bar', 'bar'])
    expect(find('/blog/ba')).toBeNull()
    expect(find('/foo')).toBeNull()
    expect(find('/foo/')).toBe('foo')
  })

  test('what follows the first * is ignored', () => {
    const { find } = routerOf([{ id: 'odd', uris: ['/a/*/c'] }])
    expect(find('/a/b')).toBe('odd')
    expect(uriPatternWarning('/a/*/c')).toContain('"/a/*"')
    expect(uriPatternWarning('/a/*')).toBeNull()
  })

  test('within one pattern: priority, then the longer pattern, then the order of the file', () => {
    const { find } = routerOf([
      { id: 'first', uris: ['/p/*'] },
      { id: 'second', uris: ['/p/*'] },
      { id: 'longer', uris: ['/p/*/z'] },
      { id: 'high', uris: ['/p/*'], priority: 1, methods: ['PUT'] },
    ])
    expect(find('/p/x')).toBe('longer')
    expect(find('/p/x', { method: 'PUT' })).toBe('high')
    const same = routerOf([
      { id: 'first', uris: ['/p/*'] },
      { id: 'second', uris: ['/p/*'] },
    ])
    expect(same.find('/p/x')).toBe('first')
  })

  test('a wrong method is no match', () => {
    const { find } = routerOf([{ uris: ['/m'], methods: ['GET', 'PURGE'] }])
    expect(find('/m', { method: 'PURGE' })).toBe('0')
    expect(find('/m', { method: 'POST' })).toBeNull()
    expect(find('/m', { method: 'PROPFIND' })).toBeNull()
    expect(routerOf([{ uris: ['/m'] }]).find('/m', { method: 'PROPFIND' })).toBe('0')
  })

  test('failing vars on the exact route falls through to prefixes', () => {
    const { find, linked } = routerOf([
      { id: 'exact', uris: ['/v'], vars: [['arg_x', '==', '1']] },
      { id: 'prefix', uris: ['/v*'] },
    ])
    expect(find('/v?x=1')).toBe('exact')
    expect(find('/v?x=2')).toBe('prefix')
    // Nobody asks for the conditions of a route that a request does not get to.
    expect(new Set(linked)).toEqual(new Set([0]))
  })

  test('remote_addrs', () => {
    const { find } = routerOf([{ uris: ['/r'], remoteAddrs: ['10.0.0.0/8', '::1'] }])
    expect(find('/r', { clientAddress: '10.1.2.3' })).toBe('0')
    expect(find('/r', { clientAddress: '::1' })).toBe('0')
    expect(find('/r', { clientAddress: '11.0.0.1' })).toBeNull()
  })

  test('paths are case-sensitive, characters beyond ASCII are characters', () => {
    const { find } = routerOf([{ uris: ['/Über/*'] }])
    expect(find('/%C3%9Cber/x')).toBe('0')
    expect(find('/%C3%BCber/x')).toBeNull()
  })

  test('an empty table matches nothing', () => {
    for (const mode of ['radixtree_host_uri', 'radixtree_uri', 'radixtree_uri_with_parameter'] as const) {
      expect(routerOf([], mode).find('/')).toBeNull()
    }
  })
})

describe('hosts', () => {
  test('exact beats wildcard, longer wildcards beat shorter, and all fall through', () => {
    const { find } = routerOf([
      { id: 'none', uris: ['/*'] },
      { id: 'short', uris: ['/s', '/both'], hosts: ['*.com'] },
      { id: 'long', uris: ['/l', '/both'], hosts: ['*.foo.com'] },
      { id: 'exact', uris: ['/e', '/both'], hosts: ['a.foo.com'] },
    ])
    const host = 'a.foo.com'
    expect(find('/both', { host })).toBe('exact')
    expect(find('/l', { host })).toBe('long')
    expect(find('/s', { host })).toBe('short')
    expect(find('/x', { host })).toBe('none')
    expect(find('/both', { host: 'x.y.foo.com' })).toBe('long')
    expect(find('/both', { host: 'foo.com' })).toBe('short')
    expect(find('/both', { host: 'foo.org' })).toBe('none')
  })

  test('a pattern with a port is compared with the whole Host field', () => {
    const { find } = routerOf([
      { id: 'port', uris: ['/'], hosts: ['a.test:8080'] },
      { id: 'wild', uris: ['/'], hosts: ['*.b.test:8080'] },
      { id: 'plain', uris: ['/'], hosts: ['a.test'] },
    ])
    expect(find('/', { host: 'A.test:8080' })).toBe('port')
    expect(find('/', { host: 'a.test:81' })).toBe('plain')
    expect(find('/', { host: 'x.b.test:8080' })).toBe('wild')
    expect(find('/', { host: 'x.b.test' })).toBeNull()
  })

  test('hosts are compared without case, in configuration and request', () => {
    const { find } = routerOf([{ uris: ['/'], hosts: ['Api.Example.COM'] }])
    expect(find('/', { host: 'aPI.example.com' })).toBe('0')
  })

  test('radixtree_uri checks hosts after the path', () => {
    const { find } = routerOf(
      [
        { id: 'host', uris: ['/a/*'], hosts: ['*.foo.com', 'b.test'] },
        { id: 'any', uris: ['/a/b/*'] },
      ],
      'radixtree_uri',
    )
    expect(find('/a/b/c', { host: 'x.foo.com' })).toBe('any')
    expect(find('/a/c', { host: 'x.foo.com' })).toBe('host')
    expect(find('/a/c', { host: 'b.test' })).toBe('host')
    expect(find('/a/c', { host: 'c.test' })).toBeNull()
  })
})

describe('paths with parameters', () => {
  const mode = 'radixtree_uri_with_parameter'

  test('captures one segment, and the tail', () => {
    const { router, find } = routerOf([{ uris: ['/user/:id'] }, { uris: ['/files/:kind/*rest'] }], mode)
    expect(find('/user/7')).toBe('0')
    expect([...(router.params ?? [])]).toEqual([['id', '7']])
    expect(find('/user/7/x')).toBeNull()
    expect(router.params).toBeNull()
    expect(find('/user/')).toBeNull()
    expect(find('/files/img/a/b')).toBe('1')
    expect([...(router.params ?? [])]).toEqual([
      ['kind', 'img'],
      ['rest', 'a/b'],
    ])
    expect(find('/files/img/')).toBe('1')
    expect(find('/files/img')).toBeNull()
  })

  test('static beats :name at the same depth, and a dead end is left again', () => {
    const { router, find } = routerOf(
      [
        { id: 'param', uris: ['/user/:id/posts'] },
        { id: 'static', uris: ['/user/me/files'] },
        { id: 'tail', uris: ['/user/*'] },
      ],
      mode,
    )
    expect(find('/user/me/files')).toBe('static')
    expect(find('/user/me/posts')).toBe('param')
    expect(router.params?.get('id')).toBe('me')
    expect(find('/user/me/other')).toBe('tail')
  })

  test('vars see the captured values', () => {
    const { find } = routerOf([{ uris: ['/u/:id'], vars: [['uri_param_id', '~~', '^[0-9]+$']] }], mode)
    expect(find('/u/12')).toBe('0')
    expect(find('/u/ab')).toBeNull()
  })

  test('problems of patterns are named', () => {
    expect(uriPatternProblem('/a/*rest/b', mode)).toContain('nothing may follow')
    expect(uriPatternProblem('/a/:id/:id', mode)).toContain('used twice')
    expect(uriPatternProblem('/a/:', mode)).toContain('no valid name')
    expect(uriPatternProblem('a')).toContain('does not start with /')
    expect(uriPatternProblem('/a/:id/*rest', mode)).toBeNull()
    expect(uriPatternWarning('/a/:id')).toContain('radixtree_uri_with_parameter')
  })
})

test('100,000 routes are compiled and found', () => {
  const routes = Array.from({ length: 100_000 }, (_, index) =>
    compiledRoute({ id: String(index), uris: [`/svc${index}/items${index % 7 === 0 ? '/*' : ''}`] }),
  )
  // How long it takes is measured in native-bench/micro/router. Here only work that grows with the square would run into the timeout.
  const tables = RouterIndex.of(routes, { mode: 'radixtree_host_uri', path }).tables()
  const router = new Router(tables, () => null)
  for (let index = 0; index < routes.length; index += 997) {
    expect(router.match(fakeExchange({ target: `/svc${index}/items${index % 7 === 0 ? '/x' : ''}` }))).toBe(index)
  }
})
