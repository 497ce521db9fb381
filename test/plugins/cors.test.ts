import { describe, expect, test } from 'vitest'
import { cors } from '../../src/plugins/cors.js'
import type { Json } from '../../src/plugins/plugin.js'
import { type FakeHeaders, fakeExchange } from '../support/fake-exchange.js'
import { type Configured, configure, problemsOf, requestPhases } from './configured.js'

interface Asked {
  readonly method?: string
  readonly origin?: string
  readonly request?: FakeHeaders
  readonly upstream?: FakeHeaders
  readonly options?: Configured
}

/** The headers of the answer, by lower-case name; several lines are joined by `|`. */
async function answerHeaders(conf: Json, asked: Asked = {}): Promise<Record<string, string>> {
  const instance = configure(cors, conf, asked.options)
  const headers = { ...(asked.origin === undefined ? {} : { Origin: asked.origin }), ...asked.request }
  const exchange = fakeExchange({ method: asked.method ?? 'GET', headers })
  await requestPhases(instance, exchange)
  exchange.respond({ headers: asked.upstream ?? {} })
  instance.headerFilter?.(exchange)
  const sent: Record<string, string> = {}
  const list = exchange.response.headers
  for (let index = 0; index < list.count; index++) {
    const key = list.keys[index] ?? ''
    const value = list.values[index] ?? ''
    sent[key] = key in sent ? `${sent[key]}|${value}` : value
  }
  return sent
}

const defaults = {
  'access-control-allow-methods': '*',
  'access-control-max-age': '5',
  'access-control-allow-headers': '*',
}

