/** Who accepts connections: the primary where the build can, two processes during a takeover. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { RawConnection, textOf } from '../../src/doctor/raw-connection.js'
import { Gateway, type GatewayOptions, proxyTo } from '../support/gateway.js'
import { ask, codeOf, exited, fault, HeldUpstream, logged, waitMs } from '../support/gateway-life.js'
import { TestAuthority } from '../support/tls-certificates.js'

const upstream = new HeldUpstream()
const gateways: Gateway[] = []
let upstreamPort = 0
let folder = ''

beforeAll(async () => {
  upstreamPort = await upstream.start()
  folder = mkdtempSync(join(tmpdir(), 'sluice-accepting-'))
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

describe('--accept primary', () => {
  const childApps = fileURLToPath(new URL('../support/fake-child-apps', import.meta.url))
  const primary = { binding: childApps, admin: true, env: { SLUICE_FAULTS: '1' } } as const

  test('is what auto means with a build that offers it, and every worker gets connections', async () => {
    const gateway = await start({ ...primary, args: ['--listen', '127.0.0.1:0'] })
    expect(gateway.process.readyLine).toContain('workers 2, accept primary, uWebSockets.js 0.0.0-fake')
    expect(new Set(gateway.process.urls).size).toBe(2)
    for (const url of gateway.process.urls) {
      for (let count = 0; count < 4; count++) expect(await ask(`${url}/x`)).toEqual({ status: 200, body: 'fine' })
    }
  })

  test.each([1, 2])('with %i workers: those that fail one after the other are let go of in time and replaced', async (workers) => {
    const gateway = await start({ ...primary, workers })
    for (let death = 1; death <= 3; death++) {
      const held = await Promise.all(Array.from({ length: workers }, () => upstream.hold(gateway)))
      expect(await fault(gateway, death % workers, 'throw')).toBe(202)
      await gateway.process.signal.until(() => gateway.stderr.split('was replaced in').length === death + 1, waitMs, 'a replacement')
      // One request per worker was held: exactly the one on the worker that failed is lost.
      upstream.release('held')
      const outcomes = await Promise.all(held.map(({ answer }) => answer))
      expect(outcomes.filter((outcome) => outcome instanceof Error)).toHaveLength(1)
      for (let count = 0; count < 4; count++) expect((await ask(`${gateway.url}/x`)).status).toBe(200)
    }
    expect(await gateway.stop()).toEqual({ code: 0, signal: null })
    expect(gateway.stderr).not.toContain('fake-child-apps:')
  })

  test('drain: the primary stops accepting, what is in flight on any worker is answered, exit 0', async () => {
    const gateway = await start(primary)
    const held = await Promise.all([upstream.hold(gateway), upstream.hold(gateway)])
    gateway.process.send('SIGTERM')
    await expect.poll(() => ask(`${gateway.url}/x`).then(() => 'answered', codeOf), { timeout: waitMs }).toBe('ECONNREFUSED')
    upstream.release('at last')
    for (const { answer } of held) expect(await answer).toEqual({ status: 200, body: 'at last' })
    await exited(gateway)
    expect(gateway.process.exit).toEqual({ code: 0, signal: null })
  })

  test('max_connections stops the primary, and connections that end let it go on', async () => {
    const config = proxyTo(upstreamPort, {}, { limits: { max_connections: 20 } })
    const gateway = await start({ ...primary, config })
    const idle = Array.from({ length: 40 }, () => connect(gateway.port, '127.0.0.1').on('error', () => {}))
    await logged(gateway, 'no more are accepted until some end')
    await expect.poll(() => ask(`${gateway.url}/x`).then(() => 'answered', codeOf), { timeout: waitMs }).toBe('ECONNREFUSED')
    for (const socket of idle) socket.destroy()
    await logged(gateway, 'accepting again')
    await expect.poll(() => ask(`${gateway.url}/x`).then(({ status }) => status, codeOf), { timeout: waitMs }).toBe(200)
  })

  test('TLS is handed on too, and a strict listener stays with worker 0', async () => {
    const authority = await TestAuthority.create()
    const { cert, key } = await authority.issue('a.test')
    writeFileSync(join(folder, 'a.crt'), cert)
    writeFileSync(join(folder, 'a.key'), key)
    const tls = { cert: join(folder, 'a.crt'), key: join(folder, 'a.key') }
    const listeners = [{ listen: '127.0.0.1:0', kind: 'node' }, '127.0.0.1:0', { listen: '127.0.0.1:0', tls }]
    const gateway = await start({ ...primary, config: proxyTo(upstreamPort, {}, { listeners }), listen: null })
    const everywhere = async () => {
      for (const url of gateway.process.urls) {
        if (url.startsWith('http:')) {
          expect(await ask(`${url}/x`)).toEqual({ status: 200, body: 'fine' })
          continue
        }
        const port = Number(new URL(url).port)
        const client = await RawConnection.open({ port, tls: { servername: 'a.test', ca: authority.cert } })
        const response = await client.request('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n', waitMs)
        expect([response.status, textOf(response)]).toEqual([200, 'fine'])
        client.destroy()
      }
    }
    expect(gateway.process.urls.map((url) => url.split(':')[0]).sort()).toEqual(['http', 'http', 'https'])
    await everywhere()
    expect(await fault(gateway, 0, 'throw')).toBe(202)
    await logged(gateway, 'worker 0 was replaced in')
    await everywhere()
    expect(await gateway.stop()).toEqual({ code: 0, signal: null })
    expect(gateway.stderr).not.toContain('fake-child-apps:')
  })

  test('a port in use is explained', async () => {
    const holder = createServer()
    await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve))
    const { port } = holder.address() as AddressInfo
    await expect(start({ ...primary, listen: `127.0.0.1:${port}` })).rejects.toThrow(/the port is in use by another process/)
    await new Promise((resolve) => holder.close(resolve))
  })
})

describe('takeover', () => {
  const migratesRequests = readFileSync('/proc/sys/net/ipv4/tcp_migrate_req', 'latin1').trim() === '1'

  test.for([1, 2])(
    'a second process with %i workers takes the port over under load; nothing is refused or lost',
    async (workers, { annotate }) => {
      const old = await start({ workers })
      const url = `http://127.0.0.1:${old.port}/x`
      const failures: string[] = []
      const kernelResets: string[] = []
      let answered = 0
      let isOn = true
      const client = async (name: string, agent: Agent | false) => {
        while (isOn) {
          try {
            const { status } = await ask(url, agent)
            if (status === 200) answered++
            else failures.push(`${name}: ${status}`)
          } catch (error) {
            const text = `${name}: ${error instanceof Error ? error.message : String(error)}`
            if (/^new .*(ECONNRESET|EPIPE|socket hang up)/.test(text)) kernelResets.push(text)
            else failures.push(text)
          }
        }
      }
      const clientsOfEachKind = 16
      const agents = Array.from({ length: clientsOfEachKind }, () => new Agent({ keepAlive: true, maxSockets: 1 }))
      const clients = agents.flatMap((agent, index) => [client(`new ${index}`, false), client(`kept ${index}`, agent)])
      const next = await start({ workers, listen: `127.0.0.1:${old.port}` })
      expect(next.port).toBe(old.port)
      await expect.poll(() => answered, { timeout: waitMs }).toBeGreaterThan(200)
      old.process.send('SIGTERM')
      await exited(old)
      const before = answered
      await expect.poll(() => answered, { timeout: waitMs }).toBeGreaterThan(before + 200)
      isOn = false
      await Promise.all(clients)
      for (const agent of agents) agent.destroy()
      expect(old.process.exit).toEqual({ code: 0, signal: null })
      expect(old.stderr).toContain('drained: nothing was in flight any more')
      expect(failures).toEqual([])
      // Without the sysctl, the kernel resets connections that complete their handshake in the moment before the close of a listener, as
      // many as there are clients at the most. Connections that were accepted, those that are kept, lose nothing.
      await annotate(`${kernelResets.length} connections reset by the kernel, ${answered} requests answered`, 'takeover')
      expect(kernelResets.length).toBeLessThanOrEqual(migratesRequests ? 0 : workers * clientsOfEachKind)
    },
  )

  test('a port held without sharing stays with its holder', async () => {
    const holder = createServer((_, response) => response.end('holder'))
    await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve))
    const { port } = holder.address() as AddressInfo
    await expect(start({ listen: `127.0.0.1:${port}` })).rejects.toThrow(/the port is in use by another process/)
    const socket = connect(port, '127.0.0.1')
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    socket.destroy()
    await new Promise((resolve) => holder.close(resolve))
  })
})
