/** Every rule of lint: a configuration in which it finds something at the right place, and one in which it finds nothing. */
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checkConfiguration } from '../../src/controlplane/check.js'
import { lintConfiguration, lintRules } from '../../src/controlplane/lint/lint.js'
import { isInside } from '../../src/controlplane/lint/reach.js'
import { runSluice } from '../support/command-line.js'
import { TestAuthority } from '../support/tls-certificates.js'

let folder = ''
let pair = { cert: '', key: '' }
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-lint-'))
  pair = await (await TestAuthority.create()).issue('localhost')
})
afterAll(() => rmSync(folder, { recursive: true }))

const nodes = { '10.0.0.1:80': 1 }
const outside = { nodes: { 'api.example.com:80': 1 } }
const keyAuth = { 'key-auth': { hide_credentials: true } }
const limit = { 'limit-count': { count: 1, time_window: 1 } }
const route = (more: object, upstream: object = { nodes }) => ({ routes: [{ uri: '/a', upstream, ...more }] })
const withPlugins = (plugins: object, upstream?: object) => route({ plugins }, upstream)
const settings = (sluice: object) => ({ sluice })
const jack = (plugins: object) => ({ consumers: [{ username: 'jack', plugins }] })
const reference = '${{VALUE:=abcdefghijklmnopqrstuvwxyz012345}}'
const admin = (more: object) => settings({ admin: { keys: [{ name: 'a', key: reference }], ...more } })
const cors = (origins: string) => ({
  cors: { allow_credential: true, allow_origins: origins, allow_methods: 'GET', allow_headers: 'x-a', expose_headers: 'x-a' },
})
const breaker = (value: string) => ({
  'api-breaker': {
    break_response_code: 503,
    break_response_body: 'x',
    break_response_headers: [{ key: 'Retry-After', value }],
    unhealthy: {},
    healthy: {},
  },
})
const introspection = (seconds: number) => ({
  'jwt-auth': { introspection: { endpoint: 'https://idp.example.com/i', client_id: 'a', client_secret: reference, cache_ttl: seconds } },
})

interface Example {
  readonly bad: object
  readonly at: string
  readonly good: object
}

