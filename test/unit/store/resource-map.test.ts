import { expect, test } from 'vitest'
import { ResourceMap } from '../../../src/controlplane/store/resource-map.js'
import type { Mutation, ResourceValue } from '../../../src/controlplane/store/resource-store.js'

const put = (id: string, value: ResourceValue = {}): Mutation => ({ type: 'put', kind: 'routes', id, value, expiresAtMs: null })
const remove = (id: string, leavesGap = false): Mutation => ({ type: 'delete', kind: 'routes', id, leavesGap })

test('differences lead from one map to the other, and equal contents are equal wherever they come from', () => {
  const before = ResourceMap.empty.with([put('a'), put('b'), put('c'), remove('gone', true)], 1, 0)
  const after = before.with([put('a', { x: 1 }), remove('b'), remove('c', true), put('d'), put('gone')], 2, 0)
  const found = after.differences(before).map(({ type, id }) => `${type} ${id}`)
  expect(found.sort()).toEqual(['delete b', 'delete c', 'put a', 'put d', 'put gone'])
  expect(before.differences(before)).toEqual([])
  expect(after.equals(before)).toBe(false)
  const taken = before.changed(
    after.differences(before).map(({ kind, id }) => ({ kind, id, resource: after.stateOf(kind, id) })),
    2,
  )
  expect(taken.differences(after)).toEqual([])
  const copy = ResourceMap.empty.changed(JSON.parse(JSON.stringify([...after.all()])), 9)
  expect(copy.equals(after)).toBe(true)
  expect([...copy.gaps('routes')]).toEqual(['c'])
})
