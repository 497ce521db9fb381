/** Who may use a route once it is known who calls: consumer-restriction, acl, attach-consumer-label. */
import { describe, expect, test } from 'vitest'
import { acl } from '../../src/plugins/acl.js'
import { attachConsumerLabel } from '../../src/plugins/attach-consumer-label.js'
import { consumerRestriction } from '../../src/plugins/consumer-restriction.js'
import type { AnyPlugin, Consumer, Json, Reply, RouteInfo } from '../../src/plugins/plugin.js'
import { type FakeExchange, type FakeRequest, fakeExchange } from '../support/fake-exchange.js'
import { fakeConsumer, linkKit, linkPlugin } from '../support/link-kit.js'
import { problemsOf } from './configured.js'

const route: RouteInfo = { id: 'r1', name: '', serviceId: 's1', serviceName: '', labels: {} }

function access(
  plugin: AnyPlugin,
  conf: Json,
  request: FakeRequest,
  on: RouteInfo | null = route,
): { exchange: FakeExchange; reply: Reply | undefined } {
  const exchange = fakeExchange({ requestId: 'i', ...request })
  return { exchange, reply: linkPlugin(plugin, conf, linkKit(on)).access?.(exchange) as Reply | undefined }
}

const as = (fields: Partial<Consumer>): { consumer: Consumer } => ({ consumer: fakeConsumer({ username: 'jack', ...fields }) })
const kong = (message: string) => `{\n  "message":"${message}",\n  "request_id":"i"\n}`

describe('consumer-restriction', () => {
  const check = (conf: Json, request: FakeRequest, on: RouteInfo | null = route) => access(consumerRestriction, conf, request, on).reply

  test.each<[string, Json, FakeRequest, number, string]>([
    ['in the whitelist', { whitelist: ['jack'] }, as({}), 0, ''],
    ['not in the whitelist', { whitelist: ['jill'] }, as({}), 403, 'The consumer_name is forbidden.'],
    ['in the blacklist', { blacklist: ['jack'] }, as({}), 403, 'The consumer_name is forbidden.'],
    ['not in the blacklist', { blacklist: ['jill'] }, as({}), 0, ''],
    ['in both', { blacklist: ['jack'], whitelist: ['jack'] }, as({}), 403, 'The consumer_name is forbidden.'],
    ['nobody', { blacklist: ['jack'] }, {}, 401, 'The request is rejected, please check the consumer_name for this request'],
    ['own status and text', { whitelist: ['x'], rejected_code: 451, rejected_msg: 'no' }, as({}), 451, 'no'],
    [
      'no group',
      { type: 'consumer_group_id', whitelist: ['g'] },
      as({}),
      401,
      'The request is rejected, please check the consumer_group_id for this request',
    ],
    ['a wrong group', { type: 'consumer_group_id', whitelist: ['g'] }, as({ groupId: 'h' }), 403, 'The consumer_group_id is forbidden.'],
    ['the right group', { type: 'consumer_group_id', whitelist: ['g'] }, as({ groupId: 'g' }), 0, ''],
    ['this service', { type: 'service_id', whitelist: ['s1'] }, as({}), 0, ''],
    ['another service', { type: 'service_id', whitelist: ['s2'] }, as({}), 403, 'The service_id is forbidden.'],
    ['this route', { type: 'route_id', blacklist: ['r1'] }, as({}), 403, 'The route_id is forbidden.'],
    ['an allowed method', { allowed_by_methods: [{ user: 'jack', methods: ['GET'] }] }, as({}), 0, ''],
    ['another method', { allowed_by_methods: [{ user: 'jack', methods: ['POST'] }] }, as({}), 403, 'The consumer_name is forbidden.'],
    ['methods of somebody else', { allowed_by_methods: [{ user: 'jill', methods: ['POST'] }] }, as({}), 0, ''],
    [
      'whitelisted, whatever the methods',
      { whitelist: ['jack'], allowed_by_methods: [{ user: 'jack', methods: ['POST'] }] },
      as({}),
      0,
      '',
    ],
    [
      'not whitelisted, whatever the methods',
      { whitelist: ['x'], allowed_by_methods: [{ user: 'jack', methods: ['GET'] }] },
      as({}),
      403,
      'The consumer_name is forbidden.',
    ],
    [
      'the first of two entries',
      {
        allowed_by_methods: [
          { user: 'jack', methods: ['POST'] },
          { user: 'jack', methods: ['GET'] },
        ],
      },
      as({}),
      403,
      'The consumer_name is forbidden.',
    ],
  ])('%s', (_name, conf, request, status, message) => {
    const reply = check(conf, request)
    expect(reply?.status ?? 0).toBe(status)
    expect(reply?.body ?? '').toBe(message === '' ? '' : `{"message":"${message}"}\n`)
  })

  test('a route without a service, and a conf without a list', () => {
    expect(check({ type: 'service_id', whitelist: ['s1'] }, as({}), { ...route, serviceId: '' })?.status).toBe(401)
    expect(problemsOf(consumerRestriction, { type: 'route_id' }).join()).toContain('at least one of')
    expect(problemsOf(consumerRestriction, { whitelist: [] })).not.toEqual([])
  })
})

