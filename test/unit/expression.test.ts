import { describe, expect, test } from 'vitest'
import { compileExpression } from '../../src/dataplane/vars/expression.js'
import { compileVariable } from '../../src/dataplane/vars/variables.js'
import type { Json } from '../../src/schema/compiled.js'
import { expressionProblem } from '../../src/schema/expression.js'
import { type FakeRequest, fakeExchange } from '../support/fake-exchange.js'

function holds(vars: Json, request: FakeRequest = {}): boolean {
  return compileExpression(vars)(fakeExchange(request))
}

describe('operators', () => {
  const request: FakeRequest = {
    target: '/a?n=10&s=abc&e=&tag=x&tag=y&enc=a%2Bb+c&k%65y=v',
    headers: { 'X-Ip': '10.1.2.3', Cookie: 'a=1; session=s%201', 'X-Multi': ['one', 'two'] },
    clientAddress: '2001:db8::5',
  }

  test.each<[Json, boolean]>([
    [['arg_s', '==', 'abc'], true],
    [['arg_s', 'abc'], true],
    [['arg_s', '==', 'abd'], false],
    [['arg_n', '==', 10], true],
    [['arg_n', '==', 10.5], false],
    [['arg_n', '==', '10.0'], false],
    [['arg_s', '==', 10], false],
    [['arg_s', '~=', 10], true],
    [['arg_n', '~=', 10], false],
    [['arg_none', '==', 'x'], false],
    [['arg_none', '~=', 'x'], true],
    [['arg_none', '==', null], true],
    [['arg_none', '~=', null], false],
    [['arg_e', '==', null], false],
    [['arg_e', '==', ''], true],
    [['arg_n', '>', 9], true],
    [['arg_n', '>', 10], false],
    [['arg_n', '>=', 10], true],
    [['arg_n', '<', 11], true],
    [['arg_n', '<=', 9], false],
    [['arg_s', '>', 1], false],
    [['arg_s', '<', 1], false],
    [['arg_none', '<', 1], false],
    [['arg_s', '>', 'abb'], true],
    [['arg_s', '~~', '^a.c$'], true],
    [['arg_s', '~~', '^A'], false],
    [['arg_s', '~*', '^A'], true],
    [['arg_none', '~~', '.*'], false],
    [['arg_s', 'in', ['x', 'abc']], true],
    [['arg_n', 'in', [10]], false],
    [['arg_n', 'IN', ['10']], true],
    [['arg_tag', 'has', 'y'], true],
    [['arg_tag', 'has', 'z'], false],
    [['http_x_multi', 'has', 'two'], true],
    [['request_method', 'has', 'GET'], false],
    [['remote_addr', 'ipmatch', ['2001:db8::/32']], true],
    [['http_x_ip', 'IPMATCH', ['10.0.0.0/8', '::1']], true],
    [['http_x_ip', 'ipmatch', '11.0.0.0/8'], false],
    [['arg_s', '!', '==', 'abc'], false],
    [['arg_s', '!', 'in', ['x']], true],
    [['arg_enc', '==', 'a+b c'], true],
    [['arg_key', '==', 'v'], true],
    [['arg_tag', '==', 'x'], true],
    [['cookie_session', '==', 's%201'], true],
    [['http_x_multi', '==', 'one, two'], true],
  ])('%j is %s', (condition, expected) => {
    expect(holds([condition], request)).toBe(expected)
  })
})

describe('groups', () => {
  const yes: Json = ['request_method', '==', 'GET']
  const no: Json = ['request_method', '==', 'PUT']

  test.each<[Json, boolean]>([
    [[], true],
    [[yes, no], false],
    [['AND', yes, yes], true],
    [['OR', no, yes], true],
    [['or', no, no], false],
    [['!AND', yes, no], true],
    [['!OR', no, no], true],
    [['!OR', no, yes], false],
    [[['OR', no, yes], yes], true],
    [['OR', ['AND', yes, no], ['!AND', yes, no]], true],
    [[[yes, no]], false],
  ])('%j is %s', (vars, expected) => {
    expect(holds(vars)).toBe(expected)
  })
})