const examples: { readonly [rule: string]: Example } = {
  'admin-open': { bad: admin({ listen: '0.0.0.0:9180' }), at: 'sluice.admin', good: admin({}) },
  'admin-half-open': {
    bad: admin({ listen: '0.0.0.0:9180', allow: ['10.0.0.0/8'] }),
    at: 'sluice.admin',
    good: admin({ allow: ['10.0.0.0/8'] }),
  },
  'admin-any-origin': { bad: admin({ origins: ['*'] }), at: 'sluice.admin.origins', good: admin({ origins: ['https://a.example'] }) },
  'metrics-open': { bad: settings({ metrics: { listen: '0.0.0.0:9091' } }), at: 'sluice.metrics', good: settings({}) },
  'identity-headers-believed': {
    bad: settings({ trust_identity_headers: true }),
    at: 'sluice.trust_identity_headers',
    good: settings({ trust_identity_headers: true, listeners: [{ listen: '127.0.0.1:9080' }] }),
  },
  'everybody-trusted': {
    bad: withPlugins({ 'real-ip': { source: 'http_x_real_ip', trusted_addresses: ['0.0.0.0/0'] } }),
    at: 'routes[0].plugins.real-ip.trusted_addresses',
    good: withPlugins({ 'real-ip': { source: 'http_x_real_ip', trusted_addresses: ['10.0.0.0/8'] } }),
  },
  'default-secret': {
    bad: jack({ 'key-auth': { key: 'auth-one' } }),
    at: 'consumers[0].plugins.key-auth.key',
    good: jack({ 'key-auth': { key: reference } }),
  },
  'admin-key-short': {
    bad: settings({ admin: { keys: [{ name: 'a', key: 'ninechars' }] } }),
    at: 'sluice.admin.keys[0].key',
    good: admin({}),
  },
  'secret-in-clear': {
    bad: jack({ 'basic-auth': { username: 'jack', password: 'a long and unknown one' } }),
    at: 'consumers[0].plugins.basic-auth.password',
    good: jack({ 'basic-auth': { username: 'jack', password: reference } }),
  },
  'jwt-secret-short': {
    bad: jack({ 'jwt-auth': { key: 'jack', secret: '${{VALUE:=short}}' } }),
    at: 'consumers[0].plugins.jwt-auth.secret',
    good: jack({ 'jwt-auth': { key: 'jack', secret: reference } }),
  },
  'route-without-limit': { bad: route({}), at: 'routes[0]', good: withPlugins(limit) },
  'route-without-authentication': {
    bad: { routes: [1, 2, 3].map((id) => ({ id, uri: `/${id}`, upstream: { nodes }, ...(id < 3 && { plugins: keyAuth }) })) },
    at: 'routes[2]',
    good: { routes: [1, 2, 3].map((id) => ({ id, uri: `/${id}`, upstream: { nodes }, plugins: keyAuth })) },
  },
  'cors-any-origin-with-credentials': {
    bad: withPlugins(cors('**')),
    at: 'routes[0].plugins.cors.allow_origins',
    good: withPlugins(cors('https://a.example')),
  },
  'credentials-over-plain-http': {
    bad: withPlugins(keyAuth),
    at: 'routes[0].plugins.key-auth',
    good: withPlugins({ ...keyAuth, redirect: { http_to_https: true } }),
  },
  'plain-upstream-for-authenticated-route': {
    bad: withPlugins(keyAuth, outside),
    at: 'routes[0].upstream',
    good: withPlugins(keyAuth, { nodes: { 'orders.svc:80': 1 } }),
  },
  'plain-authority': {
    bad: withPlugins({ 'forward-auth': { uri: 'http://auth.example.com/' } }),
    at: 'routes[0].plugins.forward-auth.uri',
    good: withPlugins({ 'forward-auth': { uri: 'http://auth:8080/' } }),
  },
  'tls-unverified': {
    bad: route({}, { ...outside, scheme: 'https' }),
    at: 'routes[0].upstream',
    good: route({}, { ...outside, scheme: 'https', tls: { verify: true } }),
  },
  'credentials-forwarded': {
    bad: withPlugins({ 'key-auth': {} }, outside),
    at: 'routes[0].plugins.key-auth',
    good: withPlugins(keyAuth, outside),
  },
  'nodes-unchecked': {
    bad: route({}, { nodes: { ...nodes, '10.0.0.2:80': 1 } }),
    at: 'routes[0].upstream',
    good: route({}, { nodes: { ...nodes, '10.0.0.2:80': 1 }, outlier_detection: {} }),
  },
  'no-breaker': { bad: route({}), at: 'routes[0].upstream', good: withPlugins({ 'circuit-breaker': {} }) },
  'long-timeout': {
    bad: route({}, { nodes, timeout: { connect: 1, send: 1, read: 60 } }),
    at: 'routes[0].upstream.timeout.read',
    good: route({}, { nodes, timeout: { connect: 1, send: 1, read: 30 } }),
  },
  'repeats-unsafe-requests': {
    bad: route({ retry_non_idempotent: true }),
    at: 'routes[0].retry_non_idempotent',
    good: route({ retry_non_idempotent: false }),
  },
  'test-plugin': {
    bad: withPlugins({ mocking: { response_example: 'x' } }),
    at: 'routes[0].plugins.mocking',
    good: { routes: [{ uri: '/a', plugins: { mocking: { response_example: 'x' } } }] },
  },
  'same-match-twice': {
    bad: { routes: [1, 2].map((id) => ({ id, uri: '/a', methods: id === 1 ? ['GET', 'PUT'] : ['PUT', 'GET'], upstream: { nodes } })) },
    at: 'routes[1]',
    good: { routes: [1, 2].map((id) => ({ id, uri: '/a', methods: [id === 1 ? 'GET' : 'PUT'], upstream: { nodes } })) },
  },
  'breaker-retry-after': {
    bad: withPlugins(breaker('30')),
    at: 'routes[0].plugins.api-breaker.break_response_headers[0]',
    good: withPlugins(breaker('$http_x_wait')),
  },
  'breaker-without-half-open': {
    bad: withPlugins(breaker('30')),
    at: 'routes[0].plugins.api-breaker',
    good: withPlugins({ 'circuit-breaker': {} }),
  },
  'introspection-cached-long': {
    bad: withPlugins(introspection(300)),
    at: 'routes[0].plugins.jwt-auth.introspection.cache_ttl',
    good: withPlugins(introspection(60)),
  },
  'unused-resource': {
    bad: { upstreams: [{ id: 1, nodes }] },
    at: 'upstreams[0]',
    good: { upstreams: [{ id: 1, nodes }], routes: [{ uri: '/a', upstream_id: '1' }] },
  },
}

async function lint(config: object, nowMs = Date.now(), ignored: readonly string[] = []) {
  const file = join(folder, 'sluice.yaml')
  const text = JSON.stringify(config, null, 2)
  writeFileSync(file, text)
  const checked = await checkConfiguration(file, { KEY_OF_B: 'any' })
  if (!checked.ok) throw new Error(checked.errors.map(({ path, message }) => `${path}: ${message}`).join('\n'))
  return lintConfiguration(checked, { text, ignored: new Set(ignored), nowMs })
}

const of = (findings: Awaited<ReturnType<typeof lint>>, rule: string) => findings.filter((finding) => finding.rule === rule)

