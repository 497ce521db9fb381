/** Changes by the Admin API over the life of a gateway: many writers at once, restarts after SIGKILL, a file that changes as well. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { GatewayProcess } from '../../src/doctor/gateway-process.js'
import { ADMIN_KEY } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
afterAll(() => bed.close())

const ENTRY = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const mocking = (text: string) => ({ mocking: { response_example: text, content_type: 'text/plain' } })
const keys = [{ name: 'test', key: ADMIN_KEY }]

async function folderOf(config: object): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-admin-'))
  bed.later(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'sluice.yaml'), JSON.stringify(config))
  return folder
}

async function started(folder: string, workers = 1): Promise<GatewayProcess> {
  const gateway = await GatewayProcess.start({
    entry: ENTRY,
    file: join(folder, 'sluice.yaml'),
    workers,
    admin: '127.0.0.1:0',
    readyTimeoutMs: 60_000,
  })
  bed.later(() => gateway.end())
  return gateway
}

async function send(gateway: GatewayProcess, method: string, path: string, body?: object, key = ADMIN_KEY) {
  const response = await fetch(`${gateway.adminUrl}/${path}`, {
    method,
    headers: { 'x-api-key': key },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: response.status, epoch: Number(response.headers.get('x-sluice-epoch')), text: await response.text() }
}

const put = (gateway: GatewayProcess, id: string, text: string) =>
  send(gateway, 'PUT', `apisix/admin/routes/${id}`, { uri: `/${id}`, plugins: mocking(text) })

async function served(gateway: GatewayProcess, path: string): Promise<string> {
  const response = await fetch(`${gateway.url}${path}`)
  return `${response.status} ${(await response.text()).trim()}`
}

test('sixty writers at once: each gets its own answer, few epochs are needed, and what was answered is in force', async () => {
  const folder = await folderOf({ sluice: { admin: { keys } } })
  const gateway = await started(folder, 2)
  const writes = Array.from({ length: 60 }, (_, index) =>
    index % 10 === 3
      ? send(gateway, 'PUT', `apisix/admin/global_rules/g${index}`, { plugins: { 'request-id': {} } })
      : put(gateway, `r${index}`, `t${index}`),
  )
  const replies = await Promise.all(writes)
  // A plugin may be in one global rule only: which of the six is accepted is a matter of order.
  const rules = replies.filter((_, index) => index % 10 === 3)
  expect(rules.map(({ status }) => status).sort()).toEqual([201, ...new Array(5).fill(400)])
  const routes = replies.filter((_, index) => index % 10 !== 3)
  expect(new Set(routes.map(({ status }) => status))).toEqual(new Set([201]))
  expect(new Set(routes.map(({ epoch }) => epoch)).size).toBeLessThan(routes.length)
  for (const [index] of replies.entries()) if (index % 10 !== 3) expect(await served(gateway, `/r${index}`)).toBe(`200 t${index}`)

  // Read, change and write in one request: no change of another writer is lost.
  const labels = await Promise.all(
    Array.from({ length: 30 }, (_, index) => send(gateway, 'PATCH', 'apisix/admin/routes/r0', { labels: { [`l${index}`]: 'x' } })),
  )
  expect(new Set(labels.map(({ status }) => status))).toEqual(new Set([200]))
  const { value } = JSON.parse((await send(gateway, 'GET', 'apisix/admin/routes/r0')).text) as { value: { labels: object } }
  expect(Object.keys(value.labels)).toHaveLength(30)
})

test('killed while it is written to: whatever was acknowledged is there after the restart', async () => {
  const folder = await folderOf({ sluice: { admin: { keys } } })
  const acknowledged = new Map<string, string>()
  const sent = new Map<string, Set<string>>()
  for (let life = 0; life < 3; life++) {
    const gateway = await started(folder)
    for (const [id, text] of acknowledged) {
      // A write without an answer may have been stored.
      expect([`200 ${text}`, ...(sent.get(id) ?? [])].includes(await served(gateway, `/${id}`)), `${id} in life ${life}`).toBe(true)
    }
    let count = 0
    let isDead = false
    const writer = async (name: string) => {
      for (let turn = 0; !isDead; turn++) {
        const id = `${name}-${turn % 3}`
        const text = `${life}.${turn}`
        sent.set(id, (sent.get(id) ?? new Set()).add(`200 ${text}`))
        const reply = await put(gateway, id, text).catch(() => null)
        if (reply === null) return
        expect([200, 201]).toContain(reply.status)
        acknowledged.set(id, text)
        sent.delete(id)
        count++
      }
    }
    const writers = Promise.all(['a', 'b', 'c', 'd'].map(writer))
    await expect.poll(() => count, { timeout: 60_000, interval: 1 }).toBeGreaterThan(20)
    await gateway.kill()
    isDead = true
    await writers
  }
})

describe('a file that changes as well', () => {
  test('the last change of a resource counts, and what does not count is listed and can be forgotten', async () => {
    const config = (text: string) => ({
      routes: [
        { id: 'both', uri: '/both', plugins: mocking(text) },
        { id: 'gone', uri: '/gone', plugins: mocking('gone') },
      ],
      sluice: { admin: { keys } },
    })
    const folder = await folderOf(config('file'))
    const gateway = await started(folder)
    expect((await put(gateway, 'both', 'admin')).status).toBe(200)
    expect((await put(gateway, 'own', 'own')).status).toBe(201)
    expect((await send(gateway, 'DELETE', 'apisix/admin/routes/gone')).status).toBe(200)
    const all = async () => [await served(gateway, '/both'), await served(gateway, '/own'), (await served(gateway, '/gone')).slice(0, 3)]
    expect(await all()).toEqual(['200 admin', '200 own', '404'])
    // Nothing in the file has changed: a reload keeps all of it.
    expect((await send(gateway, 'POST', 'v1/reload')).status).toBe(200)
    expect(await all()).toEqual(['200 admin', '200 own', '404'])

    await writeFile(join(folder, 'sluice.yaml'), JSON.stringify(config('file again')))
    expect((await send(gateway, 'POST', 'v1/reload')).status).toBe(200)
    expect(await all()).toEqual(['200 file again', '200 own', '404'])
    const status = (await (await fetch(`${gateway.metricsUrl}/status`)).json()) as { store: { set_aside: object[] } }
    expect(status.store.set_aside).toEqual([
      { kind: 'routes', id: 'both', reason: expect.stringContaining('was then changed in the file') },
    ])
    expect(gateway.stderr).toContain('routes/both was changed by the Admin API')
    expect(JSON.parse((await send(gateway, 'GET', 'v1/store')).text)).toMatchObject({
      kind: 'file',
      place: join(folder, 'sluice.yaml.journal'),
      set_aside: [{ kind: 'routes', id: 'both', value: { plugins: mocking('admin') } }],
    })
    expect((await send(gateway, 'DELETE', 'v1/store/set-aside')).text).toContain('{"forgotten":1}')
    await writeFile(join(folder, 'sluice.yaml'), JSON.stringify(config('file')))
    expect((await send(gateway, 'POST', 'v1/reload')).status).toBe(200)
    expect(await all()).toEqual(['200 file', '200 own', '404'])

    // A file that does not fit the changes is refused; what runs stays, and can still be changed.
    await writeFile(join(folder, 'sluice.yaml'), '{"routes": 1}')
    expect((await send(gateway, 'POST', 'v1/reload')).status).toBe(400)
    expect((await put(gateway, 'own', 'own again')).status).toBe(200)
    expect(await all()).toEqual(['200 file', '200 own again', '404'])
  })

  test('a file that takes away what a change needs is refused with the place of the change', async () => {
    const folder = await folderOf({ upstreams: [{ id: 'u', nodes: { '127.0.0.1:1': 1 } }], sluice: { admin: { keys } } })
    const gateway = await started(folder)
    expect((await send(gateway, 'PUT', 'apisix/admin/routes/r', { uri: '/r', upstream_id: 'u' })).status).toBe(201)
    await writeFile(join(folder, 'sluice.yaml'), JSON.stringify({ sluice: { admin: { keys } } }))
    const refused = await send(gateway, 'POST', 'v1/reload')
    expect([refused.status, refused.text]).toEqual([400, expect.stringContaining('r (Admin API)')])
  })
})

test('without a key one is made, kept for its owner alone, and accepted again after a restart; a second gateway cannot write', async () => {
  const folder = await folderOf({ sluice: {} })
  const first = await started(folder)
  const file = join(folder, 'sluice.yaml.admin-key')
  const key = (await readFile(file, 'utf8')).trim()
  expect(key.length).toBeGreaterThanOrEqual(32)
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  expect(first.stderr).toContain(file)
  expect(first.stderr).not.toContain(key)
  expect((await send(first, 'PUT', 'apisix/admin/routes/a', { uri: '/a', plugins: mocking('a') }, key)).status).toBe(201)
  const second = await started(folder)
  expect(await served(second, '/a')).toBe('200 a')
  const refused = await send(second, 'PUT', 'apisix/admin/routes/b', { uri: '/b', plugins: mocking('b') }, key)
  expect([refused.status, refused.text]).toEqual([503, expect.stringContaining('is written by process')])
  expect(await served(second, '/b')).toMatch(/^404/)
  await first.stop()
  expect((await send(second, 'POST', 'v1/reload', undefined, key)).status).toBe(200)
  expect((await send(second, 'PUT', 'apisix/admin/routes/b', { uri: '/b', plugins: mocking('b') }, key)).status).toBe(201)
})
