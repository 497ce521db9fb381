/** `kind` and `http2` of a listener, from the file to the process configuration. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadConfiguration } from '../../src/controlplane/load.js'
import { builtinPlugins } from '../../src/plugins/index.js'
import { PluginRegistry } from '../../src/plugins/registry.js'
import { TestAuthority } from '../support/tls-certificates.js'

const folder = mkdtempSync(join(tmpdir(), 'sluice-listeners-'))
const file = join(folder, 'sluice.yaml')
const registry = PluginRegistry.of(builtinPlugins)
const tls = { cert: 'own.crt', key: 'own.key' }

beforeAll(async () => {
  const pair = await (await TestAuthority.create()).issue('a.test')
  writeFileSync(join(folder, tls.cert), pair.cert)
  writeFileSync(join(folder, tls.key), pair.key)
})
afterAll(() => rmSync(folder, { recursive: true }))

function load(listener: object) {
  writeFileSync(file, JSON.stringify({ sluice: { listeners: [{ listen: '127.0.0.1:1', ...listener }] } }))
  return loadConfiguration(file, {}, registry, { nowMs: Date.parse('2000-01-01') })
}

describe('kind of a listener', () => {
  test.each([
    [{}, undefined],
    [{ kind: 'uws', http2: false }, undefined],
    [{ kind: 'node' }, { http2: false }],
    [{ kind: 'node', http2: true }, { http2: true }],
    [{ kind: 'node', tls }, { http2: true }],
    [{ kind: 'node', tls, http2: false }, { http2: false }],
  ])('%j', (listener, node) => {
    const result = load(listener)
    expect(result.ok && result.config.process.listeners[0]?.node).toEqual(node)
  })

  test.each([
    [{ http2: true }, 'sluice.listeners[0].http2: a listener of kind uws speaks HTTP/1.1 only'],
    [{ kind: 'uws', tls, http2: true }, 'sluice.listeners[0].http2: a listener of kind uws speaks HTTP/1.1 only'],
    [
      { kind: 'node', proxy_protocol: true },
      'sluice.listeners[0].proxy_protocol: a listener of kind node does not read the PROXY protocol',
    ],
  ])('%j is refused by name', (listener, message) => {
    const result = load(listener)
    expect(result.ok ? [] : result.errors.map((issue) => `${issue.path}: ${issue.message}`)).toEqual([message])
  })

  test('another kind is none', () => {
    const result = load({ kind: 'nginx' })
    expect(result.ok).toBe(false)
  })
})