describe('acl by groups', () => {
  const check = (conf: Json, request: FakeRequest) => access(acl, conf, request)

  test('allow and deny', () => {
    const member = as({ groups: ['admin', 'dev'] })
    const allowed = check({ allow: ['dev', 'x'] }, member)
    expect(allowed.reply).toBeUndefined()
    expect(allowed.exchange.requestHeaders.get('x-consumer-groups')).toBe('admin, dev')
    const denied = check({ deny: ['dev'] }, member)
    expect(denied.reply).toMatchObject({ status: 403, body: kong('You cannot consume this service') })
    expect(denied.exchange.requestHeaders.has('x-consumer-groups')).toBe(false)
    expect(check({ allow: ['x'] }, member).reply?.status).toBe(403)
    const none = check({ deny: ['x'] }, as({}))
    expect(none.reply).toBeUndefined()
    expect(none.exchange.requestHeaders.has('x-consumer-groups')).toBe(false)
  })

  test('nobody is authenticated', () => {
    expect(check({ deny: ['x'] }, {}).reply).toMatchObject({ status: 401, body: kong('Unauthorized') })
  })

  test('the consumer group counts if wanted, the header goes if wanted', () => {
    expect(check({ allow: ['gold'] }, as({ groupId: 'gold' })).reply?.status).toBe(403)
    const counted = check({ allow: ['gold'], include_consumer_groups: true, hide_groups_header: true }, as({ groupId: 'gold' }))
    expect(counted.reply).toBeUndefined()
    expect(counted.exchange.requestHeaders.has('x-consumer-groups')).toBe(false)
  })
})

describe('acl by labels', () => {
  const check = (conf: Json, labels: { [key: string]: string }) => access(acl, conf, as({ labels })).reply

  test('one value, a list, a JSON array', () => {
    const conf = { allow_labels: { team: ['a', 'b'], role: ['x'] } }
    for (const team of ['a', 'z,b', 'z , b', '["z","b"]']) expect(check(conf, { team }), team).toBeUndefined()
    expect(check(conf, { role: 'x' })).toBeUndefined()
    for (const team of ['z', 'ab', 'A', '["z"', '[1]']) expect(check(conf, { team }), team).toMatchObject({ status: 403 })
    expect(check(conf, {})).toMatchObject({ status: 403, body: '{"message":"The consumer is forbidden."}\n' })
  })

  test('deny comes first; own status and text; nobody', () => {
    const conf = { allow_labels: { team: ['a'] }, deny_labels: { role: ['x'] }, rejected_code: 451, rejected_msg: 'no' }
    expect(check(conf, { team: 'a' })).toBeUndefined()
    expect(check(conf, { team: 'a', role: 'x' })).toMatchObject({ status: 451, body: '{"message":"no"}\n' })
    expect(access(acl, conf, {}).reply).toMatchObject({ status: 401, body: '{"message":"Missing authentication."}\n' })
  })
})

test('acl: one shape, one list, nothing that is not there', () => {
  expect(problemsOf(acl, { allow: ['a'], deny: ['b'] }).join()).toContain('only one of allow and deny')
  expect(problemsOf(acl, {}).join()).toContain('is required')
  expect(problemsOf(acl, { allow: [], deny: [] }).join()).toContain('is required')
  expect(problemsOf(acl, { allow: ['a'], deny_labels: { a: ['b'] } }).join()).toContain('different shapes')
  expect(problemsOf(acl, { rejected_code: 403 }).join()).toContain('allow_labels, deny_labels')
  expect(problemsOf(acl, { allow: ['a'], always_use_authenticated_groups: true }).join()).toContain('expected false')
  expect(problemsOf(acl, { allow: ['a'], deny: null, always_use_authenticated_groups: false })).toEqual([])
})

test('attach-consumer-label sends labels, and removes what a client says of itself', () => {
  const conf = { headers: { 'X-Dept': '$department', 'X-Role': '$role' } }
  const spoofed = { headers: { 'x-dept': 'ceo', 'X-Role': 'root' } }
  const known = access(attachConsumerLabel, conf, { ...spoofed, ...as({ labels: { department: 'sales\r\nX: y' } }) }).exchange
  expect(known.requestHeaders.getAll('x-dept')).toEqual(['sales%0D%0AX: y'])
  expect(known.requestHeaders.has('x-role')).toBe(false)
  const nobody = access(attachConsumerLabel, conf, spoofed).exchange
  expect(nobody.requestHeaders.has('x-dept') || nobody.requestHeaders.has('x-role')).toBe(false)
  expect(problemsOf(attachConsumerLabel, { headers: { 'X-A': 'department' } })).not.toEqual([])
  expect(problemsOf(attachConsumerLabel, { headers: { 'Content-Length': '$a' } }).join()).toContain('framing')
})
