/** The sections about the process, certificates, and user plugins in a configuration. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Value } from '@sinclair/typebox/value'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { latencyBoundsMs } from '../../src/base/latency-buckets.js'
import { checkConfiguration } from '../../src/controlplane/check.js'
import { loadConfiguration } from '../../src/controlplane/load.js'
import { formatIssue } from '../../src/controlplane/load-issue.js'
import { builtinPlugins } from '../../src/plugins/index.js'
import { PluginRegistry } from '../../src/plugins/registry.js'
import type { ProcessConfig } from '../../src/schema/process.js'
import { sluiceSchema } from '../../src/schema/sluice-section.js'
import { type PemPair, TestAuthority } from '../support/tls-certificates.js'

const folder = mkdtempSync(join(tmpdir(), 'sluice-process-'))
const file = join(folder, 'sluice.yaml')
const registry = PluginRegistry.of(builtinPlugins)
let pairs: { one: PemPair; other: PemPair }

beforeAll(async () => {
  const authority = await TestAuthority.create()
  pairs = { one: await authority.issue('a.test'), other: await authority.issue('b.test') }
  writeFileSync(join(folder, 'one.crt'), pairs.one.cert)
  writeFileSync(join(folder, 'one.key'), pairs.one.key)
  writeFileSync(join(folder, 'other.key'), pairs.other.key)
})
afterAll(() => rmSync(folder, { recursive: true }))

function load(document: object, nowMs = Date.parse('2000-01-01')) {
  writeFileSync(file, JSON.stringify(document))
  return loadConfiguration(file, {}, registry, { nowMs })
}

function settings(document: object): ProcessConfig {
  const result = load(document)
  if (!result.ok) throw new Error(result.errors.map(formatIssue).join('\n'))
  return result.config.process
}

/** `path: message` of each error. */
function errors(document: object): string[] {
  const result = load(document)
  return result.ok ? [] : result.errors.map((issue) => `${issue.path}: ${issue.message}`)
}

