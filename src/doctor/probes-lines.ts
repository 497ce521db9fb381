/** Probes of the request line, Host and header fields. */
import type { Expectation, Probe, ProbeGroup } from './probes.js'

const HOST = 'Host: doctor.sluice.test'

function probe(group: ProbeGroup, name: string, expect: Expectation, bytes: string | readonly string[], smuggling = true): Probe {
  return { name, group, pieces: typeof bytes === 'string' ? [bytes] : bytes, expect, smuggling }
}

function get(fields: readonly string[], target = '/probe'): string {
  return `${[`GET ${target} HTTP/1.1`, ...fields].join('\r\n')}\r\n\r\n`
}

function hostProbes(): Probe[] {
  const host = (name: string, expect: Expectation, ...fields: string[]): Probe => probe('host', name, expect, get(fields))
  return [
    host('plain', 'forward', HOST),
    host('with a port', 'forward', 'Host: doctor.sluice.test:8080'),
    host('IPv6 literal', 'forward', 'Host: [::1]:8080'),
    host('missing', 'refuse', 'X-A: b'),
    host('empty', 'refuse', 'Host:'),
    host('repeated, equal', 'refuse', HOST, HOST),
    host('repeated, different', 'refuse', HOST, 'Host: evil.test'),
    host('repeated, the first empty', 'refuse', 'Host:', HOST),
    host('repeated in another case', 'refuse', HOST, 'hOST: evil.test'),
    host('with a path', 'refuse', 'Host: doctor.sluice.test/evil'),
    host('with user@', 'refuse', 'Host: doctor.sluice.test@evil.test'),
    host('with a query', 'refuse', 'Host: doctor.sluice.test?evil'),
    host('with a fragment', 'refuse', 'Host: doctor.sluice.test#evil'),
    host('with a backslash', 'refuse', 'Host: doctor.sluice.test\\evil'),
    host('port that is no number', 'refuse', 'Host: doctor.sluice.test:80a'),
    host('port beyond 65535', 'refuse', 'Host: doctor.sluice.test:99999'),
    host('two ports', 'refuse', 'Host: doctor.sluice.test:80:443'),
    host('list of names', 'refuse', 'Host: doctor.sluice.test evil.test'),
    host('high byte', 'refuse', 'Host: doctor\xff.sluice.test'),
    host('space before the colon', 'refuse', 'Host : doctor.sluice.test'),
    host('folded', 'refuse', 'Host:\r\n doctor.sluice.test'),
    host('NUL in it', 'refuse', 'Host: doctor.sluice.test\x00.evil.test'),
    probe('host', 'HTTP/1.0 without Host', 'either', 'GET /probe HTTP/1.0\r\n\r\n', false),
  ]
}

function headerProbes(): Probe[] {
  const header = (name: string, expect: Expectation, ...fields: string[]): Probe => probe('header', name, expect, get([HOST, ...fields]))
  const many = (count: number): string[] => Array.from({ length: count }, (_, index) => `X-Many-${index}: ${index}`)
  const giant = `X-Giant: ${'g'.repeat(64 * 1024)}`
  return [
    header('empty value', 'forward', 'X-Empty:'),
    header('tab and high bytes in a value', 'either', 'X-Latin: a\tb\xe9c'),
    header('UTF-8 in a value', 'either', 'X-Utf: caf\xc3\xa9 au lait'),
    header('UTF-8 at the end of a value', 'either', 'X-Utf: caf\xc3\xa9'),
    header('UTF-8 whose code points end like CR and LF', 'either', 'X-Utf: a\xc4\x8d\xc4\x8aX-Evil: b'),
    header('empty name', 'refuse', ': value'),
    header('space in the name', 'refuse', 'X Probe: value'),
    header('space before the colon', 'refuse', 'X-Probe : value'),
    header('line without a colon', 'refuse', 'X-Probe'),
    header('space before the first name', 'refuse', ' X-Probe: value'),
    header('obsolete folding with a space', 'refuse', 'X-Probe: a\r\n b'),
    header('obsolete folding with a tab', 'refuse', 'X-Probe: a\r\n\tX-Evil: b'),
    header('NUL in a name', 'refuse', 'X-Pro\x00be: value'),
    header('NUL in a value', 'refuse', 'X-Probe: va\x00lue'),
    header('bare CR in a value', 'refuse', 'X-Probe: a\rX-Evil: b'),
    header('bare LF in a value', 'refuse', 'X-Probe: a\nX-Evil: b'),
    header('CR CR LF', 'refuse', 'X-Probe: a\r'),
    header('control byte in a value', 'refuse', 'X-Probe: a\x01b'),
    header('DEL in a value', 'refuse', 'X-Probe: a\x7fb'),
    header('escape sequence in a value', 'refuse', 'X-Probe: \x1b[31m'),
    header('high byte in a name', 'refuse', 'X-Prob\xe9: value'),
    header('parenthesis in a name', 'refuse', 'X-(Probe): value'),
    header('quote in a name', 'refuse', '"X-Probe": value'),
    header('at sign in a name', 'refuse', 'X@Probe: value'),
    probe('header', 'all lines end with a bare LF', 'refuse', `GET /probe HTTP/1.1\n${HOST}\n\n`),
    probe('header', 'one line ends with a bare LF', 'refuse', `GET /probe HTTP/1.1\r\n${HOST}\nX-A: b\r\n\r\n`),
    probe('header', 'header section ends with LF LF', 'refuse', `GET /probe HTTP/1.1\r\n${HOST}\n\n`),
    probe('header', '40 fields', 'forward', get([HOST, ...many(40)]), false),
    probe('header', '90 fields', 'forward', get([HOST, ...many(90)]), false),
    probe('header', '150 fields', 'either', get([HOST, ...many(150)]), false),
    probe('header', '2,000 fields', 'either', get([HOST, ...many(2000)]), false),
    probe('header', 'a field of 64 KiB at once', 'either', get([HOST, giant]), false),
    probe('header', 'a field of 64 KiB in pieces', 'either', pieces(get([HOST, giant]), 4096), false),
    header('Upgrade to h2c', 'either', 'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA'),
    header('Upgrade to websocket without a key', 'either', 'Connection: Upgrade', 'Upgrade: websocket'),
    header('Connection that names Host', 'either', 'Connection: close, Host'),
    header('Connection that names Content-Length', 'either', 'Connection: keep-alive, Content-Length', 'Content-Length: 0'),
    probe('header', 'Expect: 100-continue', 'forward', [
      `POST /probe HTTP/1.1\r\n${HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n`,
      'abcde',
    ]),
    header('Expect: something else', 'either', 'Expect: 200-ok'),
    header('Expect twice', 'either', 'Expect: 100-continue', 'Expect: 100-continue'),
  ]
}

