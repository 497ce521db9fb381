/** Metric series of consumers: each request counts for its own route, node and consumer, however many there are of them. */
import { expect, test } from 'vitest'
import { LinkedConsumer } from '../../../src/dataplane/consumers/linked-consumer.js'
import { fakeConsumer } from '../../support/link-kit.js'
import { routeWith } from './parts.js'

test('a series belongs to route, node and consumer', () => {
  const routes = [routeWith([]), routeWith([])]
  const consumers = [null, ...['a', 'b', 'c'].map((name) => new LinkedConsumer(name, '', '', {}, [], -1)), fakeConsumer({ username: 'd' })]
  // More nodes than a consumer keeps series of.
  const nodes = Array.from({ length: 20 }, (_, index) => `10.0.0.${index}:80`)
  const found = new Map<string, unknown>()
  for (let round = 0; round < 3; round++) {
    for (const [index, route] of routes.entries()) {
      for (const node of nodes) {
        for (const consumer of consumers) {
          const series = route.series(node, consumer)
          expect(series.values.slice(-2)).toEqual([consumer?.username ?? '', node])
          const key = `${index} ${node} ${consumer?.username}`
          expect(found.get(key) ?? series).toBe(series)
          found.set(key, series)
        }
      }
    }
  }
  expect(new Set(found.values()).size).toBe(routes.length * nodes.length * consumers.length)
})
