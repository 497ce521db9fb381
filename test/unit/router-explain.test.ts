import { expect, test } from 'vitest'
import { RouterIndex } from '../../src/controlplane/router-index.js'
import { type ExplainRequest, explain } from '../../src/dataplane/router/explain.js'
import type { CompiledRoute, RouterMode } from '../../src/schema/compiled.js'
import { compiledRoute } from '../support/compiled-route.js'

const path = { encodedSlash: 'keep', doubleSlash: 'merge', deleteTailSlash: false, servlet: false } as const

function explained(
  fields: (Partial<CompiledRoute> & { uris: string[] })[],
  request: Partial<ExplainRequest>,
  mode: RouterMode = 'radixtree_host_uri',
) {
  const routes = fields.map((route, index) => compiledRoute({ id: `r${index}`, ...route }))
  const options = { mode, path }
  return explain(RouterIndex.of(routes, options).tables(), routes, options, { method: 'GET', host: 'a.test', path: '/', ...request })
}

test('names the match and a reason for each other route, nearest first', () => {
  const result = explained(
    [
      { uris: ['/other'] },
      { uris: ['/a/*'], hosts: ['b.test'] },
      { uris: ['/a/*'], methods: ['POST'] },
      { uris: ['/a/*'], remoteAddrs: ['10.0.0.0/8'] },
      {
        uris: ['/a/*'],
        vars: [
          ['arg_v', '==', '1'],
          ['http_x', '==', 'no'],
        ],
      },
      { uris: ['/x', '/a/*'], name: 'winner', priority: 2 },
      { uris: ['/a/*'], priority: 1 },
      { uris: ['/*'], priority: 9 },
    ],
    { path: '/a//b?v=1', headers: { X: 'yes' } },
  )
  expect(result.path).toEqual({ match: '/a/b', forward: '/a/b' })
  expect(result.matched).toEqual({ id: 'r5', name: 'winner', uri: '/a/*', params: {} })
  expect(result.candidates.map(({ route, result: outcome, reason }) => `${route} ${outcome}: ${reason}`)).toEqual([
    'r5 matched: first route whose conditions all hold',
    'r1 rejected: host a.test not in [b.test]',
    'r2 rejected: method GET not in [POST]',
    'r3 rejected: remote address 127.0.0.1 not in [10.0.0.0/8]',
    'r4 rejected: vars: ["http_x","==","no"] does not hold',
    'r6 rejected: route r5 comes first: priority 2 is higher than 1',
    'r7 rejected: route r5 comes first: /a/* is a closer match than /*',
    'r0 rejected: path /a/b does not match /other',
  ])
  expect(result.omitted).toBe(0)
})

test('captured parameters, also for routes whose vars reject them', () => {
  const result = explained(
    [{ uris: ['/u/:id'], vars: [['uri_param_id', '~~', '^[0-9]+$']] }, { uris: ['/u/:name'] }],
    { path: '/u/jack' },
    'radixtree_uri_with_parameter',
  )
  expect(result.matched).toEqual({ id: 'r1', name: '', uri: '/u/:name', params: { name: 'jack' } })
  expect(result.candidates[1]?.reason).toContain('uri_param_id')
})

test('a refused path is explained, and nothing is routed', () => {
  const result = explained([{ uris: ['/*'] }], { path: '/a/%2e%2e/b' })
  expect(result.matched).toBeNull()
  expect(result.path).toEqual({ refused: 'the path contains an encoded dot segment' })
})

test('no match, and no more than 50 candidates', () => {
  const result = explained(
    Array.from({ length: 60 }, (_, index) => ({ uris: [`/r${index}`] })),
    { path: '/none' },
  )
  expect(result.matched).toBeNull()
  expect(result.candidates).toHaveLength(50)
  expect(result).toMatchObject({ routes: 60, omitted: 10 })
})
