import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { UsageError } from '../../../src/base/errors.js'
import { readOwnConfig } from '../../../src/cli/bench/own-config.js'
import { checkConfiguration } from '../../../src/controlplane/check.js'

const folder = mkdtempSync(join(tmpdir(), 'sluice-own-config-'))
const elsewhere = join(folder, 'elsewhere')
mkdirSync(elsewhere)
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function written(text: string, name = 'gateway.yaml'): string {
  const file = join(folder, name)
  writeFileSync(file, text)
  return file
}

const nodes = '{ "127.0.0.1:1980": 1 }'

const whole = `
routes:
  - { id: inline, uri: /a, upstream: { nodes: ${nodes}, keepalive_pool: { size: 64, pipelining: 4 } } }
  - { id: service, uri: /b, service_id: s }
  - { id: named, uri: /c, upstream_id: u, plugins: { key-auth: {} } }
services:
  - { id: s, upstream: { nodes: ${nodes}, keepalive_pool: { size: 64, pipelining: 4 } } }
upstreams:
  - { id: u, nodes: ${nodes}, keepalive_pool: { size: 64, pipelining: 4, requests: 5000 } }
consumers:
  - { username: jack, plugins: { key-auth: { key: $secret://file/jack } } }
apisix: { node_listen: 9080, ssl: { enable: false }, delete_uri_tail_slash: true }
nginx_config: { worker_processes: 3, http: { client_max_body_size: 1m } }
deployment: { admin: { admin_key: [{ name: a, key: 0123456789abcdef0123456789, role: admin }] } }
sluice:
  workers: 3
  listeners: ["127.0.0.1:9080"]
  admin: { listen: "127.0.0.1:9180" }
  metrics: { listen: "127.0.0.1:9091" }
  log: { access: { format: json, path: access.log } }
  pid_file: sluice.pid
  drain_timeout: 5
  limits: { max_body_size: 1000000 }
  plugins: [own-plugin.js]
  secrets: { directory: secrets }
`

test('routes, plugins and upstreams stay, whatever belongs to the process goes', async () => {
  mkdirSync(join(folder, 'secrets'), { recursive: true })
  writeFileSync(join(folder, 'secrets', 'jack'), 'a key of jack')
  writeFileSync(
    join(folder, 'own-plugin.js'),
    `import { definePlugin, Type } from 'sluice/plugin'
export const plugin = definePlugin({ name: 'own', priority: 1, description: 'Nothing.', schema: Type.Object({}), prepare: () => null, link: () => ({}) })\n`,
  )
  const own = await readOwnConfig(written(whole))
  expect(own.settings).toEqual({ workers: 3, pipelining: 4, poolSize: 64 })
  const document = own.document({ size: 128, pipelining: 16 })
  expect(document).toMatchObject({
    routes: [
      { id: 'inline', upstream: { keepalive_pool: { size: 128, pipelining: 16 } } },
      { id: 'service', service_id: 's' },
      { id: 'named', upstream_id: 'u', plugins: { 'key-auth': {} } },
    ],
    services: [{ upstream: { keepalive_pool: { size: 128, pipelining: 16 } } }],
    upstreams: [{ keepalive_pool: { size: 128, pipelining: 16, requests: 5000 } }],
    apisix: { delete_uri_tail_slash: true },
    nginx_config: { http: { client_max_body_size: '1m' } },
  })
  expect(Object.keys(document)).not.toContain('deployment')
  expect(document).toHaveProperty('sluice', {
    limits: { max_body_size: 1_000_000 },
    plugins: [join(folder, 'own-plugin.js')],
    secrets: { directory: join(folder, 'secrets') },
    log: { level: 'error', access: { format: 'off' } },
  })
  expect(document).toHaveProperty('apisix', { delete_uri_tail_slash: true })
  expect(document).toHaveProperty('nginx_config', { http: { client_max_body_size: '1m' } })
  // It can run from any folder.
  const copy = join(elsewhere, 'bench-0.json')
  writeFileSync(copy, JSON.stringify(document))
  const checked = await checkConfiguration(copy, {})
  expect(checked.ok ? [] : checked.errors).toEqual([])
})

test('where upstreams differ, or say nothing, the sweep starts at the defaults', async () => {
  const differing = `
routes: [{ id: r, uri: /a, upstream_id: a }]
upstreams:
  - { id: a, nodes: ${nodes}, keepalive_pool: { pipelining: 4 } }
  - { id: b, nodes: ${nodes} }
`
  const own = await readOwnConfig(written(differing))
  expect(own.settings).toEqual({ workers: availableParallelism(), pipelining: 1, poolSize: 320 })
  expect(own.document({ size: 1, pipelining: 2 })).toMatchObject({
    upstreams: [{ keepalive_pool: { size: 1, pipelining: 2 } }, { id: 'b' }],
  })
})

test('a Kong file is taken in our form', async () => {
  const kong = `
_format_version: "3.0"
services:
  - { name: s, url: "http://127.0.0.1:1980", routes: [{ name: r, paths: [/a] }] }
`
  const document = (await readOwnConfig(written(kong, 'kong.yaml'))).document({ size: 32, pipelining: 4 })
  expect(JSON.stringify(document)).toContain('"keepalive_pool":{"size":32,"pipelining":4}')
})

test.each([
  ['routes: [{ id: r, uri: no-slash }]', /is not valid\n.*gateway\.yaml:1:/],
  ['sluice: { store: { type: redis }, redis: "redis://127.0.0.1:1" }', /in a store that gateways share/],
])('%s is refused', async (text, message) => {
  const error = await readOwnConfig(written(text)).catch((caught: unknown) => caught)
  expect(error).toBeInstanceOf(UsageError)
  expect(error).toMatchObject({ exitCode: 2, message: expect.stringMatching(message) })
})
