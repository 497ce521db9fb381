/** Gateways that share one configuration in Redis: changes, conflicts, and a store that comes and goes under traffic. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GatewayProcess } from '../../src/doctor/gateway-process.js'
import { runSluice } from '../support/command-line.js'
import { ADMIN_KEY } from '../support/gateway.js'
import { eventually, RedisServer, redisMissing } from '../support/redis.js'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
afterAll(() => bed.close())

const ENTRY = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const mocking = (text: string) => ({ mocking: { response_example: text, content_type: 'text/plain' } })

interface Node {
  readonly folder: string
  readonly process: GatewayProcess
}

async function folderOf(config: object): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-shared-'))
  bed.later(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'sluice.yaml'), JSON.stringify(config))
  return folder
}

async function started(folder: string): Promise<Node> {
  const file = join(folder, 'sluice.yaml')
  const process = await GatewayProcess.start({ entry: ENTRY, file, workers: 1, admin: '127.0.0.1:0', readyTimeoutMs: 60_000 })
  bed.later(() => process.end())
  return { folder, process }
}

async function send(node: Node, method: string, path: string, body?: object) {
  const response = await fetch(`${node.process.adminUrl}/${path}`, {
    method,
    headers: { 'x-api-key': ADMIN_KEY },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: response.status, text: await response.text() }
}

const put = (node: Node, id: string, text: string) =>
  send(node, 'PUT', `apisix/admin/routes/${id}`, { uri: `/${id}`, plugins: mocking(text) })

async function served(node: Node, path: string): Promise<string> {
  const response = await fetch(`${node.process.url}${path}`)
  return `${response.status} ${(await response.text()).trim()}`
}

const serves = (node: Node, path: string, answer: string) =>
  eventually(`${path} = ${answer}`, async () => (await served(node, path)) === answer)

async function storeOf(node: Node): Promise<{ kind: string; revision: number; problem: string | null }> {
  const { store } = (await (await fetch(`${node.process.metricsUrl}/status`)).json()) as { store: Awaited<ReturnType<typeof storeOf>> }
  return store
}

describe.skipIf(redisMissing !== null)('two gateways with one Redis', () => {
  let redis: RedisServer
  let one: Node
  let two: Node
  const config = (routes: readonly object[] = []) => ({
    routes,
    sluice: {
      admin: { keys: [{ name: 'test', key: ADMIN_KEY }] },
      redis: { url: `redis://127.0.0.1:${redis.port}`, timeout: 2 },
      store: { type: 'redis', name: 'e2e' },
    },
  })

  beforeAll(async () => {
    // As a production Redis: it keeps what it acknowledged.
    redis = await RedisServer.start({ config: ['appendonly yes', 'appendfsync always'] })
    bed.later(() => redis.close())
    one = await started(await folderOf(config([{ id: 'seed', uri: '/seed', plugins: mocking('from the file') }])))
    await eventually('the seed', async () => (await redis.client.hexists('sluice:{configuration:e2e}:resources', 'routes seed')) === 1)
    two = await started(await folderOf(config()))
  })

  test('the second has what the first one brought; what one is told, the other one serves, with the same resources', async () => {
    expect(await served(two, '/seed')).toBe('200 from the file')
    expect(await put(one, 'a', 'A')).toMatchObject({ status: 201 })
    expect(await served(one, '/a')).toBe('200 A')
    await serves(two, '/a', '200 A')
    expect(await put(two, 'a', 'B')).toMatchObject({ status: 200 })
    await serves(one, '/a', '200 B')
    expect(await send(one, 'DELETE', 'apisix/admin/routes/seed')).toMatchObject({ status: 200 })
    await serves(two, '/seed', '404 {"error_msg":"404 Route Not Found"}')
    // History is that of the store, whichever gateway is asked; a rollback is a change like any other.
    const { revision, revisions } = JSON.parse((await send(two, 'GET', 'v1/history')).text) as {
      revision: number
      revisions: { changes: object[] }[]
    }
    expect(revisions.slice(0, 2)).toMatchObject([
      { revision, changes: [{ type: 'delete', id: 'seed' }] },
      { revision: revision - 1, changes: [{ type: 'put', id: 'a' }] },
    ])
    const { state } = JSON.parse((await send(two, 'GET', 'v1/resources')).text) as { state: string }
    expect(await send(two, 'POST', 'v1/history/rollback', { revision: revision - 2, state })).toMatchObject({ status: 200 })
    await serves(one, '/seed', '200 from the file')
    await serves(one, '/a', '200 A')
    expect(await put(two, 'a', 'B')).toMatchObject({ status: 200 })
    await serves(one, '/a', '200 B')
    const lists = await Promise.all([one, two].map((node) => send(node, 'GET', 'apisix/admin/routes')))
    expect(lists[0]).toEqual(lists[1])
  })

  test('writers on both at once: read-modify-write loses nothing, and what would not be valid together is refused for one', async () => {
    const labels = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        send(index % 2 === 0 ? one : two, 'PATCH', 'apisix/admin/routes/a', { labels: { [`l${index}`]: 'x' } }),
      ),
    )
    expect(new Set(labels.map(({ status }) => status))).toEqual(new Set([200]))
    const { value } = JSON.parse((await send(one, 'GET', 'apisix/admin/routes/a')).text) as { value: { labels: object } }
    const isHere = async () => (await storeOf(one)).revision === (await storeOf(two)).revision
    await eventually('the same revision', isHere)
    const { value: other } = JSON.parse((await send(two, 'GET', 'apisix/admin/routes/a')).text) as { value: { labels: object } }
    expect(Object.keys(value.labels).length).toBeLessThanOrEqual(20)
    expect(Object.keys(other.labels)).toHaveLength(20)
    // A plugin may be in one global rule only.
    const rules = await Promise.all(
      [one, two].map((node, index) => send(node, 'PUT', `apisix/admin/global_rules/g${index}`, { plugins: { 'request-id': {} } })),
    )
    expect(rules.map(({ status }) => status).sort()).toEqual([201, 400])
  })

  test('what others write by hand and cannot be left out does not serve; the gateways say so, and a valid change ends it', async () => {
    const keys = ['{configuration:e2e}:resources', '{configuration:e2e}:state'].map((key) => `sluice:${key}`)
    const [resources = '', state = ''] = keys
    const value = { id: 'wrong', plugins: { 'no-such-plugin': {} } }
    const wrong = { kind: 'global_rules', id: 'wrong', value, createdIndex: 9, modifiedIndex: 9 }
    await redis.client
      .multi()
      .hset(resources, 'global_rules wrong', JSON.stringify({ ...wrong, createTime: 1, updateTime: 1, expiresAtMs: null }))
      .hincrby(state, 'revision', 1)
      .hset(state, 'token', 'by-hand')
      .exec()
    for (const node of [one, two]) {
      await eventually('the refusal', async () => (await storeOf(node)).problem?.includes('does not serve here') === true)
      expect(await served(node, '/a')).toBe('200 B')
    }
    expect(await put(one, 'b', 'B')).toMatchObject({ status: 400, text: expect.stringContaining('no-such-plugin') })
    // A gateway that starts now takes what it served last.
    await two.process.end()
    two = await started(two.folder)
    expect(await served(two, '/a')).toBe('200 B')
    expect(two.process.stderr).toContain('of the store is not valid here')
    expect(await send(two, 'DELETE', 'apisix/admin/global_rules/wrong')).toMatchObject({ status: 200 })
    for (const node of [one, two]) await eventually('the end of it', async () => (await storeOf(node)).problem === null)
    expect(await put(one, 'b', 'B')).toMatchObject({ status: 201 })
    await serves(two, '/b', '200 B')
  })

  test('backup and restore, while both run', async () => {
    const [file, backup] = [join(one.folder, 'sluice.yaml'), join(one.folder, 'backup.json')]
    expect(await runSluice(['backup', file, '-o', backup])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('resources at revision'),
    })
    expect(await put(one, 'b', 'other')).toMatchObject({ status: 200 })
    expect(await put(one, 'c', 'C')).toMatchObject({ status: 201 })
    const { revision } = await storeOf(one)
    expect(await runSluice(['restore', backup, file])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('it holds something else'),
    })
    expect(await runSluice(['restore', backup, file, '--force'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(`2 change(s) as revision ${revision + 1}`),
    })
    for (const node of [one, two]) {
      await serves(node, '/b', '200 B')
      await serves(node, '/c', '404 {"error_msg":"404 Route Not Found"}')
    }
  })

  test('while Redis is away traffic and reads go on, writes are 503, a start takes the copy; then all goes on by itself', async () => {
    let isRunning = true
    const answers = new Set<string>()
    const traffic = (async () => {
      while (isRunning) answers.add(await served(one, '/a').catch(String))
    })()
    const copy = join(two.folder, 'sluice.yaml.copy')
    await eventually('the copy', async () => (await readFile(copy, 'utf8')).includes('"uri":"/b"'))
    await redis.kill()
    const refused = await put(one, 'c', 'C')
    expect(refused.status).toBe(503)
    await eventually('the problem', async () => (await storeOf(one)).problem?.includes('does not answer') === true)
    expect(await put(one, 'c', 'C')).toMatchObject({ status: 503, text: expect.stringContaining('nothing can be changed until it does') })
    expect((await put(one, 'c', 'C')).text).toContain(`redis 127.0.0.1:${redis.port}/0`)
    expect((await send(one, 'GET', 'apisix/admin/routes/a')).status).toBe(200)
    await two.process.end()
    two = await started(two.folder)
    expect(await served(two, '/b')).toBe('200 B')
    expect(two.process.stderr).toContain('starting with the copy of revision')
    expect((await put(two, 'c', 'C')).status).toBe(503)
    await redis.restart()
    await eventually('a write', async () => (await put(two, 'c', 'C')).status === 201)
    await serves(one, '/c', '200 C')
    expect((await storeOf(one)).problem).toBeNull()
    isRunning = false
    await traffic
    expect([...answers]).toEqual(['200 B'])
  })
})
