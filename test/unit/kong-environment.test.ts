/** Variables of a Kong process over a file. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { statusAddress } from '../../src/cli/health.js'
import { kongVariables, overlaySluice, readKongEnvironment } from '../../src/controlplane/import-kong/kong-environment.js'
import { IssueList } from '../../src/controlplane/load-issue.js'
import { SourceDocument } from '../../src/controlplane/load-source.js'

function read(env: { readonly [name: string]: string }, hasAdminKeys = true) {
  const parsed = SourceDocument.parse('kong.yml', 'a: 1', {})
  if (!parsed.ok) throw new Error('a: 1 is YAML')
  const issues = new IssueList(parsed.source)
  const { sluice, keepalive } = readKongEnvironment(env, hasAdminKeys, issues)
  const messages = (list: readonly { message: string }[]) => list.map((issue) => issue.message)
  return { sluice, keepalive, errors: messages(issues.errors), warnings: messages(issues.warnings) }
}

test('those of a usual deployment', () => {
  const found = read({
    KONG_DATABASE: 'postgres',
    KONG_PROXY_LISTEN: '0.0.0.0:8000 reuseport backlog=16384, [::]:8443 ssl http2',
    KONG_ADMIN_LISTEN: '0.0.0.0:8444 ssl, 0.0.0.0:8001',
    KONG_STATUS_LISTEN: '0.0.0.0:8100',
    KONG_NGINX_WORKER_PROCESSES: '3',
    KONG_UPSTREAM_KEEPALIVE_POOL_SIZE: '128',
    KONG_UPSTREAM_KEEPALIVE_MAX_REQUESTS: '1000',
    KONG_PROXY_ACCESS_LOG: '/dev/stdout',
    KONG_ADMIN_ACCESS_LOG: '/dev/stdout',
    KONG_PROXY_ERROR_LOG: '/dev/stderr',
    KONG_LOG_LEVEL: 'notice',
  })
  expect(found.sluice).toEqual({
    listeners: [{ listen: '0.0.0.0:8000' }, { listen: '[::]:8443', tls: {} }],
    admin: { listen: '0.0.0.0:8001' },
    metrics: { listen: '0.0.0.0:8100' },
    workers: 3,
    log: { access: { format: 'common', path: 'stdout' }, level: 'info' },
  })
  expect(found.keepalive).toEqual({ size: 128, requests: 1000 })
  expect(found.errors).toEqual([])
  expect(found.warnings).toEqual([
    'KONG_PROXY_LISTEN: http2 at [::]:8443 has no effect, HTTP/1.1 is served',
    'KONG_DATABASE=postgres has no effect: there is no database, resources come from the file',
  ])
})

describe('what cannot be meant', () => {
  test.each([
    [{ KONG_PROXY_LISTEN: 'off' }, 'KONG_PROXY_LISTEN: "off" is not an address'],
    [{ KONG_PROXY_LISTEN: '0.0.0.0:80 quick' }, 'KONG_PROXY_LISTEN: "quick" is not understood'],
    [{ KONG_NGINX_WORKER_PROCESSES: 'many' }, 'KONG_NGINX_WORKER_PROCESSES=many is not a number'],
    [{ KONG_LOG_LEVEL: 'loud' }, 'KONG_LOG_LEVEL=loud is not a level'],
    [{ KONG_STATUS_LISTEN: '0.0.0.0:1 ssl' }, 'KONG_STATUS_LISTEN: only addresses with ssl are given'],
  ])('%o', (env, message) => {
    expect(read(env).errors).toEqual([message])
  })
})

test('an admin server without keys is not opened', () => {
  const { sluice, warnings } = read({ KONG_ADMIN_LISTEN: '0.0.0.0:8001' }, false)
  expect([sluice, warnings]).toEqual([{}, ['KONG_ADMIN_LISTEN opens nothing: the admin server needs keys']])
})

test('variables win field by field; listeners as a whole', () => {
  const section = { workers: 2, listeners: ['1.1.1.1:1'], metrics: { enabled: true, listen: 'x' }, router: { mode: 'priority' } }
  expect(overlaySluice(section, { listeners: [{ listen: 'y' }], metrics: { listen: 'z' } })).toEqual({
    workers: 2,
    listeners: [{ listen: 'y' }],
    metrics: { enabled: true, listen: 'z' },
    router: { mode: 'priority' },
  })
})

test('health asks the status address', () => {
  expect([
    statusAddress(undefined),
    statusAddress('off'),
    statusAddress('0.0.0.0:8100 reuseport'),
    statusAddress('[::]:81,1.1.1.1:2'),
  ]).toEqual([
    { host: '127.0.0.1', port: 9091 },
    { host: '127.0.0.1', port: 9091 },
    { host: '127.0.0.1', port: 8100 },
    { host: '::1', port: 81 },
  ])
})

test('the documentation has every variable with what it sets', () => {
  const page = readFileSync(new URL('../../docs/kong.md', import.meta.url), 'utf8')
  const missing = Object.entries(kongVariables).filter(([name, sets]) => !page.includes(`| \`${name}\` | ${sets} |`))
  expect(missing).toEqual([])
})