describe('cors', () => {
  test('by default any origin, without Vary', async () => {
    const expected = { 'access-control-allow-origin': '*', ...defaults }
    expect(await answerHeaders({}, { origin: 'https://a.test' })).toEqual(expected)
    expect(await answerHeaders({})).toEqual(expected)
  })

  test.each(['https://a.test', 'https://unknown.test', undefined])(
    'every OPTIONS request is answered 200 at once: Origin %s',
    async (origin) => {
      const instance = configure(cors, { allow_origins: 'https://a.test' })
      const exchange = fakeExchange({ method: 'OPTIONS', headers: origin === undefined ? {} : { Origin: origin } })
      expect(await instance.rewrite?.(exchange)).toEqual({ status: 200 })
      exchange.respond({ source: 'gateway' })
      instance.headerFilter?.(exchange)
      expect(exchange.response.headers.has('access-control-allow-origin')).toBe(origin === 'https://a.test')
      expect(exchange.response.headers.get('vary')).toBe('Origin')
    },
  )

  test('other methods go on', async () => {
    expect(
      await requestPhases(configure(cors, {}), fakeExchange({ method: 'POST', headers: { Origin: 'https://a.test' } })),
    ).toBeUndefined()
  })

  test.each([
    ['https://a.test', 'https://a.test'],
    ['http://b.test:8080', 'http://b.test:8080'],
    ['https://b.test:8080', undefined],
    ['https://a.test.evil.test', undefined],
    ['null', undefined],
    [undefined, undefined],
  ])('a list of origins: %s', async (origin, allowed) => {
    const sent = await answerHeaders({ allow_origins: 'https://a.test,http://b.test:8080' }, origin === undefined ? {} : { origin })
    expect(sent['access-control-allow-origin']).toBe(allowed)
    expect(sent['vary']).toBe('Origin')
    expect('access-control-allow-methods' in sent).toBe(allowed !== undefined)
  })

  test('one origin does not match another', async () => {
    expect(await answerHeaders({ allow_origins: 'https://a.test' }, { origin: 'https://b.test' })).toEqual({ vary: 'Origin' })
  })

  test('** repeats any origin, and expands methods and headers', async () => {
    const conf = {
      allow_origins: '**',
      allow_methods: '**',
      allow_headers: '**',
      allow_credential: true,
      expose_headers: 'X-A,X-B',
      max_age: 600,
    }
    expect(await answerHeaders(conf, { origin: 'https://x.test', request: { 'Access-Control-Request-Headers': 'x-one,x-two' } })).toEqual({
      vary: 'Origin',
      'access-control-allow-origin': 'https://x.test',
      'access-control-allow-methods': 'GET,POST,PUT,DELETE,PATCH,HEAD,OPTIONS,CONNECT,TRACE',
      'access-control-max-age': '600',
      'access-control-expose-headers': 'X-A,X-B',
      'access-control-allow-headers': 'x-one,x-two',
      'access-control-allow-credentials': 'true',
    })
  })

  test('** without an Origin is *, and ** headers that nobody asked for are not sent', async () => {
    const sent = await answerHeaders({ allow_origins: '**', allow_headers: '**' }, { upstream: { 'Access-Control-Allow-Headers': 'X-Up' } })
    expect(sent['access-control-allow-origin']).toBe('*')
    expect('access-control-allow-headers' in sent).toBe(false)
  })

  test('max_age -1 and an empty expose_headers', async () => {
    const sent = await answerHeaders({ max_age: -1, expose_headers: '' })
    expect(sent['access-control-max-age']).toBe('-1')
    expect('access-control-expose-headers' in sent).toBe(false)
  })

  test('expressions replace the list', async () => {
    const conf = {
      allow_origins: 'https://listed.test',
      allow_origins_by_regex: ['^https://[a-z]+\\.good\\.test$', '^http://localhost(:\\d+)?$'],
    }
    expect((await answerHeaders(conf, { origin: 'https://www.good.test' }))['access-control-allow-origin']).toBe('https://www.good.test')
    expect((await answerHeaders(conf, { origin: 'http://localhost:3000' }))['access-control-allow-origin']).toBe('http://localhost:3000')
    expect(await answerHeaders(conf, { origin: 'https://listed.test' })).toEqual({ vary: 'Origin' })
    expect(await answerHeaders({ allow_origins_by_regex: ['.*'] })).toEqual({ vary: 'Origin' })
  })

  test('origins from the metadata', async () => {
    const metadata = { allow_origins: { one: 'https://one.test,https://uno.test', any: '*' } }
    const conf = { allow_origins: 'https://a.test', allow_origins_by_metadata: ['one'] }
    const ask = async (origin: string) => (await answerHeaders(conf, { origin, options: { metadata } }))['access-control-allow-origin']
    expect(await ask('https://a.test')).toBe('https://a.test')
    expect(await ask('https://uno.test')).toBe('https://uno.test')
    expect(await ask('https://two.test')).toBeUndefined()
    const any = { ...conf, allow_origins_by_metadata: ['any'] }
    expect((await answerHeaders(any, { origin: 'https://x.test', options: { metadata } }))['access-control-allow-origin']).toBe(
      'https://x.test',
    )
    const unknown = { ...conf, allow_origins_by_metadata: ['missing'] }
    expect(await answerHeaders(unknown, { origin: 'https://x.test', options: { metadata } })).toEqual({ vary: 'Origin' })
  })

  test('headers of the upstream are overwritten on an allowed origin only', async () => {
    const upstream = {
      'Access-Control-Allow-Origin': 'https://up.test',
      'Access-Control-Allow-Methods': 'GET',
      'Access-Control-Allow-Credentials': 'true',
      'X-Other': '1',
    }
    const conf = { allow_origins: 'https://a.test' }
    expect(await answerHeaders(conf, { origin: 'https://a.test', upstream })).toEqual({
      'access-control-allow-origin': 'https://a.test',
      ...defaults,
      'x-other': '1',
      vary: 'Origin',
    })
    const kept = await answerHeaders(conf, { origin: 'https://b.test', upstream })
    expect(kept['access-control-allow-origin']).toBe('https://up.test')
    expect(kept['access-control-allow-credentials']).toBe('true')
  })

  test.each([
    ['Accept-Encoding', 'Accept-Encoding|Origin'],
    ['Accept, origin', 'Accept, origin'],
    ['*', '*'],
    ['X-Origin-Y', 'X-Origin-Y|Origin'],
  ])('Vary of the upstream is kept: %s', async (vary, expected) => {
    expect((await answerHeaders({ allow_origins: '**' }, { origin: 'https://a.test', upstream: { Vary: vary } }))['vary']).toBe(expected)
  })

  test('the Origin of the client counts, also when a later plugin changes the header', () => {
    const instance = configure(cors, { allow_origins: 'https://a.test' })
    const exchange = fakeExchange({ headers: { Origin: 'https://a.test' } })
    instance.rewrite?.(exchange)
    exchange.requestHeaders.set('Origin', 'https://changed.test')
    exchange.respond({})
    instance.headerFilter?.(exchange)
    expect(exchange.response.headers.get('access-control-allow-origin')).toBe('https://a.test')
  })

  test('answers of plugins that ran earlier get the headers too', () => {
    const instance = configure(cors, { allow_origins: 'https://a.test' })
    const exchange = fakeExchange({ headers: { Origin: 'https://a.test' } }).respond({ status: 413, source: 'gateway' })
    instance.headerFilter?.(exchange)
    expect(exchange.response.headers.get('access-control-allow-origin')).toBe('https://a.test')
  })

  test('resource timings have their own origins', async () => {
    const listed = { timing_allow_origins: 'https://t.test' }
    expect((await answerHeaders(listed, { origin: 'https://t.test' }))['timing-allow-origin']).toBe('https://t.test')
    const other = await answerHeaders(listed, { origin: 'https://x.test' })
    expect('timing-allow-origin' in other).toBe(false)
    expect(other['vary']).toBe('Origin')
    const any = await answerHeaders({ timing_allow_origins: '*' }, { origin: 'https://x.test' })
    expect(any['timing-allow-origin']).toBe('*')
    expect('vary' in any).toBe(false)
    const matched = { timing_allow_origins: 'https://t.test', timing_allow_origins_by_regex: ['^https://.*\\.r\\.test$'] }
    expect((await answerHeaders(matched, { origin: 'https://x.r.test' }))['timing-allow-origin']).toBe('https://x.r.test')
    expect('timing-allow-origin' in (await answerHeaders(matched, { origin: 'https://t.test' }))).toBe(false)
  })

  test.each(['allow_origins', 'allow_methods', 'allow_headers', 'expose_headers'])('credentials exclude * in %s', (field) => {
    const strict = { allow_credential: true, allow_origins: 'https://a.test', allow_methods: 'GET', allow_headers: 'X-A' }
    expect(problemsOf(cors, strict)).toEqual([])
    expect(problemsOf(cors, { ...strict, [field]: '*' })).toEqual([
      `${field}: you can not set '*' for other option when 'allow_credential' is true`,
    ])
  })

  test.each<[Json]>([
    [{ allow_origins: 'a.test' }],
    [{ allow_origins: 'https://a.test, https://b.test' }],
    [{ allow_origins: '' }],
    [{ allow_methods: 'GET\r\nX: 1' }],
    [{ max_age: -2 }],
    [{ allow_origins_by_regex: [] }],
    [{ allow_origins_by_regex: ['('] }],
    [{ timing_allow_origins_by_regex: ['['] }],
  ])('refuses %j', (conf) => {
    expect(problemsOf(cors, conf)).toHaveLength(1)
  })
})