describe('settings of the process', () => {
  const defaults: ProcessConfig = {
    workers: 0,
    accept: 'auto',
    listeners: [{ host: '0.0.0.0', port: 9080, tls: null }],
    admin: null,
    metrics: { host: '127.0.0.1', port: 9091 },
    latencyBoundsMs,
    limits: {
      maxHeaderBytes: 65_536,
      maxHeaderCount: 48,
      maxTargetBytes: 16_384,
      maxBodyBytes: 0,
      maxBufferedBytes: 1_048_576,
      maxConnections: 65_536,
      bodyTimeoutMs: 60_000,
      sendTimeoutMs: 60_000,
      maxResponseHeaderBytes: 65_536,
    },
    log: { level: 'info', access: { format: 'off', path: 'stdout' } },
    plugins: [],
    realIp: { trustedAddresses: [], header: 'x-forwarded-for', recursive: false },
    router: { mode: 'radixtree_host_uri', path: { encodedSlash: 'keep', doubleSlash: 'merge', deleteTailSlash: false, servlet: false } },
    dns: { servers: [], ttlMs: 0, timeoutMs: 5_000 },
    drainTimeoutMs: 30_000,
    trustIdentityHeaders: false,
    pidFile: null,
    redis: null,
    store: { kind: 'file' },
    rateLimitTable: { keys: 1_000_000 },
    gatewayNodes: 1,
    parallelGc: false,
    overload: { maxLagMs: 0, maxMemoryBytes: 0, retryAfterSeconds: 1 },
    breakers: { webhook: null },
  }

  test('defaults', () => expect(settings({ routes: [] })).toEqual(defaults))

  test('the defaults that the schema documents are the ones that apply', () => {
    const documented = Value.Default(sluiceSchema, { limits: {}, log: { access: {} }, real_ip: {}, router: {}, dns: {}, metrics: {} })
    expect(settings({ sluice: documented })).toEqual(defaults)
  })

  test('everything said is used; files are relative to the configuration', () => {
    const given = settings({
      sluice: {
        workers: 3,
        accept: 'kernel',
        listeners: ['127.0.0.1:8080', '[::1]:81', '82', { listen: ':8443', tls: { cert: 'one.crt', key: 'one.key' } }],
        admin: {
          listen: '127.0.0.1:1234',
          keys: [
            { name: 'a', key: 'k1' },
            { name: 'b', key: 'k2', role: 'viewer' },
          ],
        },
        metrics: { enabled: false },
        limits: { max_body_size: 5, body_timeout: 1.5, max_header_size: 1000 },
        log: { level: 'warn', access: { format: 'json', path: 'access.log' } },
        real_ip: { trusted_addresses: ['10.0.0.0/8'], header: 'X-Real-IP', recursive: true },
        router: { mode: 'radixtree_uri', encoded_slash: 'reject', double_slash: 'keep' },
        dns: { servers: ['9.9.9.9', '[2620:fe::fe]:5353'], ttl: 2, timeout: 0.5 },
        drain_timeout: 0,
        trust_identity_headers: true,
        pid_file: 'run.pid',
      },
    })
    expect(given).toMatchObject({
      workers: 3,
      accept: 'kernel',
      listeners: [
        { host: '127.0.0.1', port: 8080, tls: null },
        { host: '::1', port: 81, tls: null },
        { host: '0.0.0.0', port: 82, tls: null },
        { host: '0.0.0.0', port: 8443, tls: { certFile: join(folder, 'one.crt'), keyFile: join(folder, 'one.key'), byServerName: [] } },
      ],
      admin: {
        host: '127.0.0.1',
        port: 1234,
        keys: [
          { name: 'a', key: 'k1', role: 'admin' },
          { name: 'b', key: 'k2', role: 'viewer' },
        ],
      },
      metrics: null,
      limits: { maxBodyBytes: 5, bodyTimeoutMs: 1500, maxHeaderBytes: 1000, maxHeaderCount: 48 },
      log: { level: 'warn', access: { format: 'json', path: join(folder, 'access.log') } },
      realIp: { trustedAddresses: ['10.0.0.0/8'], header: 'x-real-ip', recursive: true },
      router: { mode: 'radixtree_uri', path: { encodedSlash: 'reject', doubleSlash: 'keep' } },
      dns: { servers: ['9.9.9.9:53', '[2620:fe::fe]:5353'], ttlMs: 2000, timeoutMs: 500 },
      drainTimeoutMs: 0,
      trustIdentityHeaders: true,
      pidFile: join(folder, 'run.pid'),
    })
  })

  test('the names of the reference gateway mean the same; sluice wins', () => {
    const theirs = {
      apisix: {
        node_listen: [9000, { ip: '127.0.0.1', port: 9001 }],
        router: { http: 'radixtree_uri_with_parameter' },
        trusted_addresses: ['10.1.0.0/16'],
        delete_uri_tail_slash: true,
        normalize_uri_like_servlet: true,
        match_uri_encoded_slash: false,
      },
      nginx_config: {
        worker_processes: 2,
        http: { client_max_body_size: '2m', client_body_timeout: '5s', send_timeout: 7, real_ip_header: 'X-Y', real_ip_recursive: 'on' },
      },
      deployment: {
        role: 'data_plane',
        role_data_plane: { config_provider: 'yaml' },
        admin: { admin_key: [{ name: 'x', key: 'k' }], admin_listen: { port: 9999 } },
      },
    }
    expect(settings(theirs)).toMatchObject({
      workers: 2,
      listeners: [
        { host: '0.0.0.0', port: 9000 },
        { host: '127.0.0.1', port: 9001 },
      ],
      router: { mode: 'radixtree_uri_with_parameter', path: { encodedSlash: 'decode', deleteTailSlash: true, servlet: true } },
      realIp: { trustedAddresses: ['10.1.0.0/16'], header: 'x-y', recursive: true },
      limits: { maxBodyBytes: 2_097_152, bodyTimeoutMs: 5_000, sendTimeoutMs: 7_000 },
      admin: { host: '127.0.0.1', port: 9999, keys: [{ name: 'x', key: 'k', role: 'admin' }] },
    })
    expect(settings({ ...theirs, sluice: { workers: 5, limits: { send_timeout: 1 }, router: { encoded_slash: 'keep' } } })).toMatchObject({
      workers: 5,
      limits: { sendTimeoutMs: 1_000, maxBodyBytes: 2_097_152 },
      router: { mode: 'radixtree_uri_with_parameter', path: { encodedSlash: 'keep' } },
    })
  })

  const wrong: [string, object, string[]][] = [
    ['a port too high', { sluice: { listeners: ['1.2.3.4:70000'] } }, ['sluice.listeners[0]: expected port 70000 to be at most 65535']],
    [
      'a wrong trusted address',
      { sluice: { real_ip: { trusted_addresses: ['x'] } } },
      ['sluice.real_ip.trusted_addresses[0]: "x" is not an address'],
    ],
    [
      'one key twice',
      {
        sluice: {
          admin: {
            keys: [
              { name: 'a', key: 'k' },
              { name: 'b', key: 'k' },
            ],
          },
        },
      },
      ['sluice.admin.keys[1].key: the same key as that of entry 1'],
    ],
    ['a resolver by name', { sluice: { dns: { servers: ['dns.test:53'] } } }, ['sluice.dns.servers[0]: "dns.test" is not an address']],
    [
      'HTTP/2',
      { apisix: { node_listen: [{ port: 1, enable_http2: true }] } },
      ['apisix.node_listen[0].enable_http2: enable_http2 is not supported yet'],
    ],
    [
      'TLS without a certificate',
      { sluice: { listeners: [{ listen: '1.2.3.4:1', tls: {} }] } },
      ['sluice.listeners[0].tls: the TLS listener has no certificate'],
    ],
    ['TLS of the reference without ssls', { apisix: { ssl: { listen: [9443] } } }, ['apisix.ssl: the TLS listener has no certificate']],
    [
      'a certificate without its key',
      { sluice: { listeners: [{ listen: '1', tls: { cert: 'one.crt' } }] } },
      ['sluice.listeners[0].tls: property "key" is required'],
    ],
    [
      'a key of another certificate',
      { sluice: { listeners: [{ listen: '1', tls: { cert: 'one.crt', key: 'other.key' } }] } },
      ['sluice.listeners[0].tls.key: failed to handle cert-key pair[1]: the key does not belong to the certificate'],
    ],
  ]
  test.each(wrong)('%s', (_name, document, expected) => expect(errors(document)).toEqual(expected))

  test('a certificate file that is not there', () => {
    expect(errors({ sluice: { listeners: [{ listen: '1', tls: { cert: 'none.crt', key: 'one.key' } }] } })).toEqual([
      `sluice.listeners[0].tls.cert: the file ${join(folder, 'none.crt')} cannot be read (ENOENT)`,
    ])
  })
})

