/** The life of the process: ready, reload, drain, second signal, pid file, crash, crash loop, supervision. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { ADMIN_KEY, Gateway, type GatewayOptions, proxyTo } from '../support/gateway.js'
import { ask, codeOf, exited, fault, HeldUpstream, logged, waitMs } from '../support/gateway-life.js'

const upstream = new HeldUpstream()
const gateways: Gateway[] = []
let upstreamPort = 0
let folder = ''

beforeAll(async () => {
  upstreamPort = await upstream.start()
  folder = mkdtempSync(join(tmpdir(), 'sluice-life-'))
})
afterAll(() => {
  upstream.stop()
  rmSync(folder, { recursive: true })
})
afterEach(async () => {
  upstream.release('')
  await Promise.all(gateways.splice(0).map((gateway) => gateway.discard()))
})

async function start(options: Partial<GatewayOptions> = {}): Promise<Gateway> {
  const gateway = await Gateway.start({ config: proxyTo(upstreamPort), workers: 2, ...options })
  gateways.push(gateway)
  return gateway
}

describe('ready', () => {
  test('one line on stdout with real addresses; requests, status and readiness work', async () => {
    const gateway = await start({ admin: true })
    expect(gateway.process.stdout).toMatch(
      /^sluice \d+\.\d+\.\d+ ready: http:\/\/127\.0\.0\.1:[1-9]\d*, admin http:\/\/127\.0\.0\.1:[1-9]\d*, metrics http:\/\/127\.0\.0\.1:[1-9]\d*, workers 2, accept kernel, uWebSockets\.js \S+\n$/,
    )
    expect(await ask(`${gateway.url}/x`)).toEqual({ status: 200, body: 'fine' })
    expect((await ask(`${gateway.metricsUrl}/status/ready`)).status).toBe(200)
    const withKey = await fetch(`${gateway.adminUrl}/v1/status`, { headers: { 'x-api-key': ADMIN_KEY } })
    expect(await withKey.json()).toMatchObject({ epoch: 1, draining: false, workers: [{ state: 'serving' }, { state: 'serving' }] })
  })

  test('the status server explains routing by the configuration that serves', async () => {
    const gateway = await start()
    const explain = async (query: string) => {
      const response = await fetch(`${gateway.metricsUrl}/v1/explain?${query}`)
      return { status: response.status, body: (await response.json()) as { matched: { id: string } | null; error?: string } }
    }
    expect((await explain('method=GET&host=a.example&path=/x')).body.matched?.id).toBe('all')
    await gateway.reload({
      routes: [{ id: 'post', uri: '/x', methods: ['POST'], upstream: { nodes: { [`127.0.0.1:${upstreamPort}`]: 1 } } }],
    })
    expect((await explain('path=/x')).body.matched).toBeNull()
    expect((await explain('path=/x&method=POST&header.x-a=b&remote_addr=10.0.0.1')).body.matched?.id).toBe('post')
    expect(await explain('path=/x&colour=red')).toMatchObject({ status: 400, body: { error: expect.stringContaining('"colour"') } })
  })

  test('several listeners with port 0 get ports of their own', async () => {
    const gateway = await start({ args: ['--listen', '127.0.0.1:0'] })
    expect(new Set(gateway.process.urls).size).toBe(2)
    for (const url of gateway.process.urls) expect((await ask(url)).status).toBe(200)
  })

  test('the pid file appears, replaces a stale one, and goes', async () => {
    const file = join(folder, 'gateway.pid')
    writeFileSync(file, '999999\n')
    const gateway = await start({ args: ['--pid-file', file] })
    expect(readFileSync(file, 'utf8')).toBe(`${gateway.process.pid}\n`)
    await gateway.stop()
    expect(() => readFileSync(file)).toThrow(/ENOENT/)
  })
})

describe('reload', () => {
  test('a good configuration serves at once; a bad one changes nothing and is explained', async () => {
    const gateway = await start({ admin: true })
    const one = { routes: [{ id: 'only', uri: '/only', upstream: { nodes: { [`127.0.0.1:${upstreamPort}`]: 1 } } }] }
    expect(await gateway.reload(one)).toMatchObject({ epoch: 2, lastError: null })
    expect((await ask(`${gateway.url}/only`)).status).toBe(200)
    expect((await ask(`${gateway.url}/other`)).status).toBe(404)
    const refused = await gateway.reload({ routes: [{ id: 'only', uri: '/only', upstream_id: 'nowhere' }, { id: 'two' }] })
    expect(refused.epoch).toBe(2)
    expect(refused.lastError).toContain('upstream_id')
    expect(gateway.stderr).toContain('epoch 2 keeps serving')
    expect((await ask(`${gateway.url}/only`)).status).toBe(200)
    const overAdmin = await fetch(`${gateway.adminUrl}/v1/reload`, { method: 'POST', headers: { 'x-api-key': ADMIN_KEY } })
    expect(overAdmin.status).toBe(400)
    expect(((await overAdmin.json()) as { errors: string[] }).errors.length).toBeGreaterThanOrEqual(2)
    await gateway.write(one)
    const fixed = await fetch(`${gateway.adminUrl}/v1/reload`, { method: 'POST', headers: { 'x-api-key': ADMIN_KEY } })
    expect(await fixed.json()).toEqual({ epoch: 3 })
  })

  test('what needs a restart is said by name', async () => {
    const gateway = await start()
    await gateway.reload(proxyTo(upstreamPort, {}, { workers: 7, limits: { max_header_count: 50 } }))
    await logged(gateway, 'reloaded: epoch 2')
    expect(gateway.stderr).toContain('changed, but in effect only after a restart: limits')
  })
})

describe('end', () => {
  test('SIGTERM: not ready, no new connections, what is in flight is answered, exit 0', async () => {
    const gateway = await start()
    const { answer } = await upstream.hold(gateway)
    gateway.process.send('SIGTERM')
    await expect.poll(async () => (await ask(`${gateway.metricsUrl}/status/ready`)).status, { timeout: waitMs }).toBe(503)
    await expect.poll(() => ask(`${gateway.url}/x`).then(() => 'answered', codeOf), { timeout: waitMs }).toBe('ECONNREFUSED')
    upstream.release('at last')
    expect(await answer).toEqual({ status: 200, body: 'at last' })
    await exited(gateway)
    expect(gateway.process.exit).toEqual({ code: 0, signal: null })
  })

  test('a second signal ends at once', async () => {
    const gateway = await start()
    const { answer } = await upstream.hold(gateway)
    gateway.process.send('SIGTERM')
    await logged(gateway, 'draining')
    gateway.process.send('SIGINT')
    await exited(gateway)
    expect(gateway.process.exit).toEqual({ code: 0, signal: null })
    expect(await answer).toBeInstanceOf(Error)
  })

  test('the drain timeout ends it too', async () => {
    const gateway = await start({ args: ['--drain-timeout', '0.2'] })
    const { answer } = await upstream.hold(gateway)
    gateway.process.send('SIGTERM')
    await exited(gateway)
    expect(gateway.process.exit).toEqual({ code: 0, signal: null })
    expect(gateway.stderr).toContain('not everything in flight was finished')
    expect(await answer).toBeInstanceOf(Error)
  })
})

describe('crash', () => {
  const faults = { admin: true, env: { SLUICE_FAULTS: '1' } } as const

  test('a worker that throws is replaced and the gateway goes on', async ({ annotate }) => {
    const gateway = await start(faults)
    expect(await fault(gateway, 0, 'throw')).toBe(202)
    await logged(gateway, 'worker 0 was replaced in')
    expect(gateway.stderr).toContain('worker 0 ended: ')
    await annotate(/worker 0 was replaced in \d+ ms/.exec(gateway.stderr)?.[0] ?? '', 'time')
    for (let count = 0; count < 20; count++) expect((await ask(`${gateway.url}/x`)).status).toBe(200)
    expect(await gateway.metric('gateway_worker_restarts_total')).toBe(1)
    expect(await fault(gateway, 9, 'throw')).toBe(404)
  })

  test('a crash loop ends the process with the reason and exit code 1', async () => {
    // All five at once: within the ten seconds of a crash loop on a slow machine too.
    const gateway = await start({ ...faults, workers: 5 })
    await Promise.all([0, 1, 2, 3, 4].map((worker) => fault(gateway, worker, 'throw').catch(() => 0)))
    await exited(gateway)
    expect(gateway.stderr).toContain('crash loop: 5 workers ended within 10 s')
    expect(gateway.process.exit).toEqual({ code: 1, signal: null })
  })

  test('without SLUICE_FAULTS there is no such hook', async () => {
    expect(await fault(await start({ admin: true }), 0, 'throw')).toBe(404)
  })
})

describe('--supervise', () => {
  const readyLines = (gateway: Gateway) => gateway.process.stdout.split('\n').filter((line) => line.includes(' ready: ')).length
  const childOf = (gateway: Gateway) =>
    Number(readFileSync(`/proc/${gateway.process.pid}/task/${gateway.process.pid}/children`, 'utf8').trim())
  /** A port that the restarted child can have again. */
  const supervised = { args: ['--supervise', '--drain-timeout', '2'] }

  test('a native crash restarts the gateway; SIGTERM to the parent ends both with 0', async () => {
    const gateway = await start(supervised)
    const child = childOf(gateway)
    process.kill(child, 'SIGSEGV')
    await gateway.process.signal.until(() => readyLines(gateway) === 2, waitMs, 'a second ready line')
    expect(gateway.stderr).toContain('the gateway died by signal SIGSEGV; starting it again in 100 ms')
    expect(childOf(gateway)).not.toBe(child)
    expect(await gateway.stop()).toEqual({ code: 0, signal: null })
  })

  test('a worker out of memory takes the process down, and the parent restarts it', async () => {
    const gateway = await start({
      admin: true,
      args: supervised.args,
      env: { SLUICE_FAULTS: '1', NODE_OPTIONS: '--max-old-space-size=96' },
    })
    await fault(gateway, 0, 'out-of-memory').catch(() => 0)
    await gateway.process.signal.until(() => readyLines(gateway) === 2 || gateway.stderr.includes('was replaced in'), waitMs, 'a recovery')
    expect(gateway.stderr).toMatch(/the gateway died by|worker 0 ended: /)
  })

  test('a wrong configuration is not tried again', async () => {
    await expect(start({ ...supervised, config: { routes: [{ id: 1 }] } })).rejects.toThrow(/exit code 2/)
  })

  test('the child drains when its parent is gone', async () => {
    const gateway = await start(supervised)
    const child = childOf(gateway)
    gateway.process.send('SIGKILL')
    await expect
      .poll(
        () => {
          try {
            return readFileSync(`/proc/${child}/stat`, 'utf8').split(') ')[1]?.[0] === 'Z' ? 'gone' : 'alive'
          } catch {
            return 'gone'
          }
        },
        { timeout: waitMs },
      )
      .toBe('gone')
  })
})
