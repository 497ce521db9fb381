/** What the writer puts on the wire for whole answers and replies, through a client that records; and the replies themselves. */
import { describe, expect, test } from 'vitest'
import { failures } from '../../../src/base/errors.js'
import type { Exchange } from '../../../src/dataplane/exchange.js'
import { gatewayReply, requestIdOf } from '../../../src/dataplane/response/reply.js'
import { ResponseWriter } from '../../../src/dataplane/response/writer.js'
import { parseResponseHead } from '../../../src/dataplane/upstream/response-head.js'
import type { PluginInstance, Reply } from '../../../src/plugins/plugin.js'
import { exchangeOf, RecordingClient, type RequestParts, routeWith } from './parts.js'

function bed(instances: readonly PluginInstance[] = [], parts: RequestParts = {}) {
  const client = new RecordingClient()
  const exchange = exchangeOf(parts, client)
  exchange.linked = routeWith(instances)
  const writer = new ResponseWriter(1000)
  const events: string[] = []
  const endings: string[] = []
  writer.events = {
    ending: (ended) => endings.push(`${ended.bodyBytesSent} ${client.body.length}`),
    completed: () => events.push('completed'),
    abortClient: () => events.push('abortClient'),
    cancelUpstream: () => events.push('cancelUpstream'),
    pluginFailed: (_, phase, error) => events.push(`pluginFailed ${phase} ${error instanceof Error ? error.message : ''}`),
    responseTooLarge: () => events.push('responseTooLarge'),
  }
  return { client, exchange, writer, events, endings }
}

/** An upstream's whole answer through the writer. */
function answer(text: string, instances: readonly PluginInstance[] = [], parts: RequestParts = {}) {
  const { client, exchange, writer, events, endings } = bed(instances, parts)
  const bytes = Buffer.from(text, 'latin1')
  const bodyStart = text.indexOf('\r\n\r\n') + 4
  const head = parseResponseHead(bytes, 0, bodyStart)
  if (typeof head === 'string') throw new Error(head)
  exchange.response.status = head.status
  exchange.response.source = 'upstream'
  writer.whole(exchange, head, bytes, bodyStart, bytes.length)
  return { client, events, endings }
}

function reply(exchange: Exchange, writer: ResponseWriter, source: Reply): void {
  writer.reply(exchange, gatewayReply(exchange, source))
}

const filter = (headerFilter: (exchange: Parameters<NonNullable<PluginInstance['headerFilter']>>[0]) => void): PluginInstance => ({
  headerFilter,
})
const UPSTREAM = 'HTTP/1.1 200 Fine\r\nX-A: caf\xe9\r\nContent-Length: 5\r\nx-b:1\r\n\r\nhello'

describe('answers of an upstream', () => {
  test('pass as the bytes they came in when nothing filters them', () => {
    const { client, events } = answer(UPSTREAM)
    expect(client.block).toBe('200 Fine\r\nX-A: caf\xe9\r\nx-b:1')
    expect(client.body.toString()).toBe('hello')
    expect(events).toEqual(['completed'])
  })

  test('are said to end once, before the client has any of their last bytes', () => {
    expect(answer(UPSTREAM).endings).toEqual(['5 0'])
    const replied = bed()
    reply(replied.exchange, replied.writer, { status: 429, body: 'wait' })
    expect(replied.endings).toEqual(['4 0'])
  })

  test('keep bytes beyond ASCII when a plugin adds text beyond Latin-1', () => {
    const { client } = answer(UPSTREAM, [filter((exchange) => exchange.response.headers.set('X-City', '東京'))])
    const lines = client.block.split('\r\n')
    expect(lines).toContain('X-A: caf\xe9')
    const city = lines.find((line) => line.startsWith('X-City: ')) ?? ''
    expect(Buffer.from(city, 'latin1').toString('utf8')).toBe('X-City: 東京')
  })

  test.each(['a\r\nevil: 1', 'a\nb', 'a\rb', 'a\0b', 'a\u010Aevil: 1', 'a\u0001\u007fb'])('a value %j stays one field', (value) => {
    const { client } = answer(UPSTREAM, [filter((exchange) => exchange.response.headers.set('X-Mark', value))])
    const lines = client.block.split('\r\n')
    expect(lines).toHaveLength(4)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they must not be there
    expect(client.block.replaceAll('\r\n', '')).not.toMatch(/[\x00-\x08\x0a-\x1f\x7f]/)
    expect(lines.filter((line) => line.startsWith('X-Mark: a'))).toHaveLength(1)
  })

  test.each(['a b', 'a:b', 'a\r\nevil', '', 'é', '\u010A'])('a field named %j is left out', (name) => {
    const { client } = answer(UPSTREAM, [filter((exchange) => exchange.response.headers.set(name, 'x'))])
    expect(client.block).toBe('200 OK\r\nX-A: caf\xe9\r\nx-b: 1')
  })

  test.each(['Content-Length', 'Transfer-Encoding', 'Connection', 'Keep-Alive', 'Date'])('%s cannot be set', (name) => {
    const { client } = answer(UPSTREAM, [filter((exchange) => exchange.response.headers.set(name, '1'))])
    expect(client.block).toBe('200 OK\r\nX-A: caf\xe9\r\nx-b: 1')
  })

  test('a replaced body goes out with its own length', () => {
    const { client, events } = answer(UPSTREAM, [filter((exchange) => exchange.response.replaceBody('€'))])
    expect(client.body.toString()).toBe('€')
    expect(events).toContain('completed')
  })

  test('a failing filter is reported with its name and nothing is sent', () => {
    const { client, events } = answer(UPSTREAM, [
      filter(() => {
        throw new Error('boom')
      }),
    ])
    expect(events).toEqual(['pluginFailed test-0 boom'])
    expect([client.isEnded, client.block]).toEqual([false, ''])
  })

  test('HEAD announces the length and sends no body; 304 sends neither', () => {
    const head = answer(UPSTREAM.slice(0, UPSTREAM.indexOf('hello')), [], { method: 'HEAD' })
    expect([head.client.announced, head.client.body.length, head.client.isEnded]).toEqual([5, 0, true])
    const notModified = answer('HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n')
    expect([notModified.client.announced, notModified.client.body.length, notModified.client.isEnded]).toEqual([undefined, 0, true])
  })
})

