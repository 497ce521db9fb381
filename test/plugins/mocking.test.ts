import { Ajv } from 'ajv'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createMocking, mocking } from '../../src/plugins/mocking.js'
import type { Json, Reply } from '../../src/plugins/plugin.js'
import { type FakeRequest, fakeExchange } from '../support/fake-exchange.js'
import { linkKit, linkPlugin, problemsOf } from '../support/link-kit.js'

async function ask(conf: Json, request: FakeRequest = {}): Promise<{ status: number; body: string; headers: Record<string, string> }> {
  const reply = (await linkPlugin(mocking, conf).access?.(fakeExchange(request))) as Reply
  return { status: reply.status, body: String(reply.body), headers: Object.fromEntries(reply.headers ?? []) }
}

test('the example with its defaults', async () => {
  expect(await ask({ response_example: '{"ip":"$remote_addr"}' }, { clientAddress: '192.0.2.3' })).toEqual({
    status: 200,
    body: '{"ip":"192.0.2.3"}',
    headers: { 'Content-Type': 'application/json;charset=utf8', 'x-mock-by': 'APISIX/3.18.0' },
  })
})

test('status, type and headers as configured', async () => {
  const conf = {
    response_example: 'hi',
    response_status: 201,
    content_type: 'text/plain',
    with_mock_header: false,
    response_headers: { 'X-Path': '$uri', 'X-N': 7 },
  }
  expect(await ask(conf, { target: '/p' })).toEqual({
    status: 201,
    body: 'hi',
    headers: { 'Content-Type': 'text/plain', 'X-Path': '/p', 'X-N': '7' },
  })
})

test('a delay is waited for, in seconds', async () => {
  const kit = linkKit()
  const result = linkPlugin(mocking, { response_example: 'x', delay: 3 }, kit).access?.(fakeExchange())
  expect(result).toBeInstanceOf(Promise)
  expect(await result).toMatchObject({ status: 200, body: 'x' })
  expect(kit.delays).toEqual([3000])
})

test('without delay the answer is there at once', () => {
  const kit = linkKit()
  expect(linkPlugin(mocking, { response_example: 'x' }, kit).access?.(fakeExchange())).toMatchObject({ body: 'x' })
  expect(kit.delays).toEqual([])
})

describe('response_schema', () => {
  const schema: Json = {
    type: 'object',
    required: ['id', 'name'],
    properties: {
      id: { type: 'integer', minimum: 5, maximum: 7 },
      name: { type: 'string', minLength: 2, maxLength: 4 },
      price: { type: 'number', maximum: -3 },
      active: { type: 'boolean' },
      kind: { enum: ['a', 'b', null] },
      fixed: { type: 'string', example: 'as it is' },
      usual: { type: 'integer', default: 12 },
      tags: { type: 'array', minItems: 2, maxItems: 4, items: { type: 'string' } },
      nested: { properties: { deep: { items: { type: 'null' } } } },
    },
  }
  const matches = new Ajv({ strict: false }).compile(schema as object)

  test('random data matches its schema', () => {
    fc.assert(
      fc.property(fc.infiniteStream(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })), (dice) => {
        const plugin = createMocking(() => dice.next().value ?? 0)
        const reply = linkPlugin(plugin, { response_schema: schema }).access?.(fakeExchange()) as Reply
        const data: Json = JSON.parse(String(reply.body))
        expect(matches(data), JSON.stringify(matches.errors)).toBe(true)
        expect(data).toMatchObject({ fixed: 'as it is', usual: 12 })
      }),
      { seed: 20_261_123, numRuns: 300, verbose: true },
    )
  })

  test('the dice decide', () => {
    const reply = (roll: number) =>
      linkPlugin(
        createMocking(() => roll),
        { response_schema: schema },
      ).access?.(fakeExchange()) as Reply
    expect(JSON.parse(String(reply(0).body))).toMatchObject({ id: 5, name: 'aa', active: true, kind: 'a' })
    expect(JSON.parse(String(reply(0.99).body))).toMatchObject({ id: 7, name: 'ZZZZ', active: false, kind: null })
  })
})

test.each<[string, Json, string]>([
  ['nothing', {}, ''],
  ['both', { response_example: '', response_schema: {} }, ''],
  ['an interim status', { response_example: '', response_status: 100 }, 'response_status'],
  ['status 99', { response_example: '', response_status: 99 }, 'response_status'],
  ['half a second', { response_example: '', delay: 0.5 }, 'delay'],
  ['a schema with XML', { response_schema: {}, content_type: 'text/xml' }, 'content_type'],
  ['a pattern', { response_schema: { properties: { a: { type: 'string', pattern: '^a' } } } }, 'response_schema.properties.a.pattern'],
  ['an unknown type', { response_schema: { type: 'date' } }, 'response_schema.type'],
  ['an empty range', { response_schema: { type: 'integer', minimum: 3, maximum: 2 } }, 'response_schema.minimum'],
  ['no integer in range', { response_schema: { type: 'integer', minimum: 2.1, maximum: 2.9 } }, 'response_schema.minimum'],
  ['an empty enum', { response_schema: { enum: [] } }, 'response_schema.enum'],
  ['required but not described', { response_schema: { required: ['a'] } }, 'response_schema.required'],
  [
    'too much data',
    { response_schema: { type: 'array', maxItems: 100, items: { type: 'array', maxItems: 100, items: { type: 'array', maxItems: 100 } } } },
    'response_schema',
  ],
  ['a framing header', { response_example: '', response_headers: { 'Content-Length': 1 } }, 'response_headers.Content-Length'],
])('refuses %s', (_what, conf, path) => {
  expect(problemsOf(mocking, conf).map((problem) => problem.path)).toContain(path)
})
