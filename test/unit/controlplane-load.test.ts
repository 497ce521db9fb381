/** Loading: every kind of error with its exact place, several at once, the environment, and that no text makes it throw. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { checkConfiguration } from '../../src/controlplane/check.js'
import type { Environment } from '../../src/controlplane/environment.js'
import { loadConfiguration, loadSource } from '../../src/controlplane/load.js'
import { formatIssue } from '../../src/controlplane/load-issue.js'
import { SourceDocument } from '../../src/controlplane/load-source.js'
import type { LoadResult } from '../../src/controlplane/load-types.js'
import { builtinPlugins } from '../../src/plugins/index.js'
import { PluginRegistry } from '../../src/plugins/registry.js'

const registry = PluginRegistry.of(builtinPlugins)
const folder = mkdtempSync(join(tmpdir(), 'sluice-load-'))
afterAll(() => rmSync(folder, { recursive: true }))

function load(text: string, env: Environment = {}): LoadResult {
  const read = SourceDocument.parse('f', text, env)
  return read.ok ? loadSource(read.source, registry, { nowMs: 0 }) : { ok: false, errors: read.errors, warnings: [] }
}

function errors(text: string, env: Environment = {}): string[] {
  const result = load(text, env)
  return result.ok ? [] : result.errors.map(formatIssue)
}

/** Place and message of each error, without what was expected. */
function short(text: string, env: Environment = {}): string[] {
  const result = load(text, env)
  return result.ok ? [] : result.errors.map((issue) => `${issue.line}:${issue.col} ${issue.path}: ${issue.message}`)
}

function warnings(text: string): string[] {
  return load(text).warnings.map((issue) => `${issue.line}:${issue.col} ${issue.path}: ${issue.message}`)
}

const node = 'upstream: { nodes: { "127.0.0.1:80": 1 } }'

test('patterns are checked for the router that will read them', () => {
  const routes = (http: string) => `apisix: { router: { http: ${http} } }
routes:
  - uris: [/a/:id/:id, /a/*/b, "/a/:", /a%20b]
    ${node}
`
  expect(short(routes('radixtree_uri_with_parameter'))).toEqual([
    '3:12 routes[0].uris[0]: "/a/:id/:id": the name "id" is used twice; captured values would overwrite each other',
    '3:24 routes[0].uris[1]: "/a/*/b": * matches the rest of the path, so nothing may follow "*"',
    '3:32 routes[0].uris[2]: "/a/:": ":" has no valid name; expected letters, digits and _, for example :id',
  ])
  expect(warnings(routes('radixtree_uri_with_parameter'))).toEqual([expect.stringMatching(/^3:40 .*"\/a%20b": no request can match/)])
  expect(short(routes('radixtree_uri'))).toEqual([])
  expect(warnings(routes('radixtree_uri')).map((text) => text.split(' ')[1])).toEqual([0, 1, 3].map((index) => `routes[0].uris[${index}]:`))
})

