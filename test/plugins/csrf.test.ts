import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { csrf } from '../../src/plugins/csrf.js'
import type { Json } from '../../src/plugins/plugin.js'
import { fakeExchange } from '../support/fake-exchange.js'
import { configure, problemsOf, requestPhases } from './configured.js'

const issuedAt = Date.UTC(2026, 0, 2, 3, 4, 5)
const conf = { key: 'a secret' }

/** The Set-Cookie line of an answer to a request that arrived at `startedAtMs`. */
function cookieLine(options: Json, startedAtMs = issuedAt): string {
  const instance = configure(csrf, options)
  const exchange = fakeExchange({ startedAtMs }).respond({})
  instance.headerFilter?.(exchange)
  const lines = exchange.response.headers.getAll('set-cookie')
  expect(lines).toHaveLength(1)
  return lines[0] ?? ''
}

function tokenOf(line: string): string {
  return /=([^;]*);/.exec(line)?.[1] ?? ''
}

interface Post {
  readonly header?: string
  readonly cookie?: string
  readonly method?: string
  readonly atMs?: number
  readonly name?: string
}

function ask(options: Json, { header, cookie, method = 'POST', atMs = issuedAt, name = 'apisix-csrf-token' }: Post) {
  const headers = {
    ...(header === undefined ? {} : { [name]: header }),
    ...(cookie === undefined ? {} : { Cookie: `a=b; ${name}=${cookie}; c=d` }),
  }
  return requestPhases(configure(csrf, options), fakeExchange({ method, headers, startedAtMs: atMs }))
}

function refused(message: string) {
  return { status: 401, body: `{"error_msg":"${message}"}\n` }
}

const badToken = refused('Failed to verify the csrf token signature')

describe('csrf', () => {
  test('every answer sets a token cookie', () => {
    const line = cookieLine(conf)
    expect(line).toMatch(/^apisix-csrf-token=[A-Za-z0-9+/=]+;path=\/;SameSite=Lax;Expires=Fri, 02 Jan 2026 05:04:05 GMT$/)
    const claims = JSON.parse(Buffer.from(tokenOf(line), 'base64').toString())
    expect(claims).toEqual({
      random: expect.stringMatching(/^.{20,}$/),
      expires: issuedAt / 1000,
      sign: expect.stringMatching(/^[0-9a-f]{64}$/),
    })
    expect(tokenOf(cookieLine(conf))).not.toBe(tokenOf(line))
  })

  test('a cookie that never expires says so', () => {
    expect(cookieLine({ ...conf, expires: 0 })).toMatch(/;Expires=Fri, 31 Dec 9999 23:59:59 GMT$/)
  })

  test('cookies of the upstream stay', () => {
    const exchange = fakeExchange().respond({ headers: { 'Set-Cookie': 'session=1' } })
    configure(csrf, conf).headerFilter?.(exchange)
    expect(exchange.response.headers.getAll('set-cookie')).toHaveLength(2)
  })

  test.each(['GET', 'HEAD', 'OPTIONS'])('%s passes without a token', async (method) => {
    expect(await ask(conf, { method })).toBeUndefined()
  })

  test.each(['POST', 'PUT', 'DELETE', 'PATCH', 'TRACE'])('%s passes with header and cookie', async (method) => {
    const token = tokenOf(cookieLine(conf))
    expect(await ask(conf, { method, header: token, cookie: token })).toBeUndefined()
  })

  test('says what is missing or unequal', async () => {
    const token = tokenOf(cookieLine(conf))
    expect(await ask(conf, { cookie: token })).toEqual(refused('no csrf token in headers'))
    expect(await ask(conf, { header: '', cookie: token })).toEqual(refused('no csrf token in headers'))
    expect(await ask(conf, { header: token })).toEqual(refused('no csrf cookie'))
    expect(await ask(conf, { header: token, cookie: tokenOf(cookieLine(conf)) })).toEqual(refused('csrf token mismatch'))
    expect(await ask(conf, { header: token, cookie: `${token}x` })).toEqual(refused('csrf token mismatch'))
  })

  test('a token lives as long as configured', async () => {
    const token = tokenOf(cookieLine({ ...conf, expires: 60 }))
    const at = (seconds: number, expires: number) =>
      ask({ ...conf, expires }, { header: token, cookie: token, atMs: issuedAt + seconds * 1000 })
    expect(await at(60, 60)).toBeUndefined()
    expect(await at(61, 60)).toEqual(badToken)
    expect(await at(1e8, 0)).toBeUndefined()
  })

  test('a token of another key is refused', async () => {
    const token = tokenOf(cookieLine({ key: 'another secret' }))
    expect(await ask(conf, { header: token, cookie: token })).toEqual(badToken)
  })

  test('changed claims are refused', async () => {
    const claims = JSON.parse(Buffer.from(tokenOf(cookieLine(conf)), 'base64').toString())
    const plainHash = createHash('sha256').update(`{expires:${claims.expires},random:${claims.random},key:a secret}`).digest('hex')
    const forgeries = [
      { ...claims, expires: claims.expires + 1 },
      { ...claims, random: `${claims.random}0` },
      { ...claims, random: `1.${claims.random}`, expires: 1 },
      { ...claims, expires: String(claims.expires) },
      { ...claims, sign: '' },
      { ...claims, sign: plainHash },
      { ...claims, sign: claims.sign.toUpperCase() },
      { random: claims.random, expires: claims.expires },
      [claims.random, claims.expires, claims.sign],
      null,
      'text',
    ]
    for (const forged of forgeries) {
      const token = Buffer.from(JSON.stringify(forged)).toString('base64')
      expect(await ask(conf, { header: token, cookie: token }), JSON.stringify(forged)).toEqual(badToken)
    }
  })

  test.each(['x', '!!!!', 'e30=', 'eyJ9'])('garbage is refused: %s', async (token) => {
    expect(await ask(conf, { header: token, cookie: token })).toEqual(badToken)
  })

  test('the name is that of cookie and header', async () => {
    const named = { ...conf, name: 'X-Token' }
    const line = cookieLine(named)
    expect(line).toMatch(/^X-Token=/)
    const token = tokenOf(line)
    expect(await ask(named, { header: token, cookie: token, name: 'X-Token' })).toBeUndefined()
    expect(await ask(named, { header: token, cookie: token })).toEqual(refused('no csrf token in headers'))
  })

  test('refuses wrong options', () => {
    expect(problemsOf(csrf, {})).toHaveLength(1)
    expect(problemsOf(csrf, { key: '' })).toHaveLength(1)
    expect(problemsOf(csrf, { key: 'k', expires: -1 })).toHaveLength(1)
    expect(problemsOf(csrf, { key: 'k', name: 'a;b' })).toHaveLength(1)
  })
})
