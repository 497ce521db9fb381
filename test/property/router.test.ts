/** The router against a naive reading of the rules: random tables and requests, all modes. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { AddressSet } from '../../src/base/address-set.js'
import { RouterIndex } from '../../src/controlplane/router-index.js'
import { Router } from '../../src/dataplane/router/router.js'
import type { RouterMode } from '../../src/schema/compiled.js'
import { compiledRoute } from '../support/compiled-route.js'
import { fakeExchange } from '../support/fake-exchange.js'
import { type ReferenceRequest, referenceMatch } from '../support/reference-router.js'

const seed = 20_240_701
const policy = { encodedSlash: 'keep', doubleSlash: 'keep', deleteTailSlash: false, servlet: false } as const

// Small alphabets, so that patterns, hosts and requests meet.
const word = fc.constantFrom('a', 'a', 'b', 'ab', 'abc', '')
const plainUri = fc.array(word, { minLength: 1, maxLength: 3 }).map((words) => `/${words.join('/')}`)
const starUri = fc.tuple(plainUri, fc.constantFrom('*', '/*', '*/c')).map(([uri, star]) => uri + star)
const name = fc.constantFrom('x', 'y', 'z')
const segmentUri = fc
  .tuple(
    fc.array(fc.oneof({ weight: 3, arbitrary: word }, { weight: 2, arbitrary: name.map((text) => `:${text}`) }), { maxLength: 3 }),
    fc.constantFrom('a', '', '*', '*rest', 'a*', 'ab*', ':w'),
  )
  .map(([head, last]) => `/${[...head, last].join('/')}`)
const host = fc.constantFrom('*', '*.com', '*.a.com', '*b.a.com', 'a.com', 'b.a.com', 'b.a.com:80', '*.com:80', '[::1]')
const methods = fc.constantFrom<string[]>([], [], ['GET'], ['POST', 'PUT'])
const remotes = fc.constantFrom<string[]>([], [], [], ['10.0.0.0/8'], ['192.0.2.1'])

function routeArbitrary(mode: RouterMode) {
  const uri =
    mode === 'radixtree_uri_with_parameter' ? fc.oneof(plainUri, segmentUri) : fc.oneof(plainUri, { weight: 2, arbitrary: starUri })
  return fc.record({
    uris: fc.array(uri, { minLength: 1, maxLength: 2 }),
    hosts: fc.oneof(fc.constant<string[]>([]), fc.uniqueArray(host, { maxLength: 2 })),
    methods,
    remoteAddrs: remotes,
    priority: fc.constantFrom(0, 0, 1, 2),
    // null: no vars; else whether they hold.
    holds: fc.constantFrom(null, null, null, true, false),
  })
}

const request = fc.record({
  path: plainUri,
  method: fc.constantFrom('GET', 'POST', 'PATCH', 'LINK'),
  hostHeader: fc.constantFrom('a.com', 'b.a.com', 'B.a.com:80', 'c.b.a.com', 'x.org', '[::1]:80'),
  clientAddress: fc.constantFrom('10.1.1.1', '192.0.2.1', '::1'),
})

for (const mode of ['radixtree_host_uri', 'radixtree_uri', 'radixtree_uri_with_parameter', 'priority'] as const) {
  test(`${mode} agrees with the rules (seed ${seed})`, () => {
    const cases = fc.tuple(
      fc.array(routeArbitrary(mode), { minLength: 1, maxLength: 20, size: 'max' }),
      fc.array(request, { minLength: 2, maxLength: 6 }),
    )
    let matched = 0
    fc.assert(
      fc.property(cases, ([specs, requests]) => {
        const routes = specs.map(({ holds, ...fields }, index) =>
          compiledRoute({ id: String(index), ...fields, vars: holds === null ? null : [] }),
        )
        const holds = (index: number) => specs[index]?.holds !== false
        const router = new Router(RouterIndex.of(routes, { mode, path: policy }).tables(), (index) => {
          const addresses = routes[index]?.remoteAddrs ?? []
          return { remote: addresses.length > 0 ? AddressSet.of(addresses) : null, vars: () => holds(index) }
        })
        for (const { path, method, hostHeader, clientAddress } of requests) {
          const exchange = fakeExchange({ target: path, method, host: hostHeader, clientAddress })
          const wanted: ReferenceRequest = { method, host: exchange.host, hostHeader, path, clientAddress }
          const found = router.match(exchange)
          if (found >= 0) matched++
          expect(found).toBe(referenceMatch(routes, mode, wanted, holds))
        }
      }),
      { seed, numRuns: 1500 },
    )
    // The alphabets are small enough that many requests find a route: the comparison is about something.
    expect(matched).toBeGreaterThan(1500)
  })
}