describe('ssls', () => {
  const ssl = (fields: object) => ({ apisix: { ssl: {} }, ssls: [{ snis: ['A.test', '*.a.test'], ...pairs.one, ...fields }] })

  test('reach the TLS listeners', () => {
    const given = settings(ssl({}))
    expect(given.listeners[1]).toEqual({
      host: '0.0.0.0',
      port: 9443,
      tls: { certFile: '', keyFile: '', byServerName: [{ names: ['a.test', '*.a.test'], cert: pairs.one.cert, key: pairs.one.key }] },
    })
  })
  test('status 0 is ignored', () => {
    expect(errors(ssl({ status: 0 }))).toEqual(['apisix.ssl: the TLS listener has no certificate'])
  })
  test('a key of another certificate, and texts that are none', () => {
    expect(errors(ssl({ key: pairs.other.key }))).toEqual([
      'ssls[0].key: failed to handle cert-key pair[1]: the key does not belong to the certificate',
    ])
    expect(errors(ssl({ cert: 'x' }))).toEqual(['ssls[0].cert: failed to parse cert: it is not a PEM certificate'])
    expect(errors(ssl({ key: 'x' }))).toEqual(['ssls[0].key: failed to parse key: it is not an unencrypted PEM private key'])
  })
  test('names: one of sni and snis, each once', () => {
    expect(errors(ssl({ sni: 'b.test' }))).toEqual(['ssls[0]: only one of sni or snis is allowed'])
    const twice = {
      ssls: [
        { sni: 'a.test', ...pairs.one },
        { sni: 'A.test', ...pairs.one },
      ],
    }
    expect(errors(twice)).toEqual(['ssls[1]: server name a.test is there twice'])
  })
  test('what is not built yet is refused', () => {
    expect(errors(ssl({ client: { ca: 'x' }, certs: [], ssl_protocols: ['TLSv1.3'], type: 'client' })).sort()).toEqual([
      'ssls[0].certs: ssl option certs is not supported yet',
      'ssls[0].client: ssl option client is not supported yet',
      'ssls[0].ssl_protocols: ssl option ssl_protocols is not supported yet',
      'ssls[0].type: ssl type client is not supported yet',
    ])
  })
  test('a certificate out of its time is a warning', () => {
    const late = load(ssl({}), Date.parse('2100-01-01'))
    expect([late.ok, late.warnings.map((issue) => issue.path)]).toEqual([true, ['ssls[0].cert']])
    expect(late.warnings[0]?.message).toMatch(/^the certificate expired on .*; it is still served$/)
  })
})

