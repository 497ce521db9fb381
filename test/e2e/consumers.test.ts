/** What comes behind authentication, in a running gateway: chains with the plugins of consumers and groups, identity, limits. */
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { lengthResponse, type RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import type { Gateway } from '../support/gateway.js'
import { ask } from '../support/limit-clients.js'
import { TestBed } from '../support/test-bed.js'

const tokenPlugin = fileURLToPath(new URL('../support/token-plugin.js', import.meta.url))
const bed = new TestBed()
let upstream: RecordingUpstream
let gateway: Gateway

const auth = { 'test-token': {} }
const mark = (name: string, value: string) => ({ 'response-rewrite': { headers: { set: { [name]: value } } } })

function configuration(service: string): object {
  const route = (id: string, plugins: object, more: object = {}): object => ({ id, uri: `/${id}*`, plugins, ...more })
  const services = [{ id: 's', plugins: mark('X-From', service), upstream: { nodes: { [`127.0.0.1:${upstream.port}`]: 1 } } }]
  const routes = [
    route('plain', auth),
    route('late', { 'test-token': { delay: true } }),
    route('own', { ...auth, ...mark('X-From', 'route') }),
    route('config', auth, { plugin_config_id: 'p' }),
    route('rewritten', { ...auth, 'proxy-rewrite': { headers: { set: { 'X-Rewrite': 'route' } } } }),
    route('anonymous', { 'test-token': { anonymous_consumer: 'nobody' } }),
    route('open', {}),
    route('counted', { ...auth, 'limit-count': { count: 2, time_window: 86_400, key: 'consumer_name', rejected_code: 429 } }),
    route('kong', { ...auth, 'rate-limiting': { year: 1, limit_by: 'credential' } }),
    route('grouped', { ...auth, 'rate-limiting-advanced': { limit: [2], window_size: [31_536_000], identifier: 'consumer-group' } }),
    route('tiers', {
      ...auth,
      'rate-limit': {
        limits: [{ limit: 1, window: 31_536_000 }],
        key: '$consumer_name',
        tiers: { select: '$consumer_group_id', table: { gold: { limits: [{ limit: 3, window: 31_536_000 }] } } },
      },
    }),
  ].map((one) => ({ service_id: 's', ...one }))
  const consumers = [
    { username: 'plain', plugins: { 'test-token': { token: 't-plain' } } },
    {
      username: 'gold',
      group_id: 'gold',
      labels: { custom_id: 'c-1' },
      plugins: { 'test-token': { token: 't-gold', note: 'au' } },
      credentials: [{ id: 'second', plugins: { 'test-token': { token: 't-gold-2' } } }],
    },
    {
      username: 'own',
      group_id: 'gold',
      plugins: {
        'test-token': { token: 't-own' },
        ...mark('X-From', 'consumer'),
        'proxy-rewrite': { headers: { set: { 'X-Rewrite': 'consumer' } } },
      },
    },
    {
      username: 'limited',
      plugins: {
        'test-token': { token: 't-limited' },
        'limit-count': { count: 3, time_window: 86_400, key: 'remote_addr', rejected_code: 429 },
      },
    },
    { username: 'quiet', plugins: { 'test-token': { token: 't-quiet' }, 'response-rewrite': { _meta: { disable: true } } } },
    { username: 'gold2', group_id: 'gold' },
    { id: 'gold2/credentials/apart', plugins: { 'test-token': { token: 't-gold2' } } },
    { username: 'nobody' },
    { username: 'secret', plugins: { 'test-token': { token: '$env://TOKEN_OF_SECRET' } } },
  ]
  return {
    sluice: { log: { level: 'error' }, plugins: [tokenPlugin] },
    services,
    plugin_configs: [{ id: 'p', plugins: mark('X-From', 'plugin_config') }],
    consumer_groups: [{ id: 'gold', plugins: { ...mark('X-From', 'group'), 'ua-restriction': { denylist: ['bad-agent'] } } }],
    routes,
    consumers,
    credentials: [{ id: 'third', consumer: 'gold', plugins: { 'test-token': { token: 't-gold-3' } } }],
  }
}

beforeAll(async () => {
  upstream = await bed.upstream({
    answer: (request) =>
      lengthResponse(JSON.stringify(Object.fromEntries(request.fields.map(({ name, value }) => [name.toLowerCase(), value])))),
  })
  gateway = await bed.gateway({ workers: 2, env: { TOKEN_OF_SECRET: 't-from-the-environment' }, config: configuration('service') })
}, 60_000)
afterAll(() => bed.close())

/** What the client and the upstream saw. */
async function call(path: string, token: string | null, headers: Readonly<Record<string, string>> = {}) {
  const answer = await ask(bed, gateway, path, { 'User-Agent': 'tests', ...headers, ...(token === null ? {} : { 'X-Token': token }) })
  const seen: { readonly [name: string]: string } = answer.status === 200 ? JSON.parse(answer.body) : {}
  return { status: answer.status, from: answer.field('x-from'), seen }
}

describe('the chain behind authentication', () => {
  test('consumer wins over group, group over route, route over plugin_config, plugin_config over service', async () => {
    for (const path of ['/plain', '/late']) {
      expect((await call(path, 't-plain')).from).toBe('service')
      expect((await call(path, 't-gold')).from).toBe('group')
      expect((await call(path, 't-own')).from).toBe('consumer')
      expect((await call(path, 't-quiet')).from).toBeUndefined()
    }
    expect((await call('/own', 't-plain')).from).toBe('route')
    expect((await call('/config', 't-plain')).from).toBe('plugin_config')
    expect((await call('/config', 't-gold')).from).toBe('group')
    expect((await call('/own', 't-own')).from).toBe('consumer')
    // The chain of one consumer leaves no trace in that of the next.
    expect((await call('/plain', 't-plain')).from).toBe('service')
  })

  test('plugins that the route lacks run their rewrite phase; one that it has ran it with its own conf', async () => {
    expect((await call('/plain', 't-own')).seen['x-rewrite']).toBe('consumer')
    expect((await call('/rewritten', 't-own')).seen['x-rewrite']).toBe('route')
    expect((await call('/plain', 't-plain')).seen['x-rewrite']).toBeUndefined()
  })

  test('a plugin of the group refuses', async () => {
    expect((await call('/plain', 't-gold', { 'User-Agent': 'bad-agent' })).status).toBe(403)
    expect((await call('/plain', 't-plain', { 'User-Agent': 'bad-agent' })).status).toBe(200)
    expect((await call('/open', null, { 'User-Agent': 'bad-agent' })).status).toBe(200)
  })

  test('credentials are found wherever they stand', async () => {
    for (const token of ['t-gold', 't-gold-2', 't-gold-3', 't-gold2']) {
      expect([token, (await call('/plain', token)).from]).toEqual([token, 'group'])
    }
    expect((await call('/plain', 't-from-the-environment')).seen['x-consumer-username']).toBe('secret')
    for (const token of ['', 't', 't-gol', 't-gold-22', '$env://TOKEN_OF_SECRET', 'secret']) {
      expect([token, (await call('/plain', token)).status]).toEqual([token, 401])
    }
  })
})

describe('identity', () => {
  const identity = (seen: { readonly [name: string]: string }) =>
    Object.entries(seen).filter(([name]) => /^x[-_](consumer|credential|anonymous|authenticated|note)/.test(name))
  const spoofed = {
    'X-Consumer-Username': 'root',
    'X-Consumer-Custom-ID': '1',
    'X-Anonymous-Consumer': 'true',
    'X-Consumer-Groups': 'admins',
  }

  test('is what authentication found, never what the client says', async () => {
    expect(identity((await call('/plain', 't-gold', spoofed)).seen)).toEqual([
      ['x-consumer-username', 'gold'],
      ['x-consumer-custom-id', 'c-1'],
      ['x-note', 'au'],
    ])
    expect(identity((await call('/plain', 't-gold-2', spoofed)).seen)).toEqual([
      ['x-consumer-username', 'gold'],
      ['x-consumer-custom-id', 'c-1'],
      ['x-credential-identifier', 'second'],
      ['x-note', 'none'],
    ])
    expect(identity((await call('/plain', 't-plain', spoofed)).seen)).toEqual([
      ['x-consumer-username', 'plain'],
      ['x-note', 'none'],
    ])
    expect(identity((await call('/anonymous', null, spoofed)).seen)).toEqual([['x-consumer-username', 'nobody']])
    expect(identity((await call('/open', 't-gold', spoofed)).seen)).toEqual([])
  })
})

describe('limits', () => {
  const statuses = async (path: string, tokens: readonly string[]) => {
    const seen: number[] = []
    for (const token of tokens) seen.push((await call(path, token)).status)
    return seen
  }

  test('by consumer, credential and group count these', async () => {
    expect(await statuses('/counted', ['t-gold', 't-gold-2', 't-gold-3', 't-plain'])).toEqual([200, 200, 429, 200])
    expect(await statuses('/kong', ['t-gold-2', 't-gold-3', 't-gold-2', 't-plain', 't-quiet', 't-quiet'])).toEqual([
      200, 200, 429, 200, 200, 429,
    ])
    expect(await statuses('/grouped', ['t-gold', 't-gold2', 't-gold'])).toEqual([200, 200, 429])
    expect(await statuses('/tiers', ['t-gold', 't-gold', 't-gold', 't-gold', 't-plain', 't-plain'])).toEqual([200, 200, 200, 429, 200, 429])
  })

  test('that a consumer brings along count over all routes, and through a reload', async () => {
    expect(await statuses('/plain', ['t-limited'])).toEqual([200])
    expect(await statuses('/config', ['t-limited'])).toEqual([200])
    await gateway.reload(configuration('other'))
    expect((await call('/plain', 't-plain')).from).toBe('other')
    expect(await statuses('/own', ['t-limited', 't-limited'])).toEqual([200, 429])
    // It may apply on every route: who asks about one of them sees it too.
    for (const query of ['', '&route=plain']) {
      const found = await (await fetch(`${gateway.metricsUrl}/v1/limits?key=127.0.0.1${query}`)).json()
      const own = expect.objectContaining({ owner: 'consumers/limited', would_admit: false, rules: [expect.objectContaining({ used: 3 })] })
      expect(found).toMatchObject({ limits: expect.arrayContaining([own]) })
    }
    expect(await statuses('/plain', ['t-plain'])).toEqual([200])
  })
})