describe('the file', () => {
  test('missing, a folder, not text: one issue without a line', () => {
    const read = (path: string) => {
      const result = loadConfiguration(path, {}, registry)
      return result.ok ? [] : result.errors.map(formatIssue)
    }
    const missing = join(folder, 'missing.yaml')
    const binary = join(folder, 'binary.yaml')
    writeFileSync(binary, Buffer.from([0xff, 0xfe, 0x00, 0x80]))
    expect(read(missing)).toEqual([`${missing}: the file does not exist; expected a readable YAML or JSON file`])
    expect(read(folder)).toEqual([`${folder}: it is a folder, not a file; expected a readable YAML or JSON file`])
    expect(read(binary)).toEqual([`${binary}: the file is not UTF-8 text; expected a readable YAML or JSON file`])
  })

  const cases: [string, string, string[]][] = [
    ['empty', '', ['1:1 : the file is empty']],
    ['a list', '- 1\n', ['1:1 : wrong type: expected object, got array']],
    ['a repeated key', 'routes: []\nroutes: []\n', ['2:1 : the key is there twice']],
    ['two documents', 'routes: []\n---\nroutes: []\n', ['2:1 : the file holds several YAML documents']],
    [
      'a Kong file of another version',
      '_format_version: "9.0"\nservices: []\n',
      ['1:18 _format_version: format version "9.0" is not supported'],
    ],
  ]
  test.each(cases)('%s', (_name, text, expected) => expect(short(text)).toEqual(expected))

  test('a tab and an unclosed bracket are syntax errors with their place', () => {
    expect(short('routes:\n\t- uri: /a\n').join()).toMatch(/^2:1 : (a tab is used as indentation|YAML syntax error)/)
    expect(short('routes: [\n').join()).toMatch(/^2:1 : YAML syntax error/)
  })

  test('an alias bomb is refused', () => {
    const level = (name: string, below: string) => `${name}: &${name} [${Array.from({ length: 10 }, () => `*${below}`).join(', ')}]`
    const bomb = ['a: &a [x]', level('b', 'a'), level('c', 'b'), level('d', 'c'), level('e', 'd')].join('\n')
    expect(short(bomb).join()).toMatch(/aliases cannot be resolved/)
  })

  test('deep nesting is an error, not a crash', () => {
    expect(short(`a: ${'['.repeat(100_000)}`).length).toBeGreaterThan(0)
  })

  test('#END is allowed and not needed; JSON is read; merge keys work', () => {
    expect(errors(`routes: [{ uri: /a, ${node} }]\n#END\n`)).toEqual([])
    expect(errors('{"routes":[{"uri":"/a","upstream":{"nodes":{"127.0.0.1:80":1}}}]}')).toEqual([])
    expect(errors(`routes:\n  - &base { id: x, uri: /a, ${node} }\n  - { <<: *base, id: y, uri: /b }\n`)).toEqual([])
  })
})

describe('errors of the schema, each at its place', () => {
  const cases: [string, string[]][] = [
    [
      'rotes: []',
      [
        'f:1:1: rotes: additional properties forbidden, found rotes; expected one of routes, services, upstreams, plugin_configs, global_rules, plugin_metadata, ssls, consumers, credentials, consumer_groups, protos, sluice, apisix, nginx_config, deployment, plugin_attr, plugins; did you mean "routes"?',
      ],
    ],
    ['routes: {}\nupstreams: { a: 1 }', ['f:2:12: upstreams: wrong type: expected array, got object; expected a list of upstreams']],
    ['routes: [7]', ['f:1:10: routes[0]: wrong type: expected object, got integer; expected one route']],
    [
      'upstreams: [{ id: u, nodes: {}, retries: 5000 }]',
      ['f:1:42: upstreams[0].retries: expected 5000 to be at most 1000; expected integer from 0 to 1000'],
    ],
    [
      'upstreams: [{ id: u, nodes: {}, retries: -1 }]',
      ['f:1:42: upstreams[0].retries: expected -1 to be at least 0; expected integer from 0 to 1000'],
    ],
    [
      'upstreams: [{ id: u, nodes: {}, timeout: { read: 0 } }]',
      ['f:1:50: upstreams[0].timeout.read: expected 0 to be greater than 0; expected number above 0, up to 86400'],
    ],
    [
      'upstreams: [{ id: u, nodes: {}, type: rondrobin }]',
      [
        'f:1:39: upstreams[0].type: "rondrobin" matches none of the enum values; expected one of roundrobin, chash, least_conn, ewma, random; did you mean "roundrobin"?',
      ],
    ],
    [
      'upstreams: [{ id: u, nodes: [{ host: a, wieght: 1, weight: 1 }] }]',
      [
        'f:1:41: upstreams[0].nodes[0].wieght: additional properties forbidden, found wieght; expected one of host, port, weight, priority, metadata; did you mean "weight"?',
      ],
    ],
    ['upstreams: [{ id: u, nodes: 5 }]', ['f:1:29: upstreams[0].nodes: wrong type: got integer; expected object or array']],
    [
      'upstreams: [{ id: "a b", nodes: {} }]',
      [
        'f:1:19: upstreams[0].id: failed to match pattern "^[a-zA-Z0-9_.-]+$" with "a b"; expected string of 1 to 64 characters matching ^[a-zA-Z0-9_.-]+$',
      ],
    ],
    [
      'routes: [{ uri: "", plugins: {} }]',
      ['f:1:17: routes[0].uri: string too short, expected at least 1, got 0; expected string of 1 to 4096 characters'],
    ],
    [
      'routes: [{ uris: [], plugins: {} }]',
      ['f:1:18: routes[0].uris: expect array to have at least 1 items; expected array of string of 1 to 4096 characters, at least 1 items'],
    ],
    [
      'routes: [{ uri: /a, methods: [GET, PUT, GET], plugins: {} }]',
      [
        'f:1:30: routes[0].methods: expected unique items but items 1 and 3 are equal; expected array of one of GET, POST, PUT, DELETE, PATCH, HEAD, OPTIONS, CONNECT, TRACE, PURGE',
      ],
    ],
    [
      'routes: [{ uri: /a, status: 2, plugins: {} }]',
      ['f:1:29: routes[0].status: 2 matches none of the enum values; expected one of 0, 1'],
    ],
    [
      'routes: [{ uri: /a, priority: high, plugins: {} }]',
      ['f:1:31: routes[0].priority: wrong type: expected integer, got string; expected integer'],
    ],
    ['sluice: { workers: 9999 }', ['f:1:20: sluice.workers: expected 9999 to be at most 512; expected integer from 0 to 512']],
    [
      'sluice: { admin: { keys: [] } }',
      ['f:1:26: sluice.admin.keys: expect array to have at least 1 items; expected array of at least 1 items'],
    ],
  ]
  test.each(cases)('%s', (text, expected) => expect(errors(text)).toEqual(expected))
})

