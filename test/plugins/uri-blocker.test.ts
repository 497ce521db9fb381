import { describe, expect, test } from 'vitest'
import type { Json } from '../../src/plugins/plugin.js'
import { uriBlocker } from '../../src/plugins/uri-blocker.js'
import { fakeExchange } from '../support/fake-exchange.js'
import { configure, problemsOf, requestPhases } from './configured.js'

function ask(conf: Json, target: string) {
  return requestPhases(configure(uriBlocker, conf), fakeExchange({ target }))
}

describe('uri-blocker', () => {
  test.each([
    ['/root.exe', 403],
    ['/x/root.exe?y=1', 403],
    ['/index?file=root.exe', 403],
    ['/a/b.m4a', 403],
    ['/fine?x=1', undefined],
    ['/ROOT.EXE', undefined],
  ])('looks at path and query: %s', async (target, status) => {
    expect((await ask({ block_rules: ['root\\.exe', '\\.m+'] }, target))?.status).toBe(status)
  })

  test('cannot be evaded by another spelling of the path', async () => {
    const conf = { block_rules: ['^/admin'] }
    expect((await ask(conf, '/%61dmin?x=1'))?.status).toBe(403)
    expect((await ask(conf, '/%61dmin'))?.status).toBe(403)
    expect(await ask({ block_rules: ['%61'] }, '/%61dmin')).toEqual({ status: 403 })
    expect(await ask(conf, '/user?next=/admin')).toBeUndefined()
  })

  test('answers with the configured status and message', async () => {
    expect(await ask({ block_rules: ['x'] }, '/x')).toEqual({ status: 403 })
    expect(await ask({ block_rules: ['x'], rejected_code: 501 }, '/x')).toEqual({ status: 501 })
    expect(await ask({ block_rules: ['x'], rejected_code: 401, rejected_msg: 'access is not allowed' }, '/x')).toEqual({
      status: 401,
      body: '{"error_msg":"access is not allowed"}\n',
    })
  })

  test('can ignore case', async () => {
    const conf = { block_rules: ['select.*from'], case_insensitive: true }
    expect((await ask(conf, '/?q=SELECT%20*%20From%20t'))?.status).toBe(403)
    expect(await ask({ ...conf, case_insensitive: false }, '/?q=SELECT%20*%20From%20t')).toBeUndefined()
  })

  test('refuses wrong options', () => {
    expect(problemsOf(uriBlocker, {})).toHaveLength(1)
    expect(problemsOf(uriBlocker, { block_rules: [] })).toHaveLength(1)
    expect(problemsOf(uriBlocker, { block_rules: ['a', 'a'] })).toHaveLength(1)
    expect(problemsOf(uriBlocker, { block_rules: ['a'], rejected_code: 199 })).toHaveLength(1)
    expect(problemsOf(uriBlocker, { block_rules: ['a'], rejected_msg: '' })).toHaveLength(1)
    expect(problemsOf(uriBlocker, { block_rules: ['.+', '(?<!'] })[0]).toMatch(/^block_rules\.1: /)
  })
})