describe('replies', () => {
  test('a failure says its text, reason and request id, and nothing internal', () => {
    const { client, exchange, writer } = bed()
    writer.reply(exchange, gatewayReply(exchange, failures.UPSTREAM_RESET))
    const id = requestIdOf(exchange)
    expect(client.block).toBe(`502 Bad Gateway\r\nContent-Type: application/json\r\nX-Request-Id: ${id}`)
    expect(JSON.parse(client.body.toString())).toEqual({
      error_msg: 'the upstream closed the connection',
      reason: 'UPSTREAM_RESET',
      request_id: id,
    })
    expect(client.body.toString().endsWith('}\n')).toBe(true)
  })

  test('no route has the text that scripts look for', () => {
    expect(gatewayReply(exchangeOf(), failures.NO_ROUTE)).toMatchObject({ status: 404, body: '{"error_msg":"404 Route Not Found"}\n' })
  })

  test('ids are one per request', () => {
    const [first, second] = [exchangeOf(), exchangeOf()]
    expect(requestIdOf(first)).toBe(requestIdOf(first))
    expect(requestIdOf(first)).toMatch(/^[0-9a-f]{28}$/)
    expect(requestIdOf(first)).not.toBe(requestIdOf(second))
    second.requestId = 'given'
    expect(requestIdOf(second)).toBe('given')
  })

  test('bodies are JSON or plain text by how they begin, unless the plugin says otherwise; no body, no type', () => {
    // What goes out: the type that the gateway adds, and the headers of the plugin.
    const type = (source: Reply) => {
      const { headers, contentType } = gatewayReply(exchangeOf(), source)
      const all = contentType === '' ? headers : [['Content-Type', contentType] as const, ...headers]
      return all.filter(([name]) => name.toLowerCase() === 'content-type')
    }
    for (const body of ['{}', '[1]', '"text"', Buffer.from('{}')])
      expect(type({ status: 200, body })).toEqual([['Content-Type', 'application/json']])
    for (const body of ['no', '<p>', ' {}', Buffer.from('no')])
      expect(type({ status: 200, body })).toEqual([['Content-Type', 'text/plain; charset=utf-8']])
    expect(type({ status: 403, body: 'no', headers: [['X', 'y']] })).toEqual([['Content-Type', 'text/plain; charset=utf-8']])
    expect(type({ status: 200, body: 'x', headers: [['content-TYPE', 'text/plain']] })).toEqual([['content-TYPE', 'text/plain']])
    expect(type({ status: 200, body: '', headers: [['X', 'y']] })).toEqual([])
    expect(type({ status: 204 })).toEqual([])
  })

  test('a reply runs through the filters once, also when one of them fails', () => {
    let runs = 0
    const { client, exchange, writer, events } = bed([
      filter((seen) => {
        runs++
        expect(seen.response.source).toBe('gateway')
        throw new Error('boom')
      }),
    ])
    reply(exchange, writer, { status: 200, body: 'x' })
    expect(events).toEqual(['pluginFailed test-0 boom'])
    writer.reply(exchange, gatewayReply(exchange, failures.PLUGIN_FAILED))
    expect(runs).toBe(1)
    expect(client.block.startsWith('500 ')).toBe(true)
    expect(events.at(-1)).toBe('completed')
  })

  test('names and values of a plugin cannot split the head', () => {
    const { client, exchange, writer } = bed()
    reply(exchange, writer, {
      status: 200,
      body: 'x',
      headers: [
        ['X', 'a\r\n\r\n<html>'],
        ['Y\r\nSet-Cookie', 'a'],
      ],
    })
    expect(client.block).toBe('200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nX: a <html>')
  })

  test('HEAD gets the length of the body that GET would get', () => {
    const { client, exchange, writer } = bed([], { method: 'HEAD' })
    reply(exchange, writer, { status: 200, body: '€' })
    expect([client.announced, client.body.length]).toEqual([3, 0])
  })
})
