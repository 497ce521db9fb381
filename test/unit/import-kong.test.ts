/** Kong files in our words: what becomes of entities, and where errors point. */
import { describe, expect, test } from 'vitest'
import { loadSource } from '../../src/controlplane/load.js'
import { SourceDocument } from '../../src/controlplane/load-source.js'
import { builtinPlugins } from '../../src/plugins/index.js'
import { PluginRegistry } from '../../src/plugins/registry.js'

const registry = PluginRegistry.of(builtinPlugins)

function load(text: string) {
  const parsed = SourceDocument.parse('kong.yml', text, {})
  if (!parsed.ok) throw new Error(parsed.errors.map((error) => error.message).join())
  return loadSource(parsed.source, registry)
}

/** `line:col path: message` of each error. */
function errorsOf(text: string): string[] {
  const result = load(text)
  return result.ok ? [] : result.errors.map((error) => `${error.line}:${error.col} ${error.path}: ${error.message}`)
}

function translationOf(text: string): { readonly [kind: string]: readonly { readonly [field: string]: unknown }[] } {
  const result = load(text)
  if (!result.ok) throw new Error(result.errors.map((error) => `${error.line}:${error.col} ${error.path}: ${error.message}`).join('\n'))
  return result.config.source.value as ReturnType<typeof translationOf>
}

function warningsOf(text: string): string[] {
  const result = load(text)
  return result.ok ? result.warnings.map(({ message }) => message) : []
}

const head = '_format_version: "3.0"\n'

test('a file of plugins alone is read without its first line, with a warning', () => {
  const plugins = 'plugins:\n- name: rate-limiting\n  config: {minute: 5}\n'
  expect(translationOf(plugins)['global_rules']).toHaveLength(1)
  expect(warningsOf(plugins)).toContain('read as a Kong file, which has to begin with _format_version for Kong')
  expect(errorsOf('plugins:\n- name: acme\n  config: {}\n')).toEqual(['2:9 plugins[0].name: plugin acme is not supported yet'])
  // Beside what only our own form has it stays an error that says what to do.
  expect(errorsOf(`routes: []\n${plugins}`)).toEqual(["2:1 plugins: these are plugins in Kong's form"])
})

describe('errors point into the Kong file', () => {
  test.each([
    ['an unknown entity', 'servces: []\n', ['2:1 servces: unknown field']],
    ['an entity without a counterpart', 'vaults: [{name: env, prefix: a}]\n', ["2:1 vaults: Kong's vaults are not supported"]],
    [
      'an unknown field',
      'services:\n- name: a\n  url: http://a\n  foo: 1\n',
      ['5:3 services[0].foo: additional properties forbidden, found foo'],
    ],
    ['a wrong reference', 'routes:\n- name: r\n  paths: [/]\n  service: b\n', ['5:12 routes[0].service: there is no service "b"']],
    ['a plugin without a counterpart', 'plugins:\n- name: zorg\n', ["3:9 plugins[0].name: Kong's plugin zorg has no counterpart here"]],
    ['a plugin that is not built yet', 'plugins:\n- name: acme\n', ['3:9 plugins[0].name: plugin acme is not supported yet']],
    [
      'a fault that our own checks find',
      'services:\n- name: a\n  url: http://a\n  plugins:\n  - name: rate-limiting\n    config:\n      minute: 5\n      policy: cluster9\n',
      ['9:15 services[0].plugins[0].config.policy: '],
    ],
    [
      'a target without a port number',
      'upstreams:\n- name: u\n  targets:\n  - target: "a:b:c"\n',
      ['5:13 upstreams[0].targets[0].target: Invalid target "a:b:c"'],
    ],
    ['no criteria', 'routes:\n- name: r\n', ["3:3 routes[0]: must set one of 'methods'"]],
    [
      'a name that is taken',
      'services:\n- {name: a, url: "http://a"}\n- {name: a, url: "http://b"}\n',
      ['4:3 services[1]: uniqueness violation: service "a" is there twice'],
    ],
    [
      'two plugins in one scope',
      'plugins:\n- name: cors\n- name: cors\n',
      ['4:3 plugins[1]: plugin cors is there twice in the same scope'],
    ],
  ])('%s', (_, text, wanted) => {
    const found = errorsOf(head + text)
    expect(found.length).toBe(wanted.length)
    for (const [index, start] of wanted.entries()) expect(found[index]?.startsWith(start), `${found[index]}`).toBe(true)
  })

  test('all of them at once', () => {
    expect(errorsOf(`${head}servces: []\nroutes:\n- name: r\nplugins:\n- name: acme\n`).length).toBe(3)
  })
})

