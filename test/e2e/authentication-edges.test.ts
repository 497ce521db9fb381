/** What an attacker tries against authentication, through one gateway: fields that only the gateway may set, and odd requests by raw sockets. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { lengthResponse } from '../../src/doctor/recording-upstream.js'
import { hs256 } from '../plugins/tokens.js'
import type { Gateway } from '../support/gateway.js'
import { type Answer, type Caller, http1Caller } from '../support/http-clients.js'
import { TestBed } from '../support/test-bed.js'

const SECRET = 'a secret of the tests, long enough'
const bed = new TestBed()
let gateway: Gateway
let call: Caller

function config(upstream: number): object {
  const nodes = { [`127.0.0.1:${upstream}`]: 1 }
  const route = (id: string, plugins: object) => ({ id, uri: `/${id}`, plugins, upstream: { nodes } })
  const claims = { 'jwt-auth': { claims_to_headers: { 'X-User-ID': 'sub' } } }
  const nowhere = { uri: 'http://127.0.0.1:9/', upstream_headers: ['X-Role'], timeout: 1000 }
  return {
    consumer_groups: [{ id: 'there', plugins: {} }],
    consumers: [
      { username: 'jack', plugins: { 'key-auth': { key: 'jacks-key' }, 'jwt-auth': { key: 'jack-key', secret: SECRET } } },
      { username: 'lost', group_id: 'gone', plugins: { 'key-auth': { key: 'losts-key' } } },
      {
        username: 'lost2',
        group_id: 'gone',
        plugins: { 'key-auth': { key: 'lost2s-key' }, 'ip-restriction': { whitelist: ['127.0.0.1'] } },
      },
      {
        username: 'extra',
        plugins: {
          'key-auth': { key: 'extras-key' },
          opa: { host: 'http://127.0.0.1:9', policy: 'p', send_headers_upstream: ['X-Plan'], _meta: { filter: [['arg_opa', '==', '1']] } },
        },
      },
      { username: 'guest' },
    ],
    routes: [
      route('key', { 'key-auth': {} }),
      route('any', { 'multi-auth': { auth_plugins: [{ 'key-auth': {} }, claims] } }),
      route('guests', { 'jwt-auth': { ...claims['jwt-auth'], anonymous_consumer: 'guest' } }),
      route('asked', { 'forward-auth': { ...nowhere, _meta: { filter: [['arg_ask', '==', '1']] } } }),
      route('degraded', { 'forward-auth': { ...nowhere, allow_degradation: true } }),
      route('labels', { 'attach-consumer-label': { headers: { 'X-Dept': '$department' }, _meta: { filter: [['arg_never', '==', '1']] } } }),
    ],
  }
}

beforeAll(async () => {
  const upstream = await bed.upstream({
    answer: (request) => lengthResponse(JSON.stringify(request.fields.map(({ name, value }) => [name.toLowerCase(), value]))),
  })
  gateway = await bed.gateway({ config: config(upstream.port), workers: 2 })
  call = http1Caller(bed, gateway.port)
}, 120_000)
afterAll(() => bed.close())

/** Values of the fields with this name that reached the upstream. */
function heard(answer: Answer, name: string): string[] {
  const fields = JSON.parse(answer.body.toString('utf8')) as [string, string][]
  return fields.filter(([key]) => key === name).map(([, value]) => value)
}

describe('fields that only plugins of the route may set', () => {
  const forged = { 'X-User-ID': 'root', 'x-role': 'admin', 'X-Dept': 'ceo', 'X-Plan': 'gold' }
  const token = hs256({ key: 'jack-key', sub: 'u1' }, SECRET)

  test.each<[string, string, Record<string, string>, string, string[]]>([
    ['the plugin that sets it is not reached', '/any', { apikey: 'jacks-key' }, 'x-user-id', []],
    ['the plugin that sets it succeeds', '/any', { Authorization: `Bearer ${token}` }, 'x-user-id', ['u1']],
    ['the anonymous consumer goes on', '/guests', { Authorization: 'Bearer x' }, 'x-user-id', []],
    ['its filter leaves the plugin out', '/asked', {}, 'x-role', []],
    ['the service cannot be asked', '/degraded', {}, 'x-role', []],
    ['its filter leaves the labels out', '/labels', {}, 'x-dept', []],
    ['the plugin is that of the consumer', '/key', { apikey: 'extras-key' }, 'x-plan', []],
    ['no plugin of the route sets it', '/key', { apikey: 'jacks-key' }, 'x-plan', ['gold']],
  ])('%s', async (_name, target, fields, field, expected) => {
    const answer = await call({ target, fields: { ...fields, ...forged } })
    expect(answer.status).toBe(200)
    expect(heard(answer, field)).toEqual(expected)
  })
})

describe('a consumer whose group does not exist', () => {
  test('is refused as the fault of the gateway, others are served', async () => {
    for (const apikey of ['losts-key', 'lost2s-key']) {
      const answer = await call({ target: '/key', fields: { apikey } })
      expect(answer.status).toBe(503)
      expect(JSON.parse(answer.body.toString()) as unknown).toMatchObject({
        error_msg: 'the consumer group of this consumer does not exist',
      })
    }
    expect((await call({ target: '/key', fields: { apikey: 'jacks-key' } })).status).toBe(200)
    expect(gateway.stderr).toContain('consumer group id [gone]')
  })
})
