/** Answers of the gateway's own whose bodies take their time: compressed, or changed by a plugin that waits. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fieldOf, textOf } from '../../src/doctor/raw-connection.js'
import type { Gateway } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'

const page = 'the gateway itself says so '.repeat(40)
const slowPlugin = `import { definePlugin, Type } from 'sluice/plugin'
export const plugin = definePlugin({
  name: 'slow-changes',
  priority: 900,
  description: 'Changes every answer after a while.',
  schema: Type.Object({ fails: Type.Boolean({ default: false, description: 'Fails instead.' }) }),
  prepare: (conf) => conf,
  link: (conf) => ({
    headerFilter(exchange) {
      exchange.response.collectBody(10_000, async (body) => {
        await new Promise((done) => setImmediate(done))
        if (conf.fails) throw new Error('on purpose')
        return body.toString() + '!'
      })
    },
  }),
})
`

const bed = new TestBed()
let folder = ''
let gateway: Gateway

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sluice-own-'))
  const plugin = join(folder, 'slow-changes.mjs')
  await writeFile(plugin, slowPlugin)
  const mocking = { response_example: page, content_type: 'text/html', response_status: 200 }
  const config = {
    routes: [
      { id: 'gzip', uri: '/gzip', plugins: { mocking, gzip: {} } },
      { id: 'changed', uri: '/changed', plugins: { mocking, 'slow-changes': {} } },
      { id: 'both', uri: '/both', plugins: { mocking, gzip: {}, 'slow-changes': {} } },
      { id: 'fails', uri: '/fails', plugins: { mocking, 'slow-changes': { fails: true } } },
    ],
    global_rules: [{ id: 'all', plugins: { gzip: { types: '*', min_length: 1 } } }],
    sluice: { log: { level: 'silent' }, plugins: [plugin] },
  }
  gateway = await bed.gateway({ config, workers: 1 })
})
afterAll(async () => {
  await bed.close()
  await rm(folder, { recursive: true, force: true })
})

const request = (method: string, path: string, encoding: string, body = '') =>
  `${method} ${path} HTTP/1.1\r\nHost: front\r\nAccept-Encoding: ${encoding}\r\n${body === '' ? '' : `Content-Length: ${body.length}\r\n`}\r\n${body}`

test.each([
  ['GET', '/gzip', 'gzip', 200, page],
  ['GET', '/changed', 'identity', 200, `${page}!`],
  ['GET', '/both', 'gzip', 200, `${page}!`],
  ['POST', '/both', 'gzip', 200, `${page}!`],
  ['GET', '/nowhere', 'gzip', 404, '{"error_msg":"404 Route Not Found"}\n'],
  ['HEAD', '/gzip', 'gzip', 200, ''],
])('%s %s with %s: again and again on one connection', async (method, path, encoding, status, text) => {
  const client = await bed.client({ port: gateway.port })
  for (let turn = 0; turn < 3; turn++) {
    const answer = await client.request(request(method, path, encoding, method === 'POST' ? 'a body' : ''))
    expect(answer.status).toBe(status)
    const isPacked = fieldOf(answer, 'content-encoding') === 'gzip'
    if (method !== 'HEAD') expect(isPacked).toBe(encoding === 'gzip')
    const body = Buffer.concat(answer.body)
    expect((isPacked && body.length > 0 ? gunzipSync(body) : body).toString()).toBe(text)
  }
})

test('a change that fails behind a wait is a 500, and the gateway goes on', async () => {
  const client = await bed.client({ port: gateway.port })
  const answer = await client.request(request('GET', '/fails', 'identity'))
  expect(answer.status).toBe(500)
  expect(textOf(answer)).toContain('PLUGIN_FAILED')
  expect((await client.request(request('GET', '/changed', 'identity'))).status).toBe(200)
})

test('clients that go away meanwhile leave nothing behind', async () => {
  for (let round = 0; round < 20; round++) {
    const client = await bed.client({ port: gateway.port })
    client.send(request('GET', round % 2 === 0 ? '/both' : '/changed', 'gzip'))
    client.destroy()
  }
  const client = await bed.client({ port: gateway.port })
  expect((await client.request(request('GET', '/both', 'gzip'))).status).toBe(200)
})