describe('entities', () => {
  test('a service with its url, timeouts and defaults', () => {
    const { services, upstreams } = translationOf(
      `${head}services:\n- name: a\n  url: https://a.test/base\n  read_timeout: 5000\n  tls_verify: true\n`,
    )
    expect(services).toEqual([{ id: 'a', name: 'a', upstream_id: 'a' }])
    expect(upstreams).toEqual([
      {
        id: 'a',
        name: 'a',
        scheme: 'https',
        retries: 5,
        timeout: { connect: 60, send: 60, read: 5 },
        pass_host: 'node',
        tls: { verify: true },
        nodes: [{ host: 'a.test', port: 443, weight: 1 }],
      },
    ])
  })

  test('targets keep their weights, the last of the same name counts, and 8000 is the default port', () => {
    const targets =
      '[{target: "10.0.0.1:80", weight: 5}, {target: "10.0.0.1:80", weight: 7}, {target: 10.0.0.2}, {target: "[::1]:90", weight: 0}]'
    const { upstreams } = translationOf(`${head}services: [{name: a, host: u}]\nupstreams:\n- name: u\n  targets: ${targets}\n`)
    expect(upstreams?.[0]?.['nodes']).toEqual([
      { host: '10.0.0.1', port: 80, weight: 7 },
      { host: '10.0.0.2', port: 8000, weight: 100 },
      { host: '[::1]', port: 90, weight: 0 },
    ])
  })

  test('health checks: what is not said is off, as in Kong', () => {
    const active =
      '{http_path: /h, headers: {X-A: ["1", "2"]}, healthy: {interval: 5, successes: 3}, unhealthy: {interval: 2, http_failures: 4}}'
    const text = (checks: string) =>
      `${head}services: [{name: a, host: u}]\nupstreams:\n- name: u\n  targets: [{target: 10.0.0.1}]\n  healthchecks: ${checks}\n`
    expect(translationOf(text(`{active: ${active}, passive: {unhealthy: {timeouts: 2}}}`))['upstreams']?.[0]?.['checks']).toEqual({
      active: {
        http_path: '/h',
        req_headers: ['X-A: 1', 'X-A: 2'],
        healthy: { interval: 5, successes: 3 },
        unhealthy: { interval: 2, http_failures: 4, tcp_failures: 0, timeouts: 0 },
      },
      passive: { healthy: { successes: 0 }, unhealthy: { http_failures: 0, tcp_failures: 0, timeouts: 2 } },
    })
    expect(translationOf(text('{active: {healthy: {interval: 0}}}'))['upstreams']?.[0]?.['checks']).toBeUndefined()
    const passive = text('{passive: {unhealthy: {http_failures: 4, tcp_failures: 3, timeouts: 2, http_statuses: [429, 500]}}}')
    expect(translationOf(passive)['upstreams']?.[0]).toMatchObject({
      outlier_detection: { consecutive_5xx: 4, consecutive_gateway_failure: 2, max_ejection_percent: 100 },
    })
    expect(warningsOf(passive).join('\n')).toMatch(/become outlier_detection[\s\S]*429 will not count/)
    expect(translationOf(text('{passive: {healthy: {successes: 2}}}'))['upstreams']?.[0]).not.toHaveProperty('outlier_detection')
  })

  test('names that cannot be ids get stable ones', () => {
    const [first, second] = [0, 1].map(
      () => translationOf(`${head}services: [{name: "my service (1)", url: "http://a"}]\n`)['services']?.[0]?.['id'],
    )
    expect(first).toMatch(/^my-service-1--[0-9a-f]{12}$/)
    expect(second).toBe(first)
  })

  test('global plugins give way, plugins of a split route count once, and what is switched off is left out', () => {
    const value = translationOf(
      `${head}plugins:\n- {name: cors}\n- {name: ip-restriction, enabled: false, config: {deny: [10.0.0.1]}}\n` +
        `services:\n- name: a\n  url: http://a\n  routes:\n  - name: r\n    paths: [/p, "~/q"]\n    plugins:\n    - {name: rate-limiting, config: {minute: 5}}\n`,
    )
    expect(value['global_rules']).toMatchObject([{ id: 'kong', plugins: { cors: { _meta: { overridable: true } } } }])
    expect(Object.keys(value['global_rules']?.[0]?.['plugins'] as object)).toEqual(['cors'])
    expect(value['routes']?.map((route) => [route['id'], route['plugin_config_id']])).toEqual([
      ['r', 'r.plugins'],
      ['r.path2', 'r.plugins'],
    ])
    expect(value['plugin_configs']).toMatchObject([{ id: 'r.plugins', plugins: { 'rate-limiting': { minute: 5 } } }])
  })

  test('authentication plugins are those of Kong, and anonymous names a consumer by its id too', () => {
    const text =
      `${head}consumers:\n- {username: guest, id: 7d0b3b0e-0000-4000-8000-000000000001}\n` +
      `services:\n- name: a\n  url: http://a\n  plugins:\n  - name: key-auth\n  - name: basic-auth\n    config: {anonymous: 7d0b3b0e-0000-4000-8000-000000000001, run_on_preflight: false}\n`
    // Consumers themselves are another matter: only what becomes of the plugins is looked at.
    const result = load(text)
    const services = (result.ok ? result.config : result.partial)?.source.value as ReturnType<typeof translationOf> | undefined
    expect(services?.['services']?.[0]?.['plugins']).toEqual({
      'key-auth': { run_on_preflight: true },
      'basic-auth': { anonymous: 'guest', run_on_preflight: false },
    })
  })

  test('before 3.0 a path with other characters than those of plain paths is a regular expression', () => {
    const routes = 'services:\n- {name: a, url: "http://a", routes: [{name: r, paths: ["/a/[0-9]+", /b]}]}\n'
    expect(translationOf(`_format_version: "2.1"\n${routes}`)['routes']?.map((route) => route['uri'] ?? route['uris'])).toEqual([
      '/*',
      ['/b*'],
    ])
  })
})
