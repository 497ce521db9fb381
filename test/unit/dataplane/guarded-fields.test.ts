import { expect, test } from 'vitest'
import { HeaderList } from '../../../src/base/headers.js'
import { guardedFields } from '../../../src/dataplane/consumers/guarded-fields.js'

function left(guarded: ReturnType<typeof guardedFields>, ...names: string[]): string[] {
  const headers = new HeaderList()
  for (const name of names) headers.add(name, 'v')
  guarded?.removeFrom(headers)
  return headers.names.slice(0, headers.count)
}

test('every spelling of every line is removed', () => {
  const guarded = guardedFields([{ setsFields: ['x-user-id'] }, {}, { setsFields: ['x_role'] }])
  const names = ['X_User_ID', 'A', 'x-user-id', 'X-User-ID', 'X-User_Id', 'X-Role', 'X_ROLE', 'X-User', 'X-User-ID']
  expect(left(guarded, ...names)).toEqual(['A', 'X-User'])
})

test('what a plugin of the route reads, and credentials, stay', () => {
  const guarded = guardedFields([{ setsFields: ['x-user', 'apikey', 'authorization', 'cookie'] }, { readsFields: ['apikey'] }])
  expect(left(guarded, 'X-User', 'ApiKey', 'Authorization', 'Cookie')).toEqual(['ApiKey', 'Authorization', 'Cookie'])
  expect(guardedFields([{ setsFields: ['proxy-authorization'] }, { readsFields: ['x'] }])).toBeNull()
  expect(guardedFields([{}, {}])).toBeNull()
})

test('plugins that join later guard only what was not guarded before', () => {
  const known = [{ setsFields: ['x-user'] }, { readsFields: ['x-key'] }]
  expect(left(guardedFields([{ setsFields: ['x-user', 'x-plan', 'x-key'] }], known), 'X-User', 'X-Plan', 'X-Key')).toEqual([
    'X-User',
    'X-Key',
  ])
  expect(guardedFields([{ setsFields: ['x-user'] }], known)).toBeNull()
})