describe('rules across fields', () => {
  const route = (fields: string) => `routes:\n  - { ${fields} }`
  const cases: [string, string[]][] = [
    [route('uri: /a'), ['2:5 routes[0]: the route has nothing to do']],
    [route(node), ['2:5 routes[0]: property "uri" is required']],
    [route(`uri: /a, uris: [/b], ${node}`), ['2:5 routes[0]: only one of uri or uris is allowed']],
    [route(`uri: /a, host: a, hosts: [b], ${node}`), ['2:5 routes[0]: only one of host or hosts is allowed']],
    [
      route(`uri: /a, remote_addr: 1.2.3.4, remote_addrs: ["::1"], ${node}`),
      ['2:5 routes[0]: only one of remote_addr or remote_addrs is allowed'],
    ],
    [
      route(`uri: /a, vars: [[arg_x, "=", 1]], ${node}`),
      ["2:22 routes[0].vars: failed to validate the 'vars' expression: invalid operator '='"],
    ],
    [route('uri: /a, upstream_id: 9'), ['2:29 routes[0].upstream_id: failed to fetch upstream info by upstream id [9]']],
    [route('uri: /a, service_id: s'), ['2:28 routes[0].service_id: failed to fetch service info by service id [s]']],
    [
      route('uri: /a, plugin_config_id: p'),
      ['2:34 routes[0].plugin_config_id: failed to fetch plugin config info by plugin config id [p]'],
    ],
    [route('uri: /a, upstream: { type: roundrobin }'), ['2:26 routes[0].upstream: property "nodes" is required']],
    [
      route('uri: /a, upstream: { nodes: { "::1": 1 } }'),
      ["2:37 routes[0].upstream.nodes[\"::1\"]: IPv6 address must be enclosed with '[' and ']'"],
    ],
    [
      route('uri: /a, upstream: { nodes: {}, pass_host: rewrite }'),
      ["2:50 routes[0].upstream.pass_host: `upstream_host` can't be empty when `pass_host` is `rewrite`"],
    ],
    [`routes: [{ id: x, uri: /a, ${node} }, { id: x, uri: /b, ${node} }]`, ['1:80 routes[1].id: found duplicate id x in routes']],
    [`routes: [{ uri: /a, ${node} }, { id: arr_1, uri: /b, ${node} }]`, ['1:73 routes[1].id: found duplicate id arr_1 in routes']],
    [
      'global_rules: [{ id: g, plugins: { cors: {} } }, { id: h, plugins: { cors: {} } }]',
      ['1:70 global_rules[1].plugins.cors: plugin cors is in global rule g and in global rule h'],
    ],
  ]
  test.each(cases)('%s', (text, expected) => expect(short(text)).toEqual(expected))

  test('addresses say what would be right', () => {
    expect(short(route(`uri: /a, remote_addr: 300.1.1.1, ${node}`))[0]).toMatch(
      /^2:29 routes\[0\]\.remote_addr: "300\.1\.1\.1" is not an address$/,
    )
    expect(short(route(`uri: /a, remote_addrs: [10.0.0.0/33], ${node}`))[0]).toMatch(
      /^2:31 routes\[0\]\.remote_addrs\[0\]: "10\.0\.0\.0\/33" has no valid prefix/,
    )
  })

  test('an id may be a number or its text', () => {
    expect(errors('upstreams: [{ id: 1, nodes: {} }]\nroutes: [{ uri: /a, upstream_id: "1" }]')).toEqual([])
  })

  test('null is the same as absent', () => {
    expect(errors(`routes: [{ uri: /a, host: null, service_id: null, ${node} }]\nservices: null`)).toEqual([])
  })
})