describe('user plugins', () => {
  const check = async (document: object): Promise<string[]> => {
    writeFileSync(file, JSON.stringify(document))
    const result = await checkConfiguration(file, {})
    return result.ok ? [] : result.errors.map((issue) => `${issue.path}: ${issue.message}`)
  }
  const module = (name: string) =>
    `const part = () => []
export const plugin = { name: '${name}', priority: 1, description: 'x', schema: { type: 'object', properties: { a: { type: 'integer', default: 4 } } }, check: part, prepare: (conf) => conf, link: () => ({}) }`

  test('are loaded relative to the file and checked like built-in ones', async () => {
    writeFileSync(join(folder, 'mine.mjs'), module('mine'))
    const document = (a: unknown) => ({ sluice: { plugins: ['mine.mjs'] }, routes: [{ uri: '/', plugins: { mine: { a } } }] })
    expect(await check(document(1))).toEqual([])
    expect(await check(document('x'))).toEqual(['routes[0].plugins.mine.a: wrong type: expected integer, got string'])
  })
  test('missing, broken, without plugin, clashing names: an error at the entry', async () => {
    writeFileSync(join(folder, 'broken.mjs'), 'export const plugin = {')
    writeFileSync(join(folder, 'empty.mjs'), 'export const other = 1')
    writeFileSync(join(folder, 'clash.mjs'), module('cors'))
    writeFileSync(join(folder, 'twin.mjs'), module('mine'))
    const found = await check({ sluice: { plugins: ['none.mjs', 'broken.mjs', 'empty.mjs', 'clash.mjs', 'mine.mjs', 'twin.mjs'] } })
    const here = (name: string) => join(folder, name)
    expect(found).toEqual([
      `sluice.plugins[0]: ${here('none.mjs')}: there is no such plugin file`,
      expect.stringContaining(`sluice.plugins[1]: ${here('broken.mjs')}: the plugin does not load: `),
      `sluice.plugins[2]: ${here('empty.mjs')}: the module exports no \`plugin\``,
      `sluice.plugins[3]: ${here('clash.mjs')}: the name "cors" is taken by a plugin that comes with the gateway`,
      `sluice.plugins[5]: ${here('twin.mjs')}: the name "mine" is taken by another entry`,
    ])
  })

  test.skipIf('typescript' in process.features && Boolean(process.features.typescript))(
    'TypeScript is refused with advice where Node cannot load it',
    async () => {
      writeFileSync(join(folder, 'typed.ts'), 'export const plugin: object = {}')
      expect((await check({ sluice: { plugins: ['typed.ts'] } })).join()).toContain('does not load TypeScript')
    },
  )
})

test('certificates of the admin server without HTTPS are warned about', () => {
  const warnings = (admin: object) => load({ deployment: { admin } }).warnings.map(({ path }) => path)
  expect(warnings({ admin_api_mtls: { admin_ssl_cert: 'a.pem' } })).toEqual(['deployment.admin.admin_api_mtls'])
  expect(warnings({ admin_api_mtls: {} })).toEqual([])
  expect(errors({ deployment: { admin: { https_admin: true } } }).join()).toContain('"admin_ssl_cert" is required')
})

test('bounds of latencies: a list with values below 1 is in seconds, unless it is said otherwise', () => {
  const read = (prometheus: object) => {
    const document = { plugin_attr: { prometheus } }
    return [settings(document).latencyBoundsMs, load(document).warnings.map(({ path }) => path)]
  }
  const path = 'plugin_attr.prometheus.default_buckets'
  const seconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
  expect(read({ default_buckets: seconds })).toEqual([[5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000], [path]])
  expect(read({ default_buckets: seconds, latency_unit: 'ms' })).toEqual([seconds, []])
  expect(read({ default_buckets: [15, 500] })).toEqual([[15, 500], []])
  expect(read({})).toEqual([latencyBoundsMs, []])
  for (const default_buckets of [[], [0], [5, 5], [5, 1], Array.from({ length: 16 }, (_, index) => index + 1)])
    expect(errors({ plugin_attr: { prometheus: { default_buckets } } }), JSON.stringify(default_buckets)).toHaveLength(1)
})

test('the prometheus plugin may say where metrics are, the section sluice beats it, and what has no effect is said', () => {
  const plugin_attr = { prometheus: { export_addr: { ip: '0.0.0.0', port: 9100 } } }
  expect(settings({ plugin_attr }).metrics).toEqual({ host: '0.0.0.0', port: 9100 })
  expect(settings({ plugin_attr, sluice: { metrics: { listen: '127.0.0.1:1' } } }).metrics).toEqual({ host: '127.0.0.1', port: 1 })
  expect(settings({ plugin_attr: { prometheus: {} } }).metrics).toEqual({ host: '127.0.0.1', port: 9091 })
  expect(errors({ plugin_attr: { prometheus: { export_uri: '/elsewhere', enable_export_server: false } } })).toHaveLength(2)
  const idle = load({ plugin_attr: { prometheus: { refresh_interval: 15 } } })
  expect(idle.warnings.map(({ path }) => path)).toEqual(['plugin_attr.prometheus.refresh_interval'])
})
