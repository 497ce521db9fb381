/** The Admin API over a real gateway: every status, envelope and text that scripts of its users look for, in one life of one gateway. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { lengthResponse } from '../../src/doctor/recording-upstream.js'
import { ADMIN_KEY, type Gateway } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'
import { TestAuthority } from '../support/tls-certificates.js'

const bed = new TestBed()
let gateway: Gateway
afterAll(() => bed.close())

interface Reply {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** Of a JSON answer, else the text. */
  readonly body: unknown
}

async function ask(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Reply> {
  const response = await fetch(`${gateway.adminUrl}/apisix/admin/${path}`, {
    method,
    headers: { 'x-api-key': ADMIN_KEY, ...headers },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  const text = await response.text()
  let parsed: unknown = text
  try {
    parsed = JSON.parse(text)
  } catch {}
  return { status: response.status, headers: response.headers, text, body: parsed }
}

const mocking = (text: string) => ({ mocking: { response_example: text, content_type: 'text/plain' } })
const served = async (path: string, headers: Record<string, string> = {}) => {
  const response = await fetch(`${gateway.url}${path}`, { headers })
  return `${response.status} ${(await response.text()).trim()}`
}
const nodes = { '127.0.0.1:1': 1 }
const times = { create_time: expect.any(Number), update_time: expect.any(Number) }

beforeAll(async () => {
  const config = {
    routes: [{ id: 'from-file', uri: '/file', plugins: mocking('file') }],
    sluice: { admin: { keys: [{ name: 'guest', key: 'viewer-key-of-the-test', role: 'viewer' }] } },
  }
  gateway = await bed.gateway({ config, workers: 2, admin: true })
})

describe('the guide', () => {
  test('its curl command: form content type, 201, then 200; in force when it is answered', async () => {
    const route = { uri: '/orders/*', plugins: mocking('orders'), upstream: { type: 'roundrobin', nodes } }
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    const created = await ask('PUT', 'routes/1', route, form)
    expect([created.status, await served('/orders/7')]).toEqual([201, '200 orders'])
    expect(created.headers.get('content-type')).toBe('application/json')
    expect(created.headers.get('x-api-version')).toBe('v3')
    expect(created.headers.get('server')).toMatch(/^APISIX\/3/)
    expect(Number(created.headers.get('x-sluice-epoch'))).toBe(2)
    expect(created.body).toEqual({
      key: '/apisix/routes/1',
      value: {
        ...route,
        upstream: { ...route.upstream, hash_on: 'vars', pass_host: 'pass', scheme: 'http' },
        id: '1',
        status: 1,
        priority: 0,
        ...times,
      },
    })
    const updated = await ask('PUT', 'routes/1', { ...route, plugins: mocking('again') }, form)
    expect([updated.status, await served('/orders/7')]).toEqual([200, '200 again'])
  })
})

describe('reading', () => {
  test('one, a list, and what is not there', async () => {
    const one = await ask('GET', 'routes/from-file')
    expect(one.status).toBe(200)
    expect(one.body).toEqual({
      key: '/apisix/routes/from-file',
      value: { id: 'from-file', uri: '/file', plugins: mocking('file'), status: 1, priority: 0, ...times },
      createdIndex: 1,
      modifiedIndex: 1,
    })
    expect((await ask('GET', 'routes')).body).toMatchObject({ total: 2, list: [{ value: { id: 'from-file' } }, { value: { id: '1' } }] })
    expect(await ask('GET', 'routes/none')).toMatchObject({ status: 404, body: { message: 'Key not found' } })
    expect(await ask('GET', 'stream_routes')).toMatchObject({ status: 200, body: { list: [], total: 0 } })
    const head = await ask('HEAD', 'routes')
    expect([head.status, head.text]).toEqual([200, ''])
  })

  test('pages and filters', async () => {
    const entries = Array.from({ length: 13 }, (_, index) => ({
      id: `page-${index}`,
      uri: `/page/${index}`,
      name: index % 2 === 0 ? `even-${index}` : `odd-${index}`,
      labels: { team: index < 3 ? 'red' : 'blue' },
      plugins: mocking('x'),
    }))
    for (const reply of await Promise.all(entries.map((entry) => ask('PUT', `routes/${entry.id}`, entry)))) expect(reply.status).toBe(201)
    const ids = async (query: string) => {
      const { body } = await ask('GET', `routes?${query}`)
      const { list, total } = body as { list: { value: { id: string } }[]; total: number }
      return [total, ...list.map(({ value }) => value.id)]
    }
    expect(await ids('page=2&page_size=10')).toEqual([15, 'page-8', 'page-9', 'page-10', 'page-11', 'page-12'])
    expect(await ids('page=0&page_size=10&name=even-1')).toEqual([2, 'page-10', 'page-12'])
    expect(await ids('page=9&page_size=500')).toEqual([15])
    expect((await ids('page_size=10'))[0]).toBe(15)
    expect((await ids('page_size=10')).length).toBe(16)
    expect(await ids('name=%5Eodd-1%24')).toEqual([1, 'page-1'])
    expect(await ids('uri=/page/1%24')).toEqual([1, 'page-1'])
    expect(await ids('label=team:red')).toEqual([3, 'page-0', 'page-1', 'page-2'])
    expect((await ids('label=team'))[0]).toBe(13)
    expect(await ids('label=nobody')).toEqual([0])
    expect(await ids('filter=name%3Dodd-1')).toEqual([1, 'page-1'])
    for (const size of ['9', '501', 'x']) {
      expect(await ask('GET', `routes?page=1&page_size=${size}`)).toMatchObject({
        status: 400,
        text: 'page_size must be between 10 and 500',
      })
    }
    for (const entry of entries) await ask('DELETE', `routes/${entry.id}`)
  })
})

const plugins = mocking('x')
describe('what is refused, and in which words', () => {
  const invalid = 'invalid configuration: '
  const onlyOne = `${invalid}allOf 1 failed: value should match only one schema, but matches`
  test.each<[method: string, path: string, body: unknown, status: number, text: string]>([
    ['PUT', 'routes/9', '', 400, 'missing configurations'],
    ['PUT', 'routes/9', '{"uri":', 400, 'invalid request body: not valid JSON'],
    ['PUT', 'routes/9', '"x"', 400, `${invalid}wrong type: expected object, got string`],
    ['PUT', 'routes', { uri: '/x', plugins }, 400, 'missing route id'],
    ['PUT', 'routes/9', { id: 8, uri: '/x', plugins }, 400, 'wrong route id'],
    ['POST', 'routes/9', { uri: '/x', plugins }, 400, 'wrong route id, do not need it'],
    ['POST', 'routes', { id: '9', uri: '/x', plugins }, 400, 'wrong route id, do not need it'],
    ['DELETE', 'routes', undefined, 400, 'missing route id'],
    ['PATCH', 'routes', { uri: '/x' }, 400, 'missing route id'],
    ['PATCH', 'routes/1', '', 400, 'missing new configuration'],
    ['PATCH', 'routes/1', '[]', 400, 'invalid configuration'],
    ['PATCH', 'routes/1/uri/deep', '"x"', 400, 'invalid sub-path: uri/deep'],
    ['PUT', 'routes/9', { uri: '/x', plugins, create_time: 1 }, 400, 'the property is forbidden: create_time'],
    ['PUT', 'routes/9?ttl=soon', { uri: '/x', plugins }, 400, 'invalid argument ttl: should be a number'],
    [
      'PUT',
      'routes/9',
      { uri: '', plugins },
      400,
      `${invalid}property "uri" validation failed: string too short, expected at least 1, got 0`,
    ],
    ['PUT', 'routes/9', { uri: '/x', plugins, x: 1 }, 400, `${invalid}additional properties forbidden, found x`],
    [
      'PUT',
      'routes/9',
      { uri: '/x', plugins: 'x' },
      400,
      `${invalid}property "plugins" validation failed: wrong type: expected object, got string`,
    ],
    ['PUT', 'routes/9', { plugins }, 400, `${onlyOne} none`],
    ['PUT', 'routes/9', { uri: '/x', uris: ['/x'], plugins }, 400, `${onlyOne} both schemas 1 and 2`],
    ['PUT', 'routes/9', { uris: [], plugins }, 400, `${invalid}property "uris" validation failed: expect array to have at least 1 items`],
    [
      'PUT',
      'routes/9',
      { uris: ['/a', '/a'], plugins },
      400,
      `${invalid}property "uris" validation failed: expected unique items but items 1 and 2 are equal`,
    ],
    [
      'PUT',
      'routes/9',
      { uri: '/x', methods: ['GOT'], plugins },
      400,
      `${invalid}property "methods" validation failed: failed to validate item 1: "GOT" matches none of the enum values`,
    ],
    ['PUT', 'routes/9', { uri: '/x', host: 'a', hosts: ['b'], plugins }, 400, 'only one of host or hosts is allowed'],
    [
      'PUT',
      'routes/9',
      { uri: '/x', remote_addr: '::1', remote_addrs: ['::1'], plugins },
      400,
      'only one of remote_addr or remote_addrs is allowed',
    ],
    [
      'PUT',
      'routes/9',
      { uri: '/x', vars: [['arg_a', '=', '1']], plugins },
      400,
      "failed to validate the 'vars' expression: invalid operator '='",
    ],
    [
      'PUT',
      'routes/9',
      { uri: '/x', vars: 'x', plugins },
      400,
      `${invalid}property "vars" validation failed: wrong type: expected array, got string`,
    ],
    ['PUT', 'routes/9', { uri: '/x', upstream_id: 9 }, 400, 'failed to fetch upstream info by upstream id [9], response code: 404'],
    ['PUT', 'routes/9', { uri: '/x', service_id: 's' }, 400, 'failed to fetch service info by service id [s], response code: 404'],
    [
      'PUT',
      'routes/9',
      { uri: '/x', plugin_config_id: 9 },
      400,
      'failed to fetch plugin config info by plugin config id [9], response code: 404',
    ],
    ['PUT', 'routes/9', { uri: '/x', plugins: { 'limit-cnt': {} } }, 400, 'unknown plugin [limit-cnt]'],
    [
      'PUT',
      'routes/9',
      { uri: '/x', plugins: { 'limit-count': { count: 0, time_window: 1 } } },
      400,
      'failed to check the configuration of plugin limit-count err: property "count" validation failed: expected 0 to be at least 1',
    ],
    [
      'PUT',
      'routes/9',
      { uri: '/x', plugins: { 'limit-count': { count: 1, time_window: 1, rejected_code: 600 } } },
      400,
      'failed to check the configuration of plugin limit-count err: property "rejected_code" validation failed: expected 600 to be at most 599',
    ],
    ['PUT', 'upstreams/9', { nodes: { '::1': 1 } }, 400, `${invalid}IPv6 address must be enclosed with '[' and ']'`],
    [
      'PUT',
      'upstreams/9',
      { nodes: [{ host: '::1', port: 1, weight: 1 }] },
      400,
      `${invalid}IPv6 address must be enclosed with '[' and ']'`,
    ],
    ['PUT', 'upstreams/9', { type: 'chash', nodes }, 400, 'missing key'],
    ['PUT', 'routes/9', { uri: '/x', upstream: { type: 'chash', nodes } }, 400, 'missing key'],
    ['PUT', 'upstreams/9', { nodes, pass_host: 'rewrite' }, 400, "`upstream_host` can't be empty when `pass_host` is `rewrite`"],
    [
      'PUT',
      'upstreams/9',
      { nodes, checks: { passive: {} } },
      400,
      `${invalid}property "checks" validation failed: object matches none of the required: ["active"] or ["active","passive"]`,
    ],
    ['PUT', 'ssls/9', { sni: 'a.b', cert: 'x', key: 'y' }, 400, 'failed to parse cert: it is not a PEM certificate'],
    ['PUT', 'consumers', { plugins: {} }, 400, `${invalid}property "username" is required`],
    ['PUT', 'consumers/jill', { username: 'jack' }, 400, 'wrong username'],
    [
      'PUT',
      'consumers',
      { username: 'ja ck' },
      400,
      `${invalid}property "username" validation failed: failed to match pattern "^[a-zA-Z0-9_-]+$" with "ja ck"`,
    ],
    [
      'PUT',
      'consumers',
      { username: 'jack', group_id: 'g' },
      400,
      'failed to fetch consumer group info by consumer group id [g], response code: 404',
    ],
    ['POST', 'consumers', { username: 'jack' }, 405, 'not supported `POST` method for consumer'],
    ['PATCH', 'consumers/jack', {}, 405, 'not supported `PATCH` method for consumer'],
    ['POST', 'global_rules', { plugins }, 405, 'not supported `POST` method for global rule'],
    ['PUT', 'consumers/nobody/credentials/one', { plugins: { 'key-auth': { key: 'k' } } }, 404, 'consumer not found'],
    ['GET', 'consumers/nobody/credentials', undefined, 404, 'consumer not found'],
    ['PUT', 'plugin_metadata/nothing', {}, 400, 'unknown plugin [nothing]'],
    ['PUT', 'stream_routes/1', {}, 400, 'stream mode is disabled, can not add stream routes'],
    ['PUT', 'secrets/vault/1', {}, 400, 'secrets are not supported yet'],
    ['GET', 'nothing/1', undefined, 404, 'Unsupported resource type: nothing'],
    ['PURGE', 'routes/1', undefined, 404, 'not found'],
    ['GET', 'plugins/none', undefined, 404, 'plugin not found in subsystem http'],
    ['GET', 'schema/none', undefined, 400, 'not found schema: none'],
    ['POST', 'schema/validate/none', {}, 400, 'Unsupported resource type: none'],
    [
      'POST',
      'schema/validate/routes',
      { uri: 1, plugins },
      400,
      `${invalid}property "uri" validation failed: wrong type: expected string, got integer`,
    ],
    ['PUT', 'configs', {}, 400, 'missing digest header'],
  ])('%s %s %j: %i %s', async (method, path, body, status, text) => {
    const reply = await ask(method, path, body)
    expect([reply.status, reply.text]).toEqual([status, expect.any(String)])
    const { error_msg: message } = reply.body as { error_msg: string }
    expect(message.slice(0, text.length)).toBe(text)
  })

  test('all that is wrong is listed, the first stands alone as well', async () => {
    const { body } = await ask('PUT', 'routes/9', { uri: 1, priority: 'x', plugins })
    expect(body).toMatchObject({
      error_msg: expect.stringContaining('"uri"'),
      errors: [expect.any(String), expect.stringContaining('"priority"')],
    })
  })

  test('a body beyond the bound names both sizes', async () => {
    const { status, body } = await ask('PUT', 'routes/9', `{"uri":"/x","desc":"${'x'.repeat(1_572_864)}"}`)
    expect([status, body]).toEqual([
      400,
      { error_msg: 'invalid request body: request size 1572886 is greater than the maximum size 1572864 allowed' },
    ])
  })

  test('nothing of it has changed anything', async () => {
    expect((await ask('GET', 'routes/9')).status).toBe(404)
    expect((await ask('GET', 'routes')).body).toMatchObject({ total: 2 })
  })
})

describe('who may do what', () => {
  const bare = async (path: string, init: RequestInit = {}) => {
    const response = await fetch(`${gateway.adminUrl}/apisix/admin/${path}`, init)
    return { status: response.status, body: await response.json().catch(() => null), headers: response.headers }
  }
  const refusal = (description: string) => ({ error_msg: 'failed to check token', description })

  test('keys come in a header, the query or a cookie', async () => {
    expect(await bare('routes')).toMatchObject({ status: 401, body: refusal('missing apikey') })
    expect(await bare('routes', { headers: { 'x-api-key': 'x' } })).toMatchObject({ status: 401, body: refusal('wrong apikey') })
    expect((await bare(`routes?api_key=${ADMIN_KEY}`)).status).toBe(200)
    expect((await bare('routes', { headers: { cookie: `a=b; x_api_key=${ADMIN_KEY}` } })).status).toBe(200)
  })

  test('viewers read, without secrets', async () => {
    await ask('PUT', 'consumers', { username: 'secretive', plugins: { 'key-auth': { key: 'the-key' } } })
    const viewer = { 'x-api-key': 'viewer-key-of-the-test' }
    const seen = await ask('GET', 'consumers/secretive', undefined, viewer)
    expect(seen.body).toMatchObject({ value: { username: 'secretive', plugins: { 'key-auth': { key: '******' } } } })
    expect((await ask('GET', 'consumers/secretive')).text).toContain('the-key')
    expect(await ask('DELETE', 'consumers/secretive', undefined, viewer)).toMatchObject({
      status: 401,
      body: refusal('invalid method for role viewer'),
    })
    expect((await ask('DELETE', 'consumers/secretive')).status).toBe(200)
  })

  test('pages of other origins are kept out, whatever key they have', async () => {
    const headers = { 'x-api-key': ADMIN_KEY, origin: 'https://evil.example' }
    expect((await bare('routes', { headers })).status).toBe(403)
    expect((await bare('routes/1', { method: 'OPTIONS', headers: { origin: 'https://evil.example' } })).status).toBe(403)
    expect((await bare('routes', { headers: { ...headers, origin: gateway.adminUrl } })).status).toBe(200)
    const cookie = { cookie: `x_api_key=${ADMIN_KEY}`, 'sec-fetch-site': 'cross-site' }
    expect((await bare('routes', { headers: cookie })).status).toBe(401)
  })
})

describe('changes', () => {
  test('PATCH merges maps, replaces lists, removes what is null; a sub-path is replaced', async () => {
    await ask('PUT', 'routes/p', { uri: '/p', methods: ['GET', 'POST'], name: 'p', plugins: mocking('p'), labels: { a: '1', b: '2' } })
    const merged = await ask('PATCH', 'routes/p', { name: null, methods: ['GET'], labels: { b: null, c: '3' } })
    expect(merged.status).toBe(200)
    expect(merged.body).toMatchObject({ key: '/apisix/routes/p', value: { id: 'p', methods: ['GET'], labels: { a: '1', c: '3' } } })
    expect(Object.keys((merged.body as { value: object }).value)).not.toContain('name')
    expect((await ask('PATCH', 'routes/p/methods', ['GET', 'PUT'])).body).toMatchObject({ value: { methods: ['GET', 'PUT'] } })
    const replaced = await ask('PATCH', 'routes/p/plugins', mocking('patched'))
    expect([replaced.status, await served('/p')]).toEqual([200, '200 patched'])
    await ask('PATCH', 'routes/p/labels/a', '"x"')
    expect((await ask('GET', 'routes/p')).body).toMatchObject({ value: { labels: { a: 'x', c: '3' } } })
    expect((await ask('PATCH', 'routes/none', { uri: '/x' })).body).toEqual({ message: 'Key not found' })
    expect((await ask('PATCH', 'routes/p', { uri: 7 })).status).toBe(400)
    expect(await served('/p')).toBe('200 patched')
  })

  test('POST gives an id; PUT keeps the time of creation', async () => {
    const posted = await ask('POST', 'routes', { uri: '/posted', plugins: mocking('posted') })
    expect([posted.status, await served('/posted')]).toEqual([201, '200 posted'])
    const { key, value } = posted.body as { key: string; value: { id: string; create_time: number } }
    expect(key).toBe(`/apisix/routes/${value.id}`)
    const again = await ask('PUT', `routes/${value.id}`, { uri: '/posted', plugins: mocking('posted') })
    expect(again.body).toMatchObject({ value: { create_time: value.create_time } })
    expect((await ask('DELETE', `routes/${value.id}`)).body).toEqual({ deleted: value.id, key })
    expect((await ask('DELETE', `routes/${value.id}`)).body).toEqual({ message: 'Key not found' })
    expect(await served('/posted')).toContain('404')
  })

  test('what others use is not deleted, but by force: then they are 503, and well again when it is back', async () => {
    const upstream = await bed.upstream({ answer: () => lengthResponse('up') })
    const target = { nodes: { [`127.0.0.1:${upstream.port}`]: 1 } }
    expect((await ask('PUT', 'upstreams/u', target)).status).toBe(201)
    expect((await ask('PUT', 'services/s', { upstream_id: 'u' })).status).toBe(201)
    expect((await ask('PUT', 'plugin_configs/c', { plugins: { 'response-rewrite': { headers: { set: { 'x-c': '1' } } } } })).status).toBe(
      201,
    )
    expect((await ask('PUT', 'routes/use', { uri: '/use', service_id: 's', plugin_config_id: 'c', upstream_id: 'u' })).status).toBe(201)
    const texts = await Promise.all(['upstreams/u', 'services/s', 'plugin_configs/c'].map(async (path) => (await ask('DELETE', path)).body))
    expect(texts).toEqual([
      { error_msg: 'can not delete this upstream, route [use] is still using it now' },
      { error_msg: 'can not delete this service directly, route [use] is still using it now' },
      { error_msg: 'can not delete this plugin config, route [use] is still using it now' },
    ])
    expect(await served('/use')).toMatch(/^200/)
    for (const [path, value] of [
      ['upstreams/u', target],
      ['services/s', { upstream_id: 'u' }],
      ['plugin_configs/c', { plugins: { 'response-rewrite': { headers: { set: { 'x-c': '1' } } } } }],
    ] as const) {
      expect((await ask('DELETE', `${path}?force=true`)).status, path).toBe(200)
      expect(await served('/use'), path).toMatch(/^503/)
      expect((await ask('PUT', path, value)).status, path).toBe(201)
      expect(await served('/use'), path).toMatch(/^200/)
    }
    for (const path of ['routes/use', 'services/s', 'upstreams/u', 'plugin_configs/c']) expect((await ask('DELETE', path)).status).toBe(200)
  })

  test('an upstream that a plugin names', async () => {
    const upstream = await bed.upstream({ answer: () => lengthResponse('up') })
    const target = { nodes: { [`127.0.0.1:${upstream.port}`]: 1 } }
    const split = { 'traffic-split': { rules: [{ weighted_upstreams: [{ upstream_id: 'u', weight: 1 }] }] } }
    expect((await ask('PUT', 'upstreams/u', target)).status).toBe(201)
    for (const [path, value, word] of [
      ['routes/use', { uri: '/use', upstream: { nodes }, plugins: split }, 'route [use]'],
      ['services/s', { plugins: split, upstream: { nodes } }, 'service [s]'],
      ['plugin_configs/c', { plugins: split }, 'plugin_config [c]'],
      ['global_rules/g', { plugins: split }, 'global_rules [g]'],
    ] as const) {
      const put = await ask('PUT', path, value)
      expect(put.status, put.text).toBe(201)
      expect((await ask('DELETE', 'upstreams/u')).body).toEqual({
        error_msg: `can not delete this upstream, plugin in ${word} is still using it now`,
      })
      if (path !== 'routes/use') {
        expect((await ask('DELETE', path)).status).toBe(200)
        continue
      }
      expect(await served('/use')).toBe('200 up')
      expect((await ask('DELETE', 'upstreams/u?force=true')).status).toBe(200)
      expect(await served('/use')).toMatch(/^503/)
      // Changes of other things go on meanwhile.
      expect((await ask('PUT', 'routes/other', { uri: '/other', plugins: mocking('other') })).status).toBe(201)
      expect((await ask('PUT', 'upstreams/u', target)).status).toBe(201)
      expect(await served('/use')).toBe('200 up')
      for (const one of [path, 'routes/other']) expect((await ask('DELETE', one)).status).toBe(200)
    }
    expect((await ask('DELETE', 'upstreams/u')).status).toBe(200)
    expect((await ask('PUT', 'routes/use', { uri: '/use', upstream: { nodes }, plugins: split })).body).toMatchObject({
      error_msg: 'failed to fetch upstream info by upstream id [u], response code: 404',
    })
  })

  test('consumers, credentials and groups', async () => {
    await ask('PUT', 'routes/who', { uri: '/who', plugins: { 'key-auth': {}, ...mocking('in') } })
    await ask('PUT', 'consumer_groups/g', { plugins: { 'response-rewrite': { headers: { set: { 'x-group': 'g' } } } } })
    const bob = await ask('PUT', 'consumers', { username: 'bob', group_id: 'g', plugins: { 'key-auth': { key: 'bobs' } } })
    expect([bob.status, bob.body]).toEqual([
      201,
      { key: '/apisix/consumers/bob', value: { username: 'bob', group_id: 'g', plugins: { 'key-auth': { key: 'bobs' } }, ...times } },
    ])
    expect((await ask('PUT', 'consumers/jack', { username: 'jack' })).status).toBe(201)
    expect((await ask('PUT', 'consumers/jack', { username: 'jack', plugins: { 'key-auth': { key: 'bobs' } } })).body).toMatchObject({
      error_msg: 'duplicate key of plugin key-auth found with consumer: bob',
    })
    const one = await ask('PUT', 'consumers/jack/credentials/one', { plugins: { 'key-auth': { key: 'jacks' } } })
    expect([one.status, one.body]).toEqual([
      201,
      { key: '/apisix/consumers/jack/credentials/one', value: { id: 'one', plugins: { 'key-auth': { key: 'jacks' } }, ...times } },
    ])
    expect(await served('/who', { apikey: 'jacks' })).toBe('200 in')
    expect((await ask('PUT', 'consumers/bob', { username: 'bob', plugins: { 'key-auth': { key: 'jacks' } } })).body).toMatchObject({
      error_msg: 'duplicate key of plugin key-auth found with credential: one of consumer: jack',
    })
    expect((await ask('PUT', 'consumers/jack/credentials/two', { plugins: mocking('x') })).body).toMatchObject({
      error_msg: 'only supports auth type plugins in consumer credential',
    })
    expect((await ask('POST', 'consumers/jack/credentials', {})).body).toEqual({ error_msg: 'not supported `POST` method for credential' })
    expect((await ask('GET', 'consumers/jack/credentials')).body).toMatchObject({ total: 1, list: [{ value: { id: 'one' } }] })
    expect((await ask('DELETE', 'consumer_groups/g')).body).toEqual({
      error_msg: 'can not delete this consumer group, consumer [bob] is still using it now',
    })
    expect((await ask('DELETE', 'consumers/jack')).status).toBe(200)
    expect(await served('/who', { apikey: 'jacks' })).toMatch(/^401/)
    for (const path of ['consumers/bob', 'consumer_groups/g', 'routes/who']) expect((await ask('DELETE', path)).status).toBe(200)
  })

  test('the private key of a certificate never comes back', async () => {
    const { cert, key } = await (await TestAuthority.create()).issue('api.example')
    const written = await ask('PUT', 'ssls/1', { sni: 'api.example', cert, key })
    expect(written.status).toBe(201)
    for (const reply of [written, await ask('GET', 'ssls/1'), await ask('GET', 'ssls'), await ask('GET', 'configs')]) {
      expect(reply.text).toContain('api.example')
      expect(reply.text).not.toContain('PRIVATE KEY')
    }
    expect((await ask('PATCH', 'ssls/1', { labels: { a: 'b' } })).status).toBe(200)
    expect((await ask('DELETE', 'ssls/1')).status).toBe(200)
  })

  test('ttl: it is gone when its time is over', async () => {
    expect((await ask('PUT', 'routes/t?ttl=0.2', { uri: '/t', plugins: mocking('t') })).status).toBe(201)
    await expect.poll(() => served('/t'), { timeout: 60_000 }).toMatch(/^404/)
    expect((await ask('GET', 'routes/t')).status).toBe(404)
  })
})

describe('what can be configured', () => {
  test('plugins and schemas', async () => {
    const names = (await ask('GET', 'plugins/list')).body as string[]
    expect(names).toEqual(expect.arrayContaining(['limit-count', 'key-auth', 'mocking']))
    expect((await ask('GET', 'plugins/limit-count')).body).toMatchObject({ type: 'object', properties: { count: {} } })
    expect((await ask('GET', 'schema/plugins/key-auth?schema_type=consumer')).body).toMatchObject({ properties: { key: {} } })
    const all = (await ask('GET', 'plugins?all=true')).body as Record<string, object>
    expect(Object.keys(all)).toEqual(names)
    expect(all['key-auth']).toMatchObject({ priority: 2500, type: 'auth', schema: {}, consumer_schema: {} })
    // What the gateway fills in need not be given: `key-auth: {}` fits.
    expect((await ask('GET', 'plugins/key-auth')).body).toMatchObject({ required: [] })
    expect((await ask('GET', 'schema/plugins/limit-count')).body).toMatchObject({
      properties: { policy: { default: 'local' } },
      required: [],
    })
    expect((await ask('GET', 'schema/route')).body).toMatchObject({ properties: { uri: {} } })
    expect((await ask('POST', 'schema/validate/routes', { uri: '/x', upstream_id: 'anything' })).status).toBe(200)
    expect(await ask('PUT', 'plugins/reload')).toMatchObject({ status: 200, text: 'done' })
  })
})

describe('the whole configuration', () => {
  const digest = (value: string) => ({ 'x-digest': value })
  test('is replaced at once, or not at all', async () => {
    const routes = [{ id: 'r1', uri: '/r1', plugins: mocking('r1') }]
    const consumers = [{ username: 'carl' }, { id: 'carl/credentials/c', plugins: { 'key-auth': { key: 'carls' } } }]
    const put = (body: object, value: string) => ask('PUT', 'configs', body, digest(value))
    expect((await put({ routes: [{ id: 'bad', uri: '/x', upstream_id: 9 }] }, 'a')).body).toMatchObject({
      error_msg: 'invalid routes at index 0, err: failed to fetch upstream info by upstream id [9], response code: 404',
      errors: [{ resource_type: 'routes', resource_id: 'bad', index: 0 }],
    })
    expect((await put({ routes: [...routes, ...routes] }, 'a')).body).toEqual({ error_msg: 'found duplicate id r1 in routes' })
    expect((await put({ stream_routes: [{}] }, 'a')).status).toBe(400)
    expect(await served('/file')).toBe('200 file')
    const accepted = await put({ routes, consumers, routes_conf_version: 5 }, 'a')
    expect([accepted.text, accepted.status]).toEqual(['', 202])
    expect([await served('/r1'), await served('/file')]).toEqual(['200 r1', expect.stringMatching(/^404/)])
    expect((await put({ routes: [] }, 'a')).status).toBe(204)
    expect((await put({ routes: [], routes_conf_version: 4 }, 'b')).body).toEqual({
      error_msg: 'routes_conf_version must be greater than or equal to (5)',
    })
    expect((await put({ routes_conf_version: 'x' }, 'b')).body).toEqual({ error_msg: 'routes_conf_version must be a number' })
    const current = await ask('GET', 'configs')
    expect(current.headers.get('x-digest')).toBe('a')
    expect(current.body).toMatchObject({
      routes: [{ id: 'r1', uri: '/r1' }],
      consumers: [{ username: 'carl' }, { id: 'carl/credentials/c' }],
      routes_conf_version: 5,
      consumers_conf_version: 1,
    })
    expect(await ask('POST', 'configs/validate', { routes: [{ uri: '/a', plugins: mocking('a') }, { uri: 1 }] })).toMatchObject({
      status: 400,
      body: { error_msg: expect.stringMatching(/^invalid routes at index 1, err: /), errors: [{ index: 1 }] },
    })
    expect((await ask('POST', 'configs/validate', { routes })).status).toBe(200)
    // The same version: routes stay as they are. No version: consumers are replaced.
    expect((await put({ routes: [], routes_conf_version: 5 }, 'c')).status).toBe(202)
    expect([await served('/r1'), (await ask('GET', 'consumers')).body]).toEqual(['200 r1', { list: [], total: 0 }])
    // What GET gave can be sent back.
    const { routes: shownRoutes, consumers: shownConsumers } = current.body as { routes: object; consumers: object }
    const body = { routes: shownRoutes, consumers: shownConsumers, consumers_conf_version: 9, routes_conf_version: 9 }
    expect((await put(body, 'd')).status).toBe(202)
    expect((await ask('GET', 'consumers/carl/credentials/c')).status).toBe(200)
  })
})