describe('refused by name', () => {
  const upstream = (fields: string) => `upstreams: [{ id: u, nodes: {}, ${fields} }]`
  const cases: [string, string][] = [
    [upstream('checks: { passive: {} }'), 'upstreams[0].checks: object matches none of the required: ["active"] or ["active","passive"]'],
    [upstream('scheme: grpc'), 'upstreams[0].scheme: upstream scheme grpc is not supported yet'],
    [upstream('service_name: x'), 'upstreams[0].service_name: upstream option service_name is not supported yet'],
    [upstream('discovery_type: dns'), 'upstreams[0].discovery_type: upstream option discovery_type is not supported yet'],
    [upstream('tls: { client_cert_id: 1 }'), 'upstreams[0].tls.client_cert_id: upstream option tls.client_cert_id is not supported yet'],
    [`routes: [{ uri: /a, enable_websocket: true, ${node} }]`, 'routes[0].enable_websocket: enable_websocket is not supported yet'],
    [`routes: [{ uri: /a, script: x, ${node} }]`, 'routes[0].script: route option script (Lua) is not supported'],
    ['protos: [{ id: 1, content: x }]', 'protos: protos are not supported yet'],
    ['stream_routes: [{ id: 1 }]', 'stream_routes: stream_routes are not supported yet'],
    ['secrets: [{ id: 1 }]', 'secrets: secrets are not supported yet'],
    ['apisix: { proxy_cache: {} }', 'apisix.proxy_cache: apisix.proxy_cache is not supported yet'],
    ['nginx_config: { http: { upstream: {} } }', 'nginx_config.http.upstream: nginx_config.http.upstream is not supported yet'],
    [
      'deployment: { etcd: { host: ["http://127.0.0.1:2379"], startup_retry: 2 } }',
      'deployment.etcd.startup_retry: deployment.etcd.startup_retry is not supported yet',
    ],
    ['routes: [{ uri: /a, plugins: { ldap-auth: {} } }]', 'routes[0].plugins.ldap-auth: plugin ldap-auth is not supported yet'],
    [
      'routes: [{ uri: /a, plugins: { cors: { _meta: { pre_function: x } } } }]',
      'routes[0].plugins.cors._meta.pre_function: _meta.pre_function (a Lua function) is not supported',
    ],
    ['plugin_attr: { cors: {} }', 'plugin_attr.cors: plugin cors takes no attributes'],
  ]
  test.each(cases)('%s', (text, expected) => expect(short(text).map((line) => line.replace(/^\S+ /, ''))).toContain(expected))
  test('empty lists of kinds that are not built yet are fine', () =>
    expect(errors('consumers: []\nprotos: null\nstream_routes: []')).toEqual([]))
})

describe('plugins', () => {
  const plugins = (text: string) => `routes:\n  - uri: /a\n    plugins: ${text}`
  test('unknown: error with suggestion', () => {
    expect(errors(plugins('{ crs: {} }'))).toEqual([
      'f:3:16: routes[0].plugins.crs: unknown plugin [crs]; expected the name of a plugin; did you mean "cors"?',
    ])
  })
  test('unknown option: warning with suggestion, the rest loads', () => {
    const text = plugins('{ cors: { alow_origins: "*", max_age: 7 } }')
    expect(errors(text)).toEqual([])
    expect(warnings(text)).toEqual([
      '3:24 routes[0].plugins.cors.alow_origins: unknown option "alow_origins" of plugin cors, it has no effect',
    ])
    expect(load(text).warnings[0]?.suggestion).toBe('allow_origins')
  })
  test('wrong option and wrong _meta are errors', () => {
    expect(short(plugins('{ cors: { max_age: x, _meta: { disabled: true } } }'))).toEqual([
      '3:33 routes[0].plugins.cors.max_age: wrong type: expected integer, got string',
      '3:45 routes[0].plugins.cors._meta.disabled: additional properties forbidden, found disabled',
    ])
  })
  test('a filter that is no expression', () => {
    expect(short(plugins('{ cors: { _meta: { filter: [[x, "<>", 1]] } } }'))[0]).toContain(
      "_meta.filter: failed to validate the 'vars' expression: invalid operator '<>'",
    )
  })
  test('the list `plugins` limits what may be used', () => {
    expect(short(`plugins: [cors, ldap-auth]\n${plugins('{ echo: { body: x } }')}`)).toEqual([
      '4:16 routes[0].plugins.echo: plugin echo is not enabled',
    ])
    expect(errors(`plugins: [cors, nonsense]`)[0]).toContain('unknown plugin [nonsense]')
    expect(warnings('plugins: [cors, ldap-auth]')).toEqual([
      '1:17 plugins[1]: plugin ldap-auth is not supported yet, the entry has no effect',
    ])
  })
})

