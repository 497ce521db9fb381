/** What the strict listener reads before and beside the parsers of Node: first bytes, targets, header lines, answer blocks. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readAnswerBlock } from '../../src/dataplane/listener/node-answer-block.js'
import { judgeFirstBytes } from '../../src/dataplane/listener/node-first-bytes.js'
import { failureOfParser } from '../../src/dataplane/listener/node-refusal.js'
import { NodeRequest } from '../../src/dataplane/listener/node-request.js'

const SEED = 20_261_123
const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'

function linesOf(request: NodeRequest): string[] {
  const lines: string[] = []
  request.forEachHeader((name, value) => lines.push(`${name}: ${value}`))
  return lines
}

describe('first bytes', () => {
  const judge = (text: string, http2 = false): string => judgeFirstBytes(Buffer.from(text, 'latin1'), http2)

  test.each([
    ['', 'incomplete'],
    ['GE', 'incomplete'],
    ['GET', 'incomplete'],
    ['GET ', 'incomplete'],
    ['GET /', 'http1'],
    ['M-SEARCH *', 'http1'],
    ['PROPFIND /', 'http1'],
    ['GET  /', 'refused'],
    ['GET\t/', 'refused'],
    [' GET /', 'refused'],
    ['\r\nGET /', 'refused'],
    ['\x16\x03\x01', 'refused'],
    ['"GET" /', 'refused'],
    ['X'.repeat(65), 'refused'],
  ])('%j is %s, with and without HTTP/2', (text, kind) => {
    expect(judge(text)).toBe(kind)
    expect(judge(text, true)).toBe(kind)
  })

  test('the preface of HTTP/2 is recognised where it is welcome, however it is cut', () => {
    for (let length = 0; length < PREFACE.length; length++) expect(judge(PREFACE.slice(0, length), true)).toBe('incomplete')
    expect(judge(PREFACE, true)).toBe('http2')
    expect(judge(`${PREFACE}more`, true)).toBe('http2')
    expect(judge(PREFACE)).toBe('http1')
    expect(judge(PREFACE.replace('SM', 'XX'), true)).toBe('http1')
  })

  test(`a verdict never changes with more bytes (seed ${SEED})`, () => {
    const bytes = fc.array(fc.constantFrom('G', 'E', 'T', ' ', '/', '\r', '\n', 'P', 'R', 'I', '*', '\0'), { maxLength: 20 })
    fc.assert(
      fc.property(bytes, fc.boolean(), (parts, http2) => {
        let earlier = 'incomplete'
        for (let length = 0; length <= parts.length; length++) {
          const kind = judge(parts.slice(0, length).join(''), http2)
          if (earlier !== 'incomplete') expect(kind).toBe(earlier)
          earlier = kind
        }
      }),
      { seed: SEED },
    )
  })
})

describe('HTTP/1 requests', () => {
  const read = (target: string, lines: string[], version = '1.1', method = 'GET'): NodeRequest =>
    NodeRequest.http1(method, target, version, lines, '127.0.0.1:9080')

  test('every line is there, in order, repeated ones too, names in lower case, values as UTF-8', () => {
    const lines = ['Host', 'a', 'X-A', '1', 'x-a', '2', 'X-Utf', 'caf\xc3\xa9', 'X-Latin', '\xe9']
    expect(linesOf(read('/', lines))).toEqual(['host: a', 'x-a: 1', 'x-a: 2', 'x-utf: café', 'x-latin: \ufffd'])
  })

  test.each([
    ['/a?b=c?d', '/a', 'b=c?d', undefined],
    ['http://a.test/x?y', '/x', 'y', undefined],
    ['HTTPS://A.TEST', '/', '', undefined],
    ['http://a.test?q', '/', 'q', undefined],
    ['http://b.test/x', '/x', '', 'BAD_HOST'],
    ['http:///x', '/x', '', 'BAD_HOST'],
    ['ftp://a.test/x', 'ftp://a.test/x', '', undefined],
    ['*', '*', '', undefined],
  ])('target %s', (target, path, query, code) => {
    const request = read(target, ['Host', 'a.test'])
    expect([request.getUrl(), request.getQuery(), request.refusal()?.code]).toEqual([path, query, code])
  })

  test('OPTIONS of a whole server in absolute form is OPTIONS *', () => {
    expect(read('http://a.test', ['Host', 'a.test'], '1.1', 'OPTIONS').getUrl()).toBe('*')
    expect(read('http://a.test/', ['Host', 'a.test'], '1.1', 'OPTIONS').getUrl()).toBe('/')
  })

  test('versions', () => {
    expect(linesOf(read('/', [], '1.0'))).toEqual(['host: 127.0.0.1:9080'])
    expect(linesOf(read('/', ['Host', ''], '1.0'))).toEqual(['host: '])
    expect(linesOf(read('/', [], '1.1'))).toEqual([])
    expect(read('/', ['Host', 'a', 'Transfer-Encoding', 'chunked'], '1.0').refusal()?.code).toBe('BAD_FRAMING')
    for (const version of ['0.9', '1.2', '2.0']) expect(read('/', ['Host', 'a'], version).refusal()?.status).toBe(505)
  })
})

describe('HTTP/2 requests', () => {
  const read = (lines: string[], hasBody = false): NodeRequest =>
    NodeRequest.http2([':method', 'POST', ':path', '/p?q', ':authority', 'a.test', ...lines], hasBody)

  test(':authority is Host, crumbs are one cookie, a body without a length is chunked', () => {
    const request = read(['cookie', 'a=1', 'x-a', '1', 'cookie', 'b=2'], true)
    expect([request.getCaseSensitiveMethod(), request.getUrl(), request.getQuery()]).toEqual(['POST', '/p', 'q'])
    expect(linesOf(request)).toEqual(['x-a: 1', 'cookie: a=1; b=2', 'host: a.test', 'transfer-encoding: chunked'])
    expect(linesOf(read(['content-length', '5'], true))).toEqual(['content-length: 5', 'host: a.test'])
  })

  test.each([
    [['host', 'A.TEST'], false, undefined],
    [['host', 'b.test'], false, 'BAD_HOST'],
    [['content-length', '5'], false, 'BAD_FRAMING'],
    [['content-length', '0'], false, undefined],
  ] as const)('%j, body %s', (lines, hasBody, code) => {
    expect(read([...lines], hasBody).refusal()?.code).toBe(code)
  })

  test('without any authority there is an empty Host, which the guard refuses', () => {
    expect(linesOf(NodeRequest.http2([':method', 'GET', ':path', '/'], false))).toEqual(['host: '])
  })
})

describe('answers', () => {
  test('a block is taken apart, as text and as bytes', () => {
    const block = '200 Very OK\r\nX-A:  1 \r\nSet-Cookie: a=b: c\r\nset-cookie: \xe9\xa0\r\nX-Empty:'
    const expected = {
      status: 200,
      reason: 'Very OK',
      fields: ['X-A', '1', 'Set-Cookie', 'a=b: c', 'set-cookie', '\xe9\xa0', 'X-Empty', ''],
    }
    const bytes = Buffer.from(block, 'latin1')
    expect(readAnswerBlock(block)).toEqual(expected)
    expect(readAnswerBlock(bytes)).toEqual(expected)
    expect(readAnswerBlock(new Uint8Array(bytes).buffer)).toEqual(expected)
    expect(readAnswerBlock('204')).toEqual({ status: 204, reason: '', fields: [] })
  })

  const parserError = (code: string, packet = ''): Error =>
    Object.assign(new Error(code), { code, rawPacket: Buffer.from(packet, 'latin1') })

  test.each([
    [parserError('HPE_HEADER_OVERFLOW'), 431],
    [parserError('ERR_HTTP_REQUEST_TIMEOUT'), 408],
    [parserError('HPE_INVALID_URL'), 400],
    [parserError('HPE_INVALID_VERSION'), 505],
    [parserError('HPE_INVALID_CONTENT_LENGTH'), 400],
    [parserError('HPE_INVALID_METHOD', 'BREW /pot HTTP/1.1\r\n'), 501],
    [parserError('HPE_INVALID_METHOD', '\0\0'), 400],
    [new Error('something else'), 400],
    [parserError('HPE_INVALID_EOF_STATE'), undefined],
    [parserError('ECONNRESET'), undefined],
  ])('%s is %s', (error, status) => {
    expect(failureOfParser(error)?.status).toBe(status)
  })
})
