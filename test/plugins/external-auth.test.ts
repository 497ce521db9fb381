/** forward-auth and opa, with a real service behind a socket. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { forwardAuth } from '../../src/plugins/forward-auth.js'
import { opa } from '../../src/plugins/opa.js'
import type { AnyPlugin, Json, Reply, RouteInfo } from '../../src/plugins/plugin.js'
import { type DecisionServer, decisionServer } from '../support/decision-server.js'
import { type FakeExchange, type FakeRequest, fakeExchange } from '../support/fake-exchange.js'
import { fakeConsumer, linkKit, linkPlugin } from '../support/link-kit.js'
import { problemsOf } from './configured.js'

let service: DecisionServer
let logged: readonly string[] = []
beforeEach(async () => {
  service = await decisionServer()
})
afterEach(() => service.close())

const route: RouteInfo = { id: 'r1', name: 'one', serviceId: 's1', serviceName: 'svc', labels: { a: 'b' }, uris: ['/a'], hosts: [] }

async function run(
  plugin: AnyPlugin,
  conf: { [name: string]: Json },
  request: FakeRequest = {},
): Promise<{ exchange: FakeExchange; reply: Reply | undefined }> {
  const kit = linkKit(route)
  kit.consumers.add({ username: 'jack' })
  logged = kit.logged
  const instance = linkPlugin(plugin, conf, kit)
  const exchange = fakeExchange({ route, ...request })
  const reply = (await instance.rewrite?.(exchange)) ?? (await instance.access?.(exchange)) ?? undefined
  return { exchange, reply }
}

const last = () => service.questions.at(-1)
const text = (reply: Reply | undefined) => Buffer.from(reply?.body ?? '').toString('utf8')

describe('forward-auth', () => {
  const ask = (conf: { [name: string]: Json }, request: FakeRequest = {}) =>
    run(forwardAuth, { uri: `${service.origin}/check?x=1`, ...conf }, request)

  test('asks with what the client asked for, and no more than was configured', async () => {
    await ask(
      {
        request_headers: ['Authorization', 'X-Absent', 'X-Forwarded-Uri', 'X-Twice'],
        extra_headers: { 'X-Route': '$route_id', 'X-Number': 7, 'X-Forwarded-Host': 'fixed', 'X-Bad': 'a$arg_q' },
      },
      {
        method: 'DELETE',
        scheme: 'https',
        host: 'api.test:8443',
        target: '/a%20b%2fc?q=1%0d%0aX-Split:%201',
        clientAddress: '192.0.2.7',
        headers: {
          Authorization: 'Bearer ü',
          Cookie: 'secret',
          'X-Forwarded-Uri': '/spoofed',
          'X-Twice': ['1', '2'],
          'Content-Encoding': 'gzip',
        },
      },
    )
    expect(last()).toMatchObject({ method: 'GET', url: '/check?x=1', body: '' })
    const headers = last()?.headers ?? {}
    expect(headers).toMatchObject({
      'x-forwarded-proto': 'https',
      'x-forwarded-method': 'DELETE',
      'x-forwarded-host': 'fixed',
      'x-forwarded-uri': '/a%20b%2Fc?q=1%0d%0aX-Split:%201',
      'x-forwarded-for': '192.0.2.7',
      'x-route': 'r1',
      'x-number': '7',
      'x-bad': 'a1%0D%0AX-Split: 1',
      'x-twice': '1, 2',
    })
    expect(Buffer.from(headers.authorization ?? '', 'latin1').toString('utf8')).toBe('Bearer ü')
    for (const name of ['cookie', 'x-absent', 'x-split', 'content-encoding']) expect(headers, name).not.toHaveProperty(name)
  })

  test('with POST the body goes with it, and stays for the upstream', async () => {
    const { exchange, reply } = await ask(
      { request_method: 'POST', max_req_body_size: 5 },
      { method: 'PUT', requestBody: 'hello', headers: { 'Content-Encoding': 'x' } },
    )
    expect(reply).toBeUndefined()
    expect(last()).toMatchObject({ method: 'POST', body: 'hello' })
    expect(last()?.headers).toMatchObject({ 'content-encoding': 'x', 'content-length': '5' })
    expect(exchange.requestBody.toString()).toBe('hello')
    const long = await ask({ request_method: 'POST', max_req_body_size: 5 }, { requestBody: 'hello!' })
    expect(long.reply?.status).toBe(413)
    expect(service.questions).toHaveLength(1)
  })

  test('fields of the body in extra headers', async () => {
    const conf = { extra_headers: { 'X-A': '$post_arg.a', 'X-B': '$post_arg.b.c', 'X-C': '$post_arg.constructor' } }
    await ask(conf, { requestBody: 'a=1%0a2&b.c=x', headers: { 'Content-Type': 'application/x-www-form-urlencoded' } })
    expect(last()).toMatchObject({ method: 'GET', body: '', headers: { 'x-a': '1%0A2', 'x-b': 'x' } })
    expect(last()?.headers).not.toHaveProperty('x-c')
    await ask(conf, { requestBody: '{"a":7,"b":{"c":true}}', headers: { 'Content-Type': 'application/json' } })
    expect(last()?.headers).toMatchObject({ 'x-a': '7', 'x-b': 'true' })
    await ask(conf, { requestBody: '{"a":7', headers: { 'Content-Type': 'application/json' } })
    expect(last()?.headers).not.toHaveProperty('x-a')
  })

  test('a good answer: its headers go to the upstream, those of the client never', async () => {
    service.answer = (_question, response) => response.writeHead(204, { 'X-User': 'jack', 'X-Other': '1' }).end()
    const conf = { upstream_headers: ['X-User', 'X-Role'] }
    const spoofed = { headers: { 'x-user': 'root', 'X-Role': 'admin' } }
    const { exchange, reply } = await ask(conf, spoofed)
    expect(reply).toBeUndefined()
    expect(exchange.requestHeaders.getAll('x-user')).toEqual(['jack'])
    expect(exchange.requestHeaders.has('x-role') || exchange.requestHeaders.has('x-other')).toBe(false)
    service.answer = (_question, response) => response.destroy()
    const degraded = await ask({ ...conf, allow_degradation: true }, spoofed)
    expect(degraded.reply).toBeUndefined()
    expect(degraded.exchange.requestHeaders.has('x-user') || degraded.exchange.requestHeaders.has('x-role')).toBe(false)
  })

  test('a refusal is the answer of the client, with the headers that it may see', async () => {
    service.answer = (_question, response) =>
      response.writeHead(302, { Location: 'https://login.test/', 'Set-Cookie': ['a=1', 'b=2'], 'X-Internal': '1' }).end('go there')
    const { reply } = await ask({ client_headers: ['Location', 'Set-Cookie', 'X-Absent'] })
    expect(reply).toMatchObject({
      status: 302,
      headers: [
        ['Location', 'https://login.test/'],
        ['Set-Cookie', 'a=1'],
        ['Set-Cookie', 'b=2'],
      ],
    })
    expect(text(reply)).toBe('go there')
  })

  test('no answer: status_on_error, said in the log without what was asked', async () => {
    service.answer = () => {}
    const { reply } = await ask(
      { timeout: 50, status_on_error: 503, request_headers: ['Authorization'] },
      { headers: { Authorization: 'Bearer topsecret' } },
    )
    expect(reply).toEqual({ status: 503 })
    expect(logged.join()).toContain('did not answer within 50 ms')
    expect(logged.join()).not.toContain('topsecret')
    service.answer = (_question, response) => response.end('x'.repeat(2_000_000))
    expect((await ask({})).reply).toEqual({ status: 403 })
    expect(logged.join()).toContain('longer than')
  })

  test('consumer_header names who calls', async () => {
    service.answer = (_question, response) => response.writeHead(200, { 'X-Who': 'jack' }).end()
    const known = await ask({ consumer_header: 'X-Who' }, { headers: { 'X-Consumer-Username': 'root' } })
    expect(known.exchange.consumerName).toBe('jack')
    expect(known.exchange.requestHeaders.getAll('x-consumer-username')).toEqual(['jack'])
    service.answer = (_question, response) => response.writeHead(200, { 'X-Who': 'ghost' }).end()
    expect(await ask({ consumer_header: 'X-Who' })).toMatchObject({ reply: { status: 403, body: '{"message":"consumer not found"}\n' } })
    service.answer = (_question, response) => response.end()
    expect((await ask({ consumer_header: 'X-Who' })).reply).toMatchObject({
      status: 403,
      body: '{"message":"consumer header missing in auth response"}\n',
    })
  })

  test('bad options', () => {
    const problems = (conf: { [name: string]: Json }) => problemsOf(forwardAuth, { uri: 'https://a.test/', ...conf }).join()
    expect(problems({})).toBe('')
    expect(problems({ uri: 'a.test' })).toContain('is no address')
    expect(problems({ uri: 'ftp://a.test' })).toContain('is no address')
    expect(problems({ uri: 'https://u:p@a.test' })).toContain('user names and passwords')
    expect(problems({ uri: 'https://a.test/#x' })).toContain('from # on')
    expect(problems({ uri: 'http://a.test/' })).toContain('without TLS')
    expect(problems({ uri: 'http://127.0.0.1/' })).toBe('')
    expect(problems({ request_headers: ['a b'] })).toContain('request_headers.0')
    expect(problems({ upstream_headers: ['Transfer-Encoding'] })).toContain('upstream_headers.0')
    expect(problems({ client_headers: ['ok', 'Content-Length'] })).toContain('client_headers.1')
    expect(problems({ extra_headers: { 'X-A': 'a $post_arg.a' } })).toContain('as the whole value')
    expect(problems({ extra_headers: { 'X-A': '$post_arg_a', 'X-B': '$post_arg.a.b' } })).toBe('')
    expect(problems({ request_method: 'PUT' })).not.toBe('')
  })
})

describe('opa', () => {
  const ask = (conf: { [name: string]: Json }, request: FakeRequest = {}) =>
    run(opa, { host: `${service.origin}/`, policy: 'example/allow', ...conf }, request)
  const decide = (result: Json) => {
    service.answer = (_question, response) => response.end(JSON.stringify({ result }))
  }

  test('asks with the request, and with what else was configured', async () => {
    decide({ allow: true })
    const request: FakeRequest = {
      method: 'POST',
      host: 'api.test:9080',
      target: '/a%20b?x=1&x=2&y&z=%C3%BC&e=',
      headers: { 'X-One': '1', 'X-Two': ['a', 'b'] },
      clientAddress: '192.0.2.7',
      requestBody: '{"ü":1}',
      consumer: fakeConsumer({ username: 'jack', labels: { team: 'x' }, groupId: 'g' }),
    }
    expect((await ask({}, request)).reply).toBeUndefined()
    expect(last()).toMatchObject({ method: 'POST', url: '/v1/data/example/allow' })
    expect(JSON.parse(last()?.body ?? '')).toEqual({
      input: {
        type: 'http',
        request: {
          scheme: 'http',
          method: 'POST',
          host: 'api.test',
          port: 9080,
          path: '/a b',
          headers: { host: 'api.test:9080', 'x-one': '1', 'x-two': ['a', 'b'], 'x-consumer-username': 'jack' },
          query: { x: ['1', '2'], y: true, z: 'ü', e: '' },
        },
        var: { server_addr: '', server_port: '9080', remote_addr: '192.0.2.7', remote_port: '50000', timestamp: 1_700_000_000 },
      },
    })
    await ask({ with_route: true, with_service: true, with_consumer: true, with_body: true }, request)
    expect(JSON.parse(last()?.body ?? '').input).toMatchObject({
      route: { id: 'r1', name: 'one', labels: { a: 'b' }, uris: ['/a'], hosts: [], service_id: 's1' },
      service: { id: 's1', name: 'svc' },
      consumer: { username: 'jack', group_id: 'g', labels: { team: 'x' } },
      request: { body: '{"ü":1}' },
    })
    expect((await ask({ with_body: true, max_req_body_size: 3 }, request)).reply?.status).toBe(413)
  })

  test.each<[string, Json, number, string]>([
    ['refused', { allow: false }, 403, ''],
    [
      'refused with a reason',
      { allow: false, reason: 'no', status_code: 401, headers: { 'X-Why': 'a\r\nb', 'Content-Length': '3' } },
      401,
      'no',
    ],
    ['refused with an object', { allow: false, reason: { code: 1 } }, 403, '{"code":1}'],
    ['a status that is none', { allow: false, status_code: 99 }, 403, ''],
    ['no allow', {}, 403, ''],
    ['allow that is not true', { allow: 'true' }, 403, ''],
    ['no object', true, 503, ''],
    ['nothing', null, 503, ''],
  ])('%s', async (_name, result, status, body) => {
    decide(result)
    const { reply } = await ask({})
    expect(reply?.status).toBe(status)
    expect(text(reply)).toBe(body)
    if (body === 'no') expect(reply?.headers).toEqual([['X-Why', 'a%0D%0Ab']])
  })

  test('an answer that is no JSON, and no answer', async () => {
    service.answer = (_question, response) => response.end('<html>')
    expect((await ask({})).reply).toEqual({ status: 503 })
    service.answer = (_question, response) => response.destroy()
    expect((await ask({})).reply).toEqual({ status: 403 })
    expect(logged.join()).toContain('could not be asked')
  })

  test('headers of the decision go to the upstream, those of the client never', async () => {
    decide({ allow: true, headers: { 'x-user': 'jack', 'X-Other': '1', 'X-N': 7 } })
    const { exchange } = await ask(
      { send_headers_upstream: ['X-User', 'X-Role', 'X-N'] },
      { headers: { 'X-User': 'root', 'X-Role': 'admin' } },
    )
    expect(exchange.requestHeaders.getAll('x-user')).toEqual(['jack'])
    expect(exchange.requestHeaders.get('x-n')).toBe('7')
    expect(exchange.requestHeaders.has('x-role') || exchange.requestHeaders.has('x-other')).toBe(false)
  })

  test('bad options', () => {
    const problems = (conf: { [name: string]: Json }) => problemsOf(opa, { host: 'https://a.test', policy: 'p', ...conf }).join()
    expect(problems({})).toBe('')
    expect(problems({ host: 'a.test:8181' })).toContain('is no address')
    expect(problems({ policy: 'a b' })).not.toBe('')
    expect(problems({ send_headers_upstream: ['Connection'] })).toContain('send_headers_upstream.0')
  })
})
