/** Probes of how the end of a message is found: Content-Length, Transfer-Encoding, chunks, bodies, pipelining. */
import type { Expectation, Probe, ProbeGroup } from './probes.js'

const HOST = 'Host: doctor.sluice.test'
/** What a smuggler wants the upstream to read as a request of its own. */
const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: doctor.sluice.test\r\n\r\n'

function post(fields: readonly string[], body: string): string {
  return `${['POST /probe HTTP/1.1', HOST, ...fields].join('\r\n')}\r\n\r\n${body}`
}

function probe(group: ProbeGroup, name: string, expect: Expectation, bytes: string | readonly string[], smuggling = true): Probe {
  return { name, group, pieces: typeof bytes === 'string' ? [bytes] : bytes, expect, smuggling }
}

function contentLength(name: string, value: string, body = 'abcde'): Probe {
  return probe('content-length', name, 'refuse', post([`Content-Length: ${value}`], body))
}

function transferEncoding(name: string, ...fields: string[]): Probe {
  return probe('transfer-encoding', name, 'refuse', post(fields, `0\r\n\r\n${SMUGGLED}`))
}

/** A chunked body that is wrong from `body` on. */
function badChunks(name: string, body: string): Probe {
  return probe('chunked', name, 'cut', post(['Transfer-Encoding: chunked'], body))
}

function contentLengthProbes(): Probe[] {
  const smuggledBody = `0\r\n\r\n${SMUGGLED}`
  return [
    probe('content-length', 'plain length', 'forward', post(['Content-Length: 5'], 'abcde')),
    probe('content-length', 'zero length', 'forward', post(['Content-Length: 0'], '')),
    probe('content-length', 'leading zeros', 'either', post(['Content-Length: 005'], 'abcde')),
    probe('content-length', 'spaces around the value', 'either', post(['Content-Length: \t 5 \t'], 'abcde')),
    probe('content-length', 'repeated, equal', 'refuse', post(['Content-Length: 5', 'Content-Length: 5'], 'abcde')),
    probe('content-length', 'repeated, 0 then 5', 'refuse', post(['Content-Length: 0', 'Content-Length: 5'], 'abcde')),
    probe('content-length', 'repeated, 5 then 0', 'refuse', post(['Content-Length: 5', 'content-length: 0'], 'abcde')),
    probe('content-length', 'repeated, the first empty', 'refuse', post(['Content-Length:', 'Content-Length: 5'], 'abcde')),
    contentLength('list of equal values', '5, 5'),
    contentLength('list of different values', '0, 5'),
    contentLength('empty', ''),
    contentLength('plus sign', '+5'),
    contentLength('minus sign', '-5'),
    contentLength('minus zero', '-0'),
    contentLength('hexadecimal', '0x5'),
    contentLength('decimal point', '5.0'),
    contentLength('exponent', '5e0'),
    contentLength('underscore', '1_0', 'abcdefghij'),
    contentLength('trailing letter', '5a'),
    contentLength('inner space', '1 0', 'abcdefghij'),
    contentLength('quoted', '"5"'),
    contentLength('semicolon', '5;'),
    contentLength('no-break space', '\xa05'),
    contentLength('superscript digit', '\xb2'),
    contentLength('2^64 + 5', '18446744073709551621'),
    probe('content-length', '2^32 + 5 with leading zeros', 'cut', post(['Content-Length: 00000000004294967301'], 'abcde')),
    contentLength('40 nines', '9'.repeat(40)),
    contentLength('vertical tab before the value', '\x0b5'),
    contentLength('form feed behind the value', '5\x0c'),
    contentLength('NUL behind the value', '5\x00'),
    probe('content-length', 'space before the colon', 'refuse', post(['Content-Length : 5'], 'abcde')),
    probe('content-length', 'tab before the colon', 'refuse', post(['Content-Length\t: 5'], 'abcde')),
    probe('content-length', 'folded', 'refuse', post(['Content-Length:\r\n 5'], 'abcde')),
    probe('content-length', 'with Transfer-Encoding, length first', 'refuse', [
      post(['Content-Length: 6', 'Transfer-Encoding: chunked'], smuggledBody),
    ]),
    probe('content-length', 'with Transfer-Encoding, coding first', 'refuse', [
      post(['Transfer-Encoding: chunked', 'Content-Length: 6'], smuggledBody),
    ]),
    probe('content-length', 'zero with Transfer-Encoding', 'refuse', [
      post(['Content-Length: 0', 'Transfer-Encoding: chunked'], smuggledBody),
    ]),
  ]
}