describe('problems', () => {
  test.each<[Json, string]>([
    [[['arg_x', 'xx', '1']], "failed to validate the 'vars' expression: invalid operator 'xx'"],
    [[['arg_x', '!', 'xx', '1']], "invalid operator 'xx'"],
    [[['arg_x', '~~', '(']], 'unclosed ('],
    [[['arg_x', 'in', 'a']], 'expected a list'],
    [[['arg_x', 'ipmatch', ['300.1.1.1']]], 'is not an address'],
    [[['arg_x', '>', null]], 'expected a string or a number'],
    [[['arg_x', '==', ['a']]], 'expected a string or a number'],
    [[['arg_x']], 'a condition is'],
    [[['arg_x', '==', 'a', 'b']], 'a condition is'],
    [[[1, '==', 'a']], 'starts with the name'],
    [['arg_x', '==', 'a'], 'wrapped inside brackets'],
    [['OR'], 'no conditions'],
    ['x', 'expected a list of conditions'],
    [['x'], 'wrapped inside brackets'],
    [[['post_arg_a', '==', 'b']], 'not supported yet'],
    [[['graphql_name', '==', 'b']], 'not supported yet'],
  ])('%j', (vars, problem) => {
    expect(expressionProblem(vars)).toContain(problem)
    expect(() => compileExpression(vars)).toThrow(problem)
  })

  test('a deep nest is refused, not followed', () => {
    let vars: Json = [['arg_x', '==', '1']]
    for (let depth = 0; depth < 10_000; depth++) vars = ['AND', vars]
    expect(expressionProblem(vars)).toContain('nested deeper')
  })
})

describe('variables', () => {
  test('of the request', () => {
    const exchange = fakeExchange({
      target: '/a%20b/c?x=1',
      host: 'Api.test:8080',
      headers: { 'Content-Type': 'text/plain' },
      clientPort: 4711,
      route: { id: 'r1', serviceId: 's1', uris: ['/x', '/a b/*'], hosts: ['*.test', 'api.test'] },
      uriParams: { id: '9' },
      consumerName: 'jack',
      requestId: 'q1',
    })
    const names = [
      'uri',
      'request_uri',
      'args',
      'host',
      'http_host',
      'remote_port',
      'content_type',
      'route_id',
      'service_id',
      'matched_uri',
      'matched_host',
    ]
    expect(names.map((name) => compileVariable(name)(exchange))).toEqual([
      '/a b/c',
      '/a%20b/c?x=1',
      'x=1',
      'api.test',
      'Api.test:8080',
      '4711',
      'text/plain',
      'r1',
      's1',
      '/a b/*',
      'api.test',
    ])
    expect(compileVariable('uri_param_id')(exchange)).toBe('9')
    expect(compileVariable('consumer_name')(exchange)).toBe('jack')
    expect(compileVariable('apisix_request_id')(exchange)).toBe('q1')
    expect(compileVariable('nothing_known')(exchange)).toBeUndefined()
    exchange.upstreamPath = '/new%2Fpath%20x'
    exchange.upstreamQuery = ''
    expect(compileVariable('uri')(exchange)).toBe('/new%2Fpath x')
    expect(compileVariable('request_uri')(exchange)).toBe('/new%2Fpath%20x')
    expect(compileVariable('real_request_uri')(exchange)).toBe('/a%20b/c?x=1')
  })

  test('of the response', () => {
    const exchange = fakeExchange({})
    exchange.respond({ status: 404, headers: { 'X-Cache': 'HIT' } })
    exchange.upstreamAddress = '[::1]:1980'
    exchange.upstreamStatus = '502, 404'
    exchange.upstreamResponseMs = 12
    const read = (name: string) => compileVariable(name)(exchange)
    expect(
      [
        'status',
        'sent_http_x_cache',
        'upstream_http_x_cache',
        'balancer_ip',
        'balancer_port',
        'upstream_status',
        'upstream_response_time',
      ].map(read),
    ).toEqual(['404', 'HIT', 'HIT', '::1', '1980', '502, 404', '0.012'])
  })
})
