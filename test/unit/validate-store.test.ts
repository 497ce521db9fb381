/** Where the resources are kept, by `sluice.store` and `deployment`: what is asked for, and what is refused. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checkConfiguration } from '../../src/controlplane/check.js'
import { asksForSharedStore } from '../../src/controlplane/validate-store.js'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-store-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

async function check(config: object) {
  const file = join(folder, 'sluice.yaml')
  writeFileSync(file, JSON.stringify(config))
  const result = await checkConfiguration(file, {})
  return result.ok ? result.process.store : result.errors.map(({ path, message }) => `${path}: ${message}`)
}

const etcd = { host: ['http://10.0.0.1:2379/', 'https://b.test:2379'] }
const kindOf = async (config: object) => {
  const store = await check(config)
  const kind = Array.isArray(store) ? store.join() : store.kind
  expect(asksForSharedStore(config)).toBe(kind !== 'file')
  return kind
}

describe('the store', () => {
  test('is the file, unless something else is said', async () => {
    expect(await kindOf({})).toBe('file')
    expect(await kindOf({ sluice: { store: { type: 'file' } } })).toBe('file')
    expect(await kindOf({ deployment: { role: 'traditional' } })).toBe('file')
    expect(await kindOf({ deployment: { role: 'data_plane', role_data_plane: { config_provider: 'yaml' }, etcd } })).toBe('file')
    expect(await kindOf({ deployment: { role: 'traditional', role_traditional: { config_provider: 'etcd' }, etcd } })).toBe('etcd')
    expect(await kindOf({ deployment: { role_traditional: { config_provider: 'etcd' }, etcd } })).toBe('etcd')
    // The provider of the other role says nothing.
    expect(await kindOf({ deployment: { role: 'traditional', role_data_plane: { config_provider: 'yaml' }, etcd } })).toBe('etcd')
    expect(await kindOf({ deployment: { etcd } })).toBe('etcd')
    expect(await kindOf({ deployment: { etcd }, sluice: { store: { type: 'file' } } })).toBe('file')
    expect(await kindOf({ sluice: { store: { type: 'redis', redis: 'redis://10.0.0.1' } } })).toBe('redis')
  })

  test('has the defaults of APISIX for etcd', async () => {
    expect(await check({ deployment: { etcd }, apisix: { data_encryption: { keyring: '0123456789abcdef' } } })).toEqual({
      kind: 'etcd',
      copyFile: join(folder, 'sluice.yaml.copy'),
      etcd: {
        hosts: ['http://10.0.0.1:2379', 'https://b.test:2379'],
        prefix: '/apisix',
        timeoutMs: 5_000,
        user: null,
        password: null,
        tls: { verify: true, serverName: null, certFile: null, keyFile: null, caFile: null },
        keyring: ['0123456789abcdef'],
        encryptFields: true,
      },
    })
    const store = await check({ deployment: { etcd } })
    expect(store).toMatchObject({ etcd: { keyring: ['qeddd145sfvddff3', 'edd1c9f0985e76a2'] } })
  })

  test('in Redis uses sluice.redis, or a server of its own', async () => {
    const shared = 'redis://10.0.0.1:7000/2'
    expect(await check({ sluice: { redis: shared, store: { type: 'redis', name: 'a', copy: 'x/last' } } })).toMatchObject({
      redis: { connection: { nodes: [{ host: '10.0.0.1', port: 7000 }], database: 2 } },
      isOwnRedis: false,
      name: 'a',
      copyFile: join(folder, 'x/last'),
    })
    expect(await check({ sluice: { redis: shared, store: { type: 'redis', redis: 'redis://10.0.0.2' } } })).toMatchObject({
      redis: { connection: { nodes: [{ host: '10.0.0.2', port: 6379 }] } },
      isOwnRedis: true,
    })
  })

  test.each([
    [{ sluice: { store: { type: 'redis', redis: 'http://user:secret@x' } } }, 'sluice.store.redis: this is no URL of Redis'],
    [{ sluice: { store: { redis: 'redis://x' } } }, 'sluice.store.redis: the store file takes no redis'],
    [{ sluice: { store: { type: 'etcd', name: 'x' } }, deployment: { etcd } }, 'sluice.store.name: the store etcd takes no name'],
    [{ sluice: { store: { type: 'etcd' } } }, 'deployment: property "etcd" is required, because resources come from etcd'],
    [{ deployment: { etcd: { ...etcd, tls: { cert: 'a.pem' } } } }, 'deployment.etcd.tls: cert and key belong together'],
    [{ deployment: { etcd: { ...etcd, password: 'x' } } }, 'deployment.etcd.password: property "user" is required'],
    [{ deployment: { etcd: { host: ['http://user:secret@x:1'] } } }, 'deployment.etcd.host[0]: this is no URL of etcd'],
    [{ apisix: { data_encryption: { keyring: ['short'] } } }, 'apisix.data_encryption.keyring'],
  ])('is refused: %j', async (config, text) => {
    const errors = await check(config)
    expect(errors).toEqual(expect.arrayContaining([expect.stringContaining(text)]))
    expect(String(errors)).not.toContain('user:secret')
  })
})
