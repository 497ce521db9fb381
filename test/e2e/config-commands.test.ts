/** Commands about the configuration of a running gateway: diff, apply, export, and check with a journal beside the file. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { runSluice } from '../support/command-line.js'
import { ADMIN_KEY, Gateway } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
let folder = ''
let gateway: Gateway

const mocking = (text: string) => ({ mocking: { response_example: text, content_type: 'text/plain' } })
const upstream = { id: 1, nodes: { '127.0.0.1:9': 1 } }
const routeA = { id: 'a', uri: '/a', plugins: mocking('one') }
const jack = (key: string) => ({ username: 'jack', plugins: { 'key-auth': { key } } })
const first = { routes: [routeA, { id: 'b', uri: '/b', upstream_id: 1 }], upstreams: [upstream], consumers: [jack('first-key')] }
const second = {
  routes: [
    { id: 'a', uri: '/a', plugins: mocking('two') },
    { id: 'c', uri: '/c', upstream_id: 2 },
  ],
  upstreams: [{ id: 2, nodes: { '127.0.0.1:9': 1 } }],
  consumers: [{ username: 'jill', plugins: { 'key-auth': { key: 'first-key' } } }, jack('second-key')],
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sluice-commands-'))
  bed.later(() => rm(folder, { recursive: true, force: true }))
  gateway = await Gateway.start({ config: first, admin: true })
  bed.later(() => gateway.discard())
})
afterAll(() => bed.close())

const sluice = (args: readonly string[], key = ADMIN_KEY) => runSluice(args, { SLUICE_ADMIN_KEY: key })
const remote = (...args: string[]) => sluice([...args, '--admin', gateway.adminUrl])

async function file(name: string, config: object): Promise<string> {
  await writeFile(join(folder, name), JSON.stringify(config, null, 2))
  return join(folder, name)
}

async function put(id: string, value: object): Promise<number> {
  const url = `${gateway.adminUrl}/apisix/admin/routes/${id}`
  const reply = await fetch(url, { method: 'PUT', headers: { 'x-api-key': ADMIN_KEY }, body: JSON.stringify(value) })
  return reply.status
}

async function served(path: string): Promise<string> {
  const reply = await fetch(`${gateway.url}${path}`)
  return `${reply.status} ${(await reply.text()).trim()}`
}

describe('a file and a running gateway', () => {
  test('what is equal is no difference, whatever form ids have', async () => {
    const { code, stdout } = await remote('diff', await file('same.json', { ...first, upstreams: [{ ...upstream, id: '1' }] }))
    expect(stdout).toMatch(/^no difference; state \S+\n$/)
    expect(code).toBe(0)
  })

  test('the changes are the fewest, in an order in which nothing dangles, and secrets are not shown', async () => {
    const { code, stdout } = await remote('diff', await file('second.json', second))
    expect(code).toBe(1)
    const lines = stdout.split('\n')
    expect(lines.slice(0, 10)).toEqual([
      '+ upstreams/2',
      '+ consumers/jill',
      '~ consumers/jack',
      '    plugins.key-auth.key: "******" → "******"',
      '~ routes/a',
      '    plugins.mocking.response_example: "one" → "two"',
      '+ routes/c',
      '- routes/b',
      '- upstreams/1',
      expect.stringMatching(/^7 changes: 3 to add, 2 to change, 2 to delete; state \S+$/),
    ])
    expect(stdout).not.toContain('key"')
  })

  test('apply asks the gateway first, does nothing without --yes, and points into the file when it is refused', async () => {
    const dry = await remote('apply', join(folder, 'second.json'))
    expect(dry).toMatchObject({ code: 0, stderr: 'the gateway would accept it; nothing was changed: --yes does it\n' })
    expect(await served('/a')).toBe('200 one')
    const wrong = await file('wrong.json', { ...second, upstreams: [], sluice: {} })
    const { code, stderr } = await remote('apply', wrong, '--yes')
    expect(code).toBe(2)
    expect(stderr).toMatch(/wrong\.json:\d+:\d+: routes\[1\]\.upstream_id: failed to fetch upstream info by upstream id \[2\]/)
    expect(stderr).toContain('not applied, because it concerns the process: sluice')
    expect(await served('/a')).toBe('200 one')
  })

  test('a change by somebody else in between is noticed', async () => {
    const { stdout } = await remote('diff', join(folder, 'second.json'), '--json')
    const { state, changes } = JSON.parse(stdout) as { state: string; changes: { change: string; kind: string; id: string }[] }
    expect(changes).toHaveLength(7)
    expect(await put('a', { uri: '/a', plugins: mocking('other') })).toBe(200)
    const late = await remote('apply', join(folder, 'second.json'), '--yes', '--state', state)
    expect(late).toMatchObject({ code: 2, stderr: 'sluice: refused: the configuration was changed since that state; compare again\n' })
    // The same inside the gateway, for a change between the comparison and the write.
    const body = JSON.stringify({ state, changes: [{ type: 'delete', kind: 'routes', id: 'b' }] })
    const reply = await fetch(`${gateway.adminUrl}/v1/resources`, { method: 'POST', headers: { 'x-api-key': ADMIN_KEY }, body })
    expect(reply.status).toBe(409)
    expect(await served('/a')).toBe('200 other')
  })

  test('apply makes it so as one change, a key that goes from one consumer to another included', async () => {
    const before = (await gateway.reloadStatus()).epoch
    const done = await remote('apply', join(folder, 'second.json'), '--yes')
    expect(done).toMatchObject({ code: 0, stderr: `done: epoch ${before + 1} runs on every worker\n` })
    expect(await served('/a')).toBe('200 two')
    expect(await served('/b')).toMatch(/^404 /)
    expect((await remote('diff', join(folder, 'second.json'))).code).toBe(0)
    const more = await file('more.json', { routes: [{ id: 'd', uri: '/d', plugins: mocking('four') }] })
    const kept = await remote('apply', more, '--yes', '--no-delete')
    expect(kept.stdout).toMatch(/^\+ routes\/d\n1 change: 1 to add; state/)
    expect(await served('/a')).toBe('200 two')
  })

  test('earlier revisions are listed, compared and taken back, as one change', async () => {
    const { stdout } = await remote('config', 'history', '--json')
    const { revision, revisions } = JSON.parse(stdout) as { revision: number; revisions: { revision: number; changeCount: number }[] }
    // Newest first: the file with one route more, the whole file, the change by hand.
    expect(revisions.map(({ changeCount }) => changeCount)).toEqual([1, 7, 1])
    const [, whole, byHand] = revisions.map((item) => String(item.revision))
    const lines = await remote('config', 'history')
    expect(lines.stdout).toContain(`${whole}  `)
    expect(lines.stdout).toMatch(/\+ routes\/d\n.*, 2 more\n.*\+ routes\/a\nthe gateway is at revision \d+\n$/s)
    expect((await remote('config', 'diff', String(whole))).stdout).toBe('+ routes/d\n1 change: 1 to add\n')
    expect((await remote('config', 'diff', String(revision), String(revision))).code).toBe(0)

    const dry = await remote('config', 'rollback', String(byHand))
    expect(dry).toMatchObject({ code: 0, stderr: 'the gateway would accept it; nothing was changed: --yes does it\n' })
    expect(await served('/d')).toBe('200 four')
    const done = await remote('config', 'rollback', String(byHand), '--yes')
    expect(done.stdout).toBe(dry.stdout)
    expect(done.stdout).toContain('    plugins.mocking.response_example: "two" → "other"\n')
    expect(await served('/a')).toBe('200 other')
    expect(await served('/d')).toMatch(/^404 /)
    expect((await remote('config', 'rollback', '4711')).stderr).toContain('there is no revision 4711: the store keeps ')
  })

  test('what is exported from the gateway is a file that changes nothing', async () => {
    const target = join(folder, 'exported.yaml')
    expect(await remote('export', '-o', target)).toMatchObject({ code: 0 })
    expect((await stat(target)).mode & 0o777).toBe(0o600)
    expect((await remote('diff', target)).stdout).toMatch(/^no difference/)
    expect((await sluice(['check', target])).code).toBe(0)
    expect((await remote('export', '-o', target)).stderr).toContain('the file exists')
  })

  test('without a key, with a wrong one, or without a gateway: one line each', async () => {
    const file = join(folder, 'second.json')
    const none = await sluice(['diff', file, '--admin', gateway.adminUrl], '')
    expect(none.stderr).toBe('sluice: no admin key; expected one in SLUICE_ADMIN_KEY, or the file that holds it in --key-file\n')
    const wrong = await sluice(['diff', file, '--admin', gateway.adminUrl], 'not-the-key')
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('failed to check token (wrong apikey)') })
    const nobody = await sluice(['diff', file, '--admin', '127.0.0.1:1'])
    expect(nobody).toMatchObject({ code: 1, stderr: expect.stringContaining('expected the admin server of a running gateway') })
  })
})

describe('a file with a journal beside it', () => {
  test('check and export see what a start would see', async () => {
    const own = await Gateway.start({ config: first, admin: true })
    bed.later(() => own.discard())
    const headers = { 'x-api-key': ADMIN_KEY }
    const body = JSON.stringify({ uri: '/b', upstream_id: 1, name: 'by the API' })
    expect((await fetch(`${own.adminUrl}/apisix/admin/routes/n`, { method: 'PUT', headers, body })).status).toBe(201)
    const exported = await sluice(['export', own.file])
    expect(exported.code, exported.stderr).toBe(0)
    const document = parse(exported.stdout) as { routes: { id: string }[] }
    expect(document.routes.map(({ id }) => id)).toEqual(['a', 'b', 'n'])
    const right = await sluice(['check', own.file])
    expect(right.stdout).toMatch(/ with 1 change by the Admin API is right: 3 routes, /)
    // File and journal as one file, written while the gateway runs.
    const backup = join(folder, 'backup.json')
    expect(await sluice(['backup', own.file, '-o', backup])).toMatchObject({ code: 0 })
    expect((await stat(backup)).mode & 0o777).toBe(0o600)
    const copy = join(folder, 'restored.yaml')
    expect(await sluice(['restore', backup, copy])).toMatchObject({ code: 0 })
    expect((await sluice(['export', copy])).stdout.split('\n').slice(1)).toEqual(exported.stdout.split('\n').slice(1))
    expect((await sluice(['restore', backup, copy])).stderr).toContain('the file exists; expected a new name, or --force')
    expect((await sluice(['restore', backup, own.file, '--force'])).stderr).toMatch(
      /is written by process \d+; expected a gateway that is stopped/,
    )
    await writeFile(backup, (await readFile(backup, 'utf8')).replace('"journal": "', '"journal": "AAAA'))
    expect((await sluice(['restore', backup, copy, '--force'])).stderr).toContain('it is damaged: its checksum does not fit')
    // The file alone would be right: what the API made needs what it takes away.
    await own.write({ ...first, routes: [routeA], upstreams: [] })
    const wrong = await sluice(['check', own.file])
    expect(wrong.code).toBe(2)
    expect(wrong.stderr).toContain('routes["n (Admin API)"].upstream_id: failed to fetch upstream info by upstream id [1]')
    expect((await sluice(['export', own.file])).code).toBe(2)
  })
})