describe('rules', () => {
  test('every rule has an example, but that for certificates', () => {
    expect([...Object.keys(examples), 'certificate-expires'].sort()).toEqual(lintRules.map(({ id }) => id).sort())
  })

  test.each(Object.entries(examples))('%s', async (rule, { bad, at, good }) => {
    const found = of(await lint(bad), rule)
    expect(found.map(({ path }) => path)).toEqual([at])
    expect(found[0]?.line).toBeGreaterThan(1)
    expect(of(await lint(bad, Date.now(), [rule]), rule)).toEqual([])
    expect(of(await lint(good), rule)).toEqual([])
  })

  test('certificate-expires', async () => {
    const config = { ssls: [{ sni: 'localhost', cert: pair.cert, key: pair.key }] }
    const days = (count: number) => Date.parse(new X509Certificate(pair.cert).validTo) - count * 86_400_000
    expect(of(await lint(config, days(40)), 'certificate-expires')).toEqual([])
    expect(of(await lint(config, days(3)), 'certificate-expires').map(({ message }) => message)).toEqual(['the certificate ends in 3 days'])
    expect(of(await lint(config, days(-1)), 'certificate-expires').map(({ message }) => message)).toEqual(['the certificate has expired'])
  })
})

test('fences, global rules and limits of consumers count as well', async () => {
  for (const good of [
    route({ remote_addr: '10.0.0.0/8' }),
    withPlugins({ 'ip-restriction': { whitelist: ['10.0.0.0/8'] } }),
    { ...route({}), global_rules: [{ id: 1, plugins: limit }] },
    { ...route({}), sluice: { listeners: [{ listen: '127.0.0.1:9080' }] } },
    { ...withPlugins(keyAuth), consumer_groups: [{ id: 'g', plugins: limit }], consumers: [{ username: 'jack', group_id: 'g' }] },
  ]) {
    expect(of(await lint(good), 'route-without-limit'), JSON.stringify(good)).toEqual([])
  }
  const off = withPlugins({ 'limit-count': { ...limit['limit-count'], _meta: { disable: true } } })
  expect(of(await lint(off), 'route-without-limit')).toHaveLength(1)
})

test('hashes and references are no secrets, and no finding tells one', async () => {
  const secret = 'never-to-be-printed-anywhere'
  const config = {
    consumers: [
      { username: 'a', plugins: { 'key-auth': { key: secret } } },
      { username: 'b', plugins: { 'key-auth': { key: '$env://KEY_OF_B' } } },
      { username: 'c', plugins: { 'jwt-auth': { key: 'issuer', secret } } },
    ],
    ...admin({ keys: [{ name: 'x', key: secret }] }),
  }
  const found = await lint(config)
  expect(of(found, 'secret-in-clear').map(({ path }) => path)).toEqual([
    'consumers[0].plugins.key-auth.key',
    'consumers[2].plugins.jwt-auth.secret',
    'sluice.admin.keys[0].key',
  ])
  expect(JSON.stringify(found)).not.toContain(secret)
})

test.each([
  ['10.1.2.3', true],
  ['172.31.0.1', true],
  ['172.32.0.1', false],
  ['8.8.8.8', false],
  ['[fd00::1]', true],
  ['2001:db8::1', false],
  ['orders', true],
  ['orders.prod.svc', true],
  ['api.example.com', false],
])('%s is inside: %s', (host, expected) => {
  expect(isInside(host)).toBe(expected)
})

describe('the command', () => {
  test('exit codes follow the severity, output is lines or JSON', async () => {
    const file = join(folder, 'command.yaml')
    writeFileSync(file, 'routes:\n  - uri: /a\n    upstream:\n      nodes: {"10.0.0.1:80": 1}\n')
    const lines = await runSluice(['lint', file])
    expect(lines.code).toBe(1)
    expect(lines.stdout).toContain(`${file}:2:5: routes[0]: anybody may ask as often as they like; expected`)
    expect(lines.stdout).toContain(`${file}: 0 error, 1 warning, 1 advice\n`)
    expect((await runSluice(['lint', file, '--fail-on', 'error'])).code).toBe(0)
    const ignored = await runSluice(['lint', file, '--ignore', 'route-without-limit', '--ignore', 'no-breaker', '--json'])
    expect(ignored.code).toBe(0)
    expect(JSON.parse(ignored.stdout)).toEqual({ ok: true, errors: [], findings: [] })
    const unknown = await runSluice(['lint', file, '--ignore', 'route-without-limits'])
    expect(unknown).toMatchObject({ code: 2, stderr: expect.stringContaining('did you mean route-without-limit?') })
    writeFileSync(file, 'routes:\n  - url: /a\n')
    expect(await runSluice(['lint', file])).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(`${file}:2:`) })
  })
})
