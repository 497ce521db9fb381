/** A gateway on the etcd of APISIX, configured as APISIX is: what is there serves, changes go both ways, and etcd may come and go. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { GatewayProcess } from '../../src/doctor/gateway-process.js'
import { runSluice } from '../support/command-line.js'
import { EtcdServer, etcdMissing } from '../support/etcd.js'
import { ADMIN_KEY } from '../support/gateway.js'
import { eventually } from '../support/redis.js'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
afterAll(() => bed.close())

const ENTRY = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const route = (uri: string, text: string) => ({
  uri,
  plugins: { mocking: { response_example: text, content_type: 'text/plain' } },
  status: 1,
  priority: 0,
})

describe.skipIf(etcdMissing !== null)(etcdMissing ?? 'a gateway on the etcd of APISIX', () => {
  let etcd: EtcdServer
  let folder = ''
  let gateway: GatewayProcess

  const start = async () => {
    const file = join(folder, 'config.yaml')
    gateway = await GatewayProcess.start({ entry: ENTRY, file, workers: 1, admin: '127.0.0.1:0', readyTimeoutMs: 60_000 })
    bed.later(() => gateway.end())
  }
  const serves = (path: string, answer: string) =>
    eventually(`${path} = ${answer}`, async () => {
      const response = await fetch(`${gateway.url}${path}`)
      return `${response.status} ${(await response.text()).trim()}`.startsWith(answer)
    })
  const put = async (id: string, body: object) => {
    const url = `${gateway.adminUrl}/apisix/admin/routes/${id}`
    const response = await fetch(url, { method: 'PUT', headers: { 'x-api-key': ADMIN_KEY }, body: JSON.stringify(body) })
    return { status: response.status, text: await response.text() }
  }
  const problem = async () => {
    const { store } = (await (await fetch(`${gateway.metricsUrl}/status`)).json()) as { store: { problem: string | null } }
    return store.problem ?? ''
  }

  beforeAll(async () => {
    etcd = await EtcdServer.start()
    bed.later(() => etcd.close())
    await etcd.put('/apisix/routes/', 'init_dir')
    await etcd.put('/apisix/routes/1', { ...route('/one', 'from APISIX'), id: '1', create_time: 1_700_000_000, update_time: 1_700_000_000 })
    folder = await mkdtemp(join(tmpdir(), 'sluice-etcd-'))
    bed.later(() => rm(folder, { recursive: true, force: true }))
    const deployment = {
      role: 'traditional',
      role_traditional: { config_provider: 'etcd' },
      admin: { admin_key: [{ name: 'admin', key: ADMIN_KEY, role: 'admin' }] },
      etcd: { host: [etcd.url], prefix: '/apisix', timeout: 5 },
    }
    await writeFile(join(folder, 'config.yaml'), JSON.stringify({ deployment }))
    await start()
  })

  test('serves what is there; changes by its Admin API and by others take effect', async () => {
    await serves('/one', '200 from APISIX')
    expect(await put('2', route('/two', 'from here'))).toMatchObject({ status: 201 })
    await serves('/two', '200 from here')
    expect(JSON.parse((await etcd.get('/apisix/routes/2')) ?? '')).toMatchObject({ id: '2', uri: '/two' })
    await etcd.put('/apisix/routes/1', { ...route('/one', 'changed'), id: '1' })
    await serves('/one', '200 changed')
    await etcd.delete('/apisix/routes/2')
    await serves('/two', '404')
    // A route whose upstream is not there is 503; all else serves.
    await etcd.put('/apisix/routes/3', { id: '3', uri: '/three', upstream_id: '9' })
    await serves('/three', '503')
    await etcd.delete('/apisix/routes/3')
    await serves('/three', '404')
  })

  test('what others write and is not valid is left out and named, and the rest serves; own writes stay strict', async () => {
    const invalid = async () => {
      const { store } = (await (await fetch(`${gateway.metricsUrl}/status`)).json()) as { store: { invalid: { id: string }[] } }
      return store.invalid.map(({ id }) => id).join()
    }
    const metric = async () =>
      (await (await fetch(`${gateway.metricsUrl}/metrics`)).text()).match(/^gateway_config_store_invalid_items.* (\d+)$/m)?.[1]
    const broken = { uri: '/four', plugins: { 'no-such-plugin': {} } }
    await etcd.put('/apisix/routes/4', { id: '4', ...broken })
    await eventually('the entry', async () => (await invalid()) === '4')
    expect(await metric()).toBe('1')
    expect(await problem()).toBe('')
    await serves('/four', '503')
    await serves('/one', '200 changed')
    expect(gateway.stderr).toMatch(/routes\/4 is left out: plugins\.no-such-plugin: unknown plugin \[no-such-plugin\]/)
    // Changes beside it go on, by others and by the Admin API, which takes nothing that is not valid.
    await etcd.put('/apisix/routes/5', { ...route('/five', 'V'), id: '5' })
    await serves('/five', '200 V')
    expect(await put('7', route('/seven', 'VII'))).toMatchObject({ status: 201 })
    await serves('/seven', '200 VII')
    expect(await put('8', { ...broken, uri: '/eight' })).toMatchObject({ status: 400 })
    expect(await put('4', broken)).toMatchObject({ status: 400 })
    // A start does the same. Without a global rule nothing new serves.
    await gateway.end()
    await start()
    await serves('/four', '503')
    await serves('/seven', '200 VII')
    await etcd.put('/apisix/global_rules/1', { id: '1', plugins: { 'no-such-plugin': {} } })
    await eventually('the refusal', async () => (await problem()).includes('unknown plugin [no-such-plugin]'))
    await serves('/five', '200 V')
    await etcd.delete('/apisix/global_rules/1')
    await eventually('the end of it', async () => (await problem()) === '')
    expect(await put('4', route('/four', 'IV'))).toMatchObject({ status: 200 })
    await serves('/four', '200 IV')
    expect(await invalid()).toBe('')
    expect(await metric()).toBe('0')
  })

  test('check, lint, export and backup read the store, restore writes it as one change, and nothing else writes', async () => {
    const file = join(folder, 'config.yaml')
    const before = await etcd.revision()
    await etcd.put('/apisix/routes/9', { id: '9', uri: '/nine', plugins: { 'no-such-plugin': {} } })
    const check = await runSluice(['check', file, '--json'])
    expect(check.code).toBe(0)
    expect(JSON.parse(check.stdout)).toMatchObject({ ok: true, store: `etcd ${etcd.url} /apisix`, left_out: [{ id: '9' }] })
    expect((await runSluice(['lint', file])).stderr).toContain('routes/9 is left out')
    expect(parse((await runSluice(['export', file])).stdout)).toMatchObject({
      routes: expect.arrayContaining([expect.objectContaining({ id: '9' })]),
    })
    const backup = join(folder, 'backup.json')
    expect(await runSluice(['backup', file, '-o', backup])).toMatchObject({ code: 0, stdout: expect.stringContaining('at revision') })
    expect(await etcd.revision()).toBe(before + 1)
    await etcd.delete('/apisix/routes/9')
    await etcd.put('/apisix/routes/5', { ...route('/five', 'other'), id: '5' })
    await etcd.put('/apisix/routes/10', { ...route('/ten', 'X'), id: '10' })
    await serves('/five', '200 other')
    const copy = join(folder, 'restored.yaml')
    expect(await runSluice(['restore', backup, copy])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('it holds something else'),
    })
    await expect(readFile(copy)).rejects.toThrow('ENOENT')
    const revision = await etcd.revision()
    expect(await runSluice(['restore', backup, copy, '--force'])).toMatchObject({ code: 0, stdout: expect.stringContaining('3 change(s)') })
    expect(await etcd.revision()).toBe(revision + 1)
    await serves('/five', '200 V')
    await serves('/ten', '404')
    await serves('/nine', '503')
    expect((await runSluice(['restore', backup, copy])).stdout).toContain('/apisix is as it was')
    // Into an empty store.
    await etcd.deleteAll('/apisix/')
    await serves('/five', '404')
    expect(await runSluice(['restore', backup, copy])).toMatchObject({ code: 0 })
    await serves('/five', '200 V')
    await etcd.delete('/apisix/routes/9')
    await serves('/nine', '404')
  })

  test('while etcd is away traffic goes on, changes are 503, a start takes the copy; then all goes on by itself', async () => {
    await eventually('the copy', async () => (await readFile(join(folder, 'config.yaml.copy'), 'utf8')).includes('/five'))
    await etcd.kill()
    const file = join(folder, 'config.yaml')
    const check = await runSluice(['check', file])
    expect(check).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/etcd .* does not answer \(.*expected a store that can be reached/),
    })
    expect((await runSluice(['check', file, '--no-store'])).code).toBe(0)
    await eventually('the problem', async () => (await problem()).includes('does not answer'))
    const metrics = await (await fetch(`${gateway.metricsUrl}/metrics`)).text()
    expect(metrics).toMatch(/^apisix_etcd_reachable 0$/m)
    expect(metrics).toMatch(/^gateway_config_store_healthy\{store="etcd"\} 0$/m)
    expect(await put('6', route('/six', 'VI'))).toMatchObject({ status: 503, text: expect.stringContaining('nothing can be changed') })
    await serves('/five', '200 V')
    await gateway.end()
    await start()
    await serves('/five', '200 V')
    expect(gateway.stderr).toContain('starting with the copy of revision')
    await etcd.restart()
    await eventually('a write', async () => (await put('6', route('/six', 'VI'))).status === 201)
    await serves('/six', '200 VI')
    expect(await problem()).toBe('')
  })
})