describe('plugin_metadata', () => {
  test('belongs to a plugin that takes some, and is checked', () => {
    expect(short('plugin_metadata: [{ id: gzip }]')).toEqual(['1:25 plugin_metadata[0].id: plugin gzip takes no metadata'])
    expect(short('plugin_metadata: [{ id: crs }]')).toEqual(['1:25 plugin_metadata[0].id: unknown plugin [crs]'])
    expect(short('plugin_metadata: [{ x: 1 }]')).toEqual(['1:19 plugin_metadata[0]: property "id" is required'])
    expect(errors('plugin_metadata: [{ id: cors, allow_origins: { one: "https://a.test" } }]')).toEqual([])
    expect(short('plugin_metadata: [{ id: cors, allow_origins: 5 }]')).toEqual([
      '1:46 plugin_metadata[0].allow_origins: wrong type: expected object, got integer',
    ])
  })
})

test('all errors at once, in the order of the file', () => {
  const text = `
upstreams:
  - id: u
    type: chash
    nodes: { "a:99999": 1 }
routes:
  - uri: /a
    upstream_id: x
    plugins: { nothing-like-it: {}, ldap-auth: {} }
  - hosts: [a, a]
sluice: { workers: -1 }
nonsense: 1
`
  expect(short(text).map((line) => line.split(': ')[0])).toEqual([
    '3:5 upstreams[0]',
    '5:14 upstreams[0].nodes["a:99999"]',
    '8:18 routes[0].upstream_id',
    '9:16 routes[0].plugins.nothing-like-it',
    '9:37 routes[0].plugins.ldap-auth',
    '10:12 routes[1].hosts',
    '11:20 sluice.workers',
    '12:1 nonsense',
  ])
})

test('secrets never stand in a message', () => {
  const text =
    'sluice: { admin: { keys: [{ name: a, key: [hunter2], role: hunter2 }] } }\nssls: [{ sni: a.com, cert: hunter2, key: hunter2 }]\nroutes: [{ uri: /a, plugins: { csrf: { key: { a: hunter2 } } } }]'
  const lines = errors(text)
  expect(lines.length).toBeGreaterThanOrEqual(3)
  expect(lines.filter((line) => line.includes('hunter2') && !line.includes('role'))).toEqual([])
})

test('what only prepare finds is reported together with the rest', async () => {
  const file = join(folder, 'both.yaml')
  const split = 'traffic-split: { rules: [{ weighted_upstreams: [{ upstream_id: 7 }] }] }'
  writeFileSync(file, `routes:\n  - { uri: /a, plugins: { ${split} }, ${node} }\n  - { uri: /b }\n`)
  const result = await checkConfiguration(file, {})
  expect(result.ok ? [] : result.errors.map((issue) => `${issue.line} ${issue.path}: ${issue.message}`)).toEqual([
    '2 routes[0].plugins.traffic-split: failed to fetch upstream info by upstream id [7]',
    '3 routes[1]: the route has nothing to do',
  ])
})

test('checkConfiguration loads, compiles and lays flags over the file', async () => {
  const file = join(folder, 'whole.yaml')
  writeFileSync(file, `sluice: { listeners: ["127.0.0.1:0"] }\nroutes: [{ uri: /a, ${node} }]\n`)
  const result = await checkConfiguration(file, {}, { adjust: (settings) => ({ ...settings, workers: 3 }) })
  expect(result.ok && { workers: result.process.workers, routes: result.compiled.routes.length }).toEqual({ workers: 3, routes: 1 })
})