function requestLineProbes(): Probe[] {
  const line = (name: string, expect: Expectation, text: string, smuggling = true): Probe =>
    probe('request line', name, expect, `${text}\r\n${HOST}\r\n\r\n`, smuggling)
  return [
    line('fragment in the target', 'refuse', 'GET /probe#fragment HTTP/1.1'),
    line('encoded NUL in the path', 'either', 'GET /pro%00be HTTP/1.1'),
    line('NUL in the target', 'refuse', 'GET /pro\x00be HTTP/1.1'),
    line('control byte in the target', 'refuse', 'GET /pro\x01be HTTP/1.1'),
    line('control byte in the query', 'refuse', 'GET /probe?a=\x01 HTTP/1.1'),
    line('tab in the target', 'refuse', 'GET /pro\tbe HTTP/1.1'),
    line('DEL in the target', 'refuse', 'GET /pro\x7fbe HTTP/1.1'),
    line('space in the target', 'refuse', 'GET /pro be HTTP/1.1'),
    line('high byte in the path', 'refuse', 'GET /prob\xe9 HTTP/1.1'),
    line('high byte in the query', 'refuse', 'GET /probe?\xc3\xa9 HTTP/1.1'),
    line('target without a slash', 'refuse', 'GET probe HTTP/1.1'),
    line('empty target', 'refuse', 'GET  HTTP/1.1'),
    line('absolute form', 'either', 'GET http://doctor.sluice.test/probe HTTP/1.1'),
    line('absolute form of another host than Host', 'either', 'GET http://evil.test/probe HTTP/1.1'),
    line('absolute form with user@', 'refuse', 'GET http://doctor.sluice.test@evil.test/probe HTTP/1.1'),
    line('absolute form of another scheme', 'refuse', 'GET file:///etc/passwd HTTP/1.1'),
    line('authority form without CONNECT', 'refuse', 'GET doctor.sluice.test:80 HTTP/1.1'),
    line('asterisk without OPTIONS', 'refuse', 'GET * HTTP/1.1'),
    line('CONNECT', 'either', 'CONNECT doctor.sluice.test:80 HTTP/1.1'),
    line('two spaces behind the method', 'refuse', 'GET  /probe HTTP/1.1'),
    line('tab behind the method', 'refuse', 'GET\t/probe HTTP/1.1'),
    line('space behind the version', 'refuse', 'GET /probe HTTP/1.1 '),
    line('space before the method', 'refuse', ' GET /probe HTTP/1.1'),
    line('method in lower case', 'either', 'get /probe HTTP/1.1', false),
    line('method with a control byte', 'refuse', 'GE\x01T /probe HTTP/1.1'),
    line('method with a colon', 'refuse', 'GET: /probe HTTP/1.1'),
    line('no version', 'refuse', 'GET /probe'),
    line('HTTP/0.9', 'refuse', 'GET /probe HTTP/0.9'),
    line('HTTP/1.2', 'refuse', 'GET /probe HTTP/1.2', false),
    line('HTTP/2.0', 'refuse', 'GET /probe HTTP/2.0', false),
    line('HTTP/1.10', 'refuse', 'GET /probe HTTP/1.10'),
    line('http/1.1 in lower case', 'refuse', 'GET /probe http/1.1'),
    line('HTTP/1,1', 'refuse', 'GET /probe HTTP/1,1'),
    line('bare CR in the line', 'refuse', 'GET /probe\rX: HTTP/1.1'),
    line('line that ends with a bare LF', 'refuse', 'GET /probe HTTP/1.1\nX-A: b'),
    line('target of 100,000 bytes', 'either', `GET /${'t'.repeat(100_000)} HTTP/1.1`, false),
    probe('request line', 'empty line before the request', 'either', `\r\nGET /probe HTTP/1.1\r\n${HOST}\r\n\r\n`, false),
    probe('request line', 'HTTP/2 preface', 'refuse', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    probe('request line', 'TLS handshake on the plain port', 'refuse', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n', false),
    probe('request line', 'noise', 'refuse', '\x00\xff\x00\xff\x0d\x0a\x0d\x0a', false),
  ]
}

function pieces(text: string, size: number): string[] {
  const parts: string[] = []
  for (let start = 0; start < text.length; start += size) parts.push(text.slice(start, start + size))
  return parts
}

export function lineProbes(): Probe[] {
  return [...hostProbes(), ...headerProbes(), ...requestLineProbes()]
}