function transferEncodingProbes(): Probe[] {
  return [
    probe('transfer-encoding', 'chunked', 'forward', post(['Transfer-Encoding: chunked'], '5\r\nabcde\r\n0\r\n\r\n')),
    probe('transfer-encoding', 'CHUNKED (case does not matter)', 'either', post(['TRANSFER-ENCODING: CHUNKED'], '5\r\nabcde\r\n0\r\n\r\n')),
    transferEncoding('chunked twice in a list', 'Transfer-Encoding: chunked, chunked'),
    transferEncoding('chunked in two fields', 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'),
    transferEncoding('identity', 'Transfer-Encoding: identity'),
    transferEncoding('identity, chunked', 'Transfer-Encoding: identity, chunked'),
    transferEncoding('chunked, identity', 'Transfer-Encoding: chunked, identity'),
    transferEncoding('chunked then identity in two fields', 'Transfer-Encoding: chunked', 'Transfer-Encoding: identity'),
    transferEncoding('identity then chunked in two fields', 'Transfer-Encoding: identity', 'Transfer-Encoding: chunked'),
    transferEncoding('gzip, chunked', 'Transfer-Encoding: gzip, chunked'),
    transferEncoding('gzip', 'Transfer-Encoding: gzip'),
    transferEncoding('xchunked', 'Transfer-Encoding: xchunked'),
    transferEncoding('chunkedx', 'Transfer-Encoding: chunkedx'),
    transferEncoding('empty', 'Transfer-Encoding:'),
    transferEncoding('only a comma', 'Transfer-Encoding: ,'),
    transferEncoding('leading comma', 'Transfer-Encoding: , chunked'),
    transferEncoding('parameter', 'Transfer-Encoding: chunked;q=1'),
    transferEncoding('quoted', 'Transfer-Encoding: "chunked"'),
    transferEncoding('vertical tab before the value', 'Transfer-Encoding: \x0bchunked'),
    transferEncoding('vertical tab behind the value', 'Transfer-Encoding: chunked\x0b'),
    transferEncoding('NUL in the value', 'Transfer-Encoding: chunk\x00ed'),
    transferEncoding('high byte before the value', 'Transfer-Encoding: \xffchunked'),
    transferEncoding('space before the colon', 'Transfer-Encoding : chunked'),
    transferEncoding('tab before the colon', 'Transfer-Encoding\t: chunked'),
    transferEncoding('space before the name', 'X-A: b', ' Transfer-Encoding: chunked'),
    transferEncoding('folded value', 'Transfer-Encoding:\r\n chunked'),
    transferEncoding('folded list', 'Transfer-Encoding: identity,\r\n\tchunked'),
    transferEncoding('behind a bare LF in another value', 'X-A: b\nTransfer-Encoding: chunked'),
    transferEncoding('behind a bare CR in another value', 'X-A: b\rTransfer-Encoding: chunked'),
    transferEncoding('hidden by a NUL', 'Transfer-Encoding\x00: chunked'),
    probe('transfer-encoding', 'in HTTP/1.0', 'refuse', [
      `POST /probe HTTP/1.0\r\n${HOST}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${SMUGGLED}`,
    ]),
    probe('transfer-encoding', 'underscore spelling (another field)', 'forward', [
      post(['Transfer_Encoding: chunked', 'Content-Length: 5'], 'abcde'),
    ]),
  ]
}

function chunkedProbes(): Probe[] {
  const chunked = ['Transfer-Encoding: chunked']
  return [
    badChunks('negative size', `-1\r\nabcde\r\n0\r\n\r\n`),
    badChunks('0x prefix', `0x5\r\nabcde\r\n0\r\n\r\n`),
    badChunks('plus sign', `+5\r\nabcde\r\n0\r\n\r\n`),
    badChunks('underscore in the size', `0_5\r\nabcde\r\n0\r\n\r\n`),
    badChunks('size 2^64 + 5', `10000000000000005\r\nabcde\r\n0\r\n\r\n`),
    badChunks('size 2^32 written with 40 digits', `${'0'.repeat(31)}100000005\r\nabcde\r\n0\r\n\r\n`),
    badChunks('size of all ones', `ffffffffffffffff\r\nabcde\r\n0\r\n\r\n`),
    badChunks('empty size line', `\r\nabcde\r\n0\r\n\r\n`),
    badChunks('not a number', `xyz\r\nabcde\r\n0\r\n\r\n`),
    badChunks('space before the size', ` 5\r\nabcde\r\n0\r\n\r\n`),
    badChunks('size line with LF only', `5\nabcde\r\n0\r\n\r\n`),
    badChunks('size line with CR only', `5\rabcde\r\n0\r\n\r\n`),
    badChunks('data ends with LF only', `5\r\nabcde\n0\r\n\r\n`),
    badChunks('no line end behind the data', `5\r\nabcde0\r\n\r\n${SMUGGLED}`),
    badChunks('data longer than its size', `3\r\nabcde\r\n0\r\n\r\n${SMUGGLED}`),
    badChunks('two other bytes instead of CRLF behind the data', `5\r\nabcdeXX0\r\n\r\n${SMUGGLED}`),
    badChunks('last chunk with LF only', `5\r\nabcde\r\n0\n\n${SMUGGLED}`),
    badChunks('NUL in the size line', `5\x00\r\nabcde\r\n0\r\n\r\n`),
    badChunks('LF inside a chunk extension', `5;a\nabcde\r\n0\r\n\r\n`),
    probe('chunked', 'chunk extension', 'either', post(chunked, `5;name=value\r\nabcde\r\n0\r\n\r\n`)),
    probe('chunked', 'chunk extension that looks like a size', 'either', post(chunked, `5;a\r\nabcde\r\n0;b=1\r\n\r\n`)),
    probe('chunked', 'space behind the size', 'either', post(chunked, `5 \r\nabcde\r\n0\r\n\r\n`), false),
    probe('chunked', 'leading zeros in the size', 'either', post(chunked, `00005\r\nabcde\r\n000\r\n\r\n`)),
    probe('chunked', 'upper and lower case digits', 'forward', post(chunked, `A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n`)),
    probe('chunked', 'every byte of the body on its own', 'forward', [post(chunked, ''), ...'5\r\nabcde\r\n0\r\n\r\n']),
    probe('chunked', 'body that looks like chunks', 'forward', post(chunked, `f\r\n5\r\nabcde\r\n0\r\n\r\n\r\n0\r\n\r\n`)),
    probe('chunked', 'trailer field', 'either', post(chunked, `5\r\nabcde\r\n0\r\nX-Trailer: yes\r\n\r\n`)),
    probe('chunked', 'forbidden trailer Content-Length', 'either', post(chunked, `5\r\nabcde\r\n0\r\nContent-Length: 100\r\n\r\n`)),
    probe('chunked', 'forbidden trailer Host', 'either', post(chunked, `5\r\nabcde\r\n0\r\nHost: evil.test\r\n\r\n`)),
    probe('chunked', 'trailer that is a request', 'cut', post(chunked, `5\r\nabcde\r\n0\r\n${SMUGGLED}`)),
  ]
}

function bodyAndPipelineProbes(): Probe[] {
  const get = (target: string): string => `GET ${target} HTTP/1.1\r\n${HOST}\r\n\r\n`
  return [
    probe('body', 'GET with a length body', 'forward', [
      `GET /probe HTTP/1.1\r\n${HOST}\r\nContent-Length: ${SMUGGLED.length}\r\n\r\n${SMUGGLED}`,
    ]),
    probe('body', 'GET with a chunked body', 'either', [
      `GET /probe HTTP/1.1\r\n${HOST}\r\nTransfer-Encoding: chunked\r\n\r\n${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`,
    ]),
    probe('body', 'HEAD with a body', 'either', [
      `HEAD /probe HTTP/1.1\r\n${HOST}\r\nContent-Length: ${SMUGGLED.length}\r\n\r\n${SMUGGLED}`,
    ]),
    probe('body', 'a request inside a POST body', 'forward', post([`Content-Length: ${SMUGGLED.length}`], SMUGGLED)),
    probe('body', 'POST without any length, bytes behind it', 'either', post([], `abcde\r\n\r\n`)),
    probe('body', 'body in two pieces', 'forward', [post(['Content-Length: 10'], 'abcde'), 'fghij']),
    probe('pipelining', 'two requests at once', 'forward', `${get('/one')}${get('/two')}`),
    probe('pipelining', 'three requests, a body in the middle', 'forward', [
      `${get('/one')}${post(['Content-Length: 5'], 'abcde')}${get('/three')}`,
    ]),
    probe('pipelining', 'a good request, then two lengths', 'forward', [
      `${get('/one')}${post(['Content-Length: 5', 'Content-Length: 0'], SMUGGLED)}`,
    ]),
    probe('pipelining', 'a refused request, then a good one', 'refuse', `${post(['Content-Length: 5, 5'], 'abcde')}${get('/two')}`),
    probe('request line', 'in two pieces', 'forward', ['GET /pro', get('/probe').slice(8)], false),
    probe('request line', 'every byte on its own', 'forward', [...get('/probe')], false),
  ]
}

export function bodyProbes(): Probe[] {
  return [...contentLengthProbes(), ...transferEncodingProbes(), ...chunkedProbes(), ...bodyAndPipelineProbes()]
}
