/**
 * The supervisor with real threads that run a fake worker: everything about lives and deaths, nothing about HTTP. The process is never
 * killed; the hook that would do it is recorded.
 */
import { afterEach, describe, expect, test } from 'vitest'
import { UsageError } from '../../../src/base/errors.js'
import { SnapshotPacker } from '../../../src/controlplane/publish.js'
import type { ListenerConfig, ProcessConfig } from '../../../src/schema/process.js'
import { ConsumerBuilder } from '../../../src/shared/consumer-builder.js'
import { createRegions } from '../../../src/shared/regions.js'
import { ListenRefused } from '../../../src/threads/acceptor.js'
import type { SnapshotMessage } from '../../../src/threads/protocol.js'
import { type AckBoard, type ConnectionAcceptor, Supervisor, type WorkerReport } from '../../../src/threads/supervisor.js'
import { RecordedLog } from './recorded-log.js'

/** Longer than anything takes on a machine that is busy with other things; no test waits for it to pass. */
const waitMs = 60_000

const listeners: ListenerConfig[] = [
  { host: '127.0.0.1', port: 0, tls: null },
  { host: '127.0.0.1', port: 0, tls: null },
]

const processConfig: ProcessConfig = {
  workers: 2,
  accept: 'kernel',
  listeners,
  admin: null,
  metrics: null,
  latencyBoundsMs: [1, 10],
  limits: {
    maxHeaderBytes: 65_536,
    maxHeaderCount: 100,
    maxTargetBytes: 16_384,
    maxBodyBytes: 0,
    maxBufferedBytes: 1_048_576,
    maxConnections: 65_536,
    bodyTimeoutMs: 60_000,
    sendTimeoutMs: 60_000,
    maxResponseHeaderBytes: 65_536,
  },
  log: { level: 'info', access: { format: 'off', path: 'stdout' } },
  plugins: [],
  realIp: { trustedAddresses: [], header: 'x-forwarded-for', recursive: false },
  router: { mode: 'radixtree_host_uri', path: { encodedSlash: 'keep', doubleSlash: 'merge', deleteTailSlash: false, servlet: false } },
  dns: { servers: [], ttlMs: 0, timeoutMs: 1_000 },
  drainTimeoutMs: 1_000,
  trustIdentityHeaders: false,
  pidFile: null,
  redis: null,
  store: { kind: 'file' },
  rateLimitTable: { keys: 1_000_000 },
  gatewayNodes: 1,
  parallelGc: false,
  overload: { maxLagMs: 0, maxMemoryBytes: 0, retryAfterSeconds: 1 },
  breakers: { webhook: null },
}

const noConsumers = { tables: new ConsumerBuilder([]).finish(), overlays: [] }

function snapshot(epoch: number): SnapshotMessage {
  return {
    type: 'snapshot',
    ...new SnapshotPacker(
      { router: processConfig.router, routes: [], upstreams: [], globalPlugins: [], keySets: [] },
      noConsumers,
      epoch,
    ).whole(),
  }
}

/** Every worker acknowledges at once. */
class AgreeableBoard implements AckBoard {
  readonly calls: string[] = []
  publish(epoch: number): void {
    this.calls.push(`publish ${epoch}`)
  }
  reserve(index: number): void {
    this.calls.push(`reserve ${index}`)
  }
  release(index: number): void {
    this.calls.push(`release ${index}`)
  }
  waitAll(): Promise<boolean> {
    return Promise.resolve(true)
  }
}

interface Harness {
  readonly supervisor: Supervisor
  readonly board: AgreeableBoard
  readonly log: RecordedLog
  readonly received: { readonly worker: number; readonly text: string; readonly detail: unknown }[]
  readonly fatal: string[]
  readonly killed: { count: number }
  readonly clock: { value: number }
}

const running: Supervisor[] = []

/** `mannerOf` names the misbehaviour of a worker; see fake-worker.mjs. */
function harness(
  mannerOf: (index: number, replacement: boolean) => string,
  acceptor?: ConnectionAcceptor,
  closeTimeoutMs = waitMs,
): Harness {
  const regions = createRegions(2)
  const board = new AgreeableBoard()
  const log = new RecordedLog()
  const received: Harness['received'] = []
  const fatal: string[] = []
  const killed = { count: 0 }
  const clock = { value: 0 }
  const supervisor = new Supervisor({
    workers: 2,
    file: new URL('./fake-worker.mjs', import.meta.url),
    startOf: (index, replacement, ports) => ({
      index,
      process:
        ports === null ? processConfig : { ...processConfig, listeners: listeners.map((one, at) => ({ ...one, port: ports[at] ?? 0 })) },
      regions,
      nodeId: 'node-of-the-test',
      accept: acceptor === undefined ? 'kernel' : 'primary',
      binding: mannerOf(index, replacement),
      replacement,
    }),
    choosePorts: () => Promise.resolve([40_000, 40_001]),
    ...(acceptor === undefined ? {} : { acceptor }),
    board,
    clock: { nowMs: () => clock.value },
    log,
    keySets: () => [],
    onMessage: (worker, message: WorkerReport) => {
      if (message.type === 'log') received.push({ worker, text: message.message, detail: message.fields })
    },
    onEnded: (index) => board.calls.push(`ended ${index}`),
    onFatal: (reason) => fatal.push(reason),
    explainListen: (address, reason) => Promise.resolve(new UsageError(`cannot listen on ${address}: ${reason}`, 1)),
    killProcess: () => {
      killed.count++
    },
    startTimeoutMs: waitMs,
    closeTimeoutMs,
  })
  const made = { supervisor, board, log, received, fatal, killed, clock }
  running.push(supervisor)
  return made
}

afterEach(async () => {
  for (const supervisor of running.splice(0)) await supervisor.close()
})

describe('start', () => {
  test('every worker is given the chosen ports, the second after the first listens', async () => {
    const { supervisor, received, board } = harness(() => 'ok')
    expect(await supervisor.start(snapshot(1))).toEqual([40_000, 40_001])
    const listens = received.filter(({ text }) => text === 'listen')
    expect(listens.map(({ worker }) => worker)).toEqual([0, 1])
    expect(listens[0]?.detail).toMatchObject({ message: { ports: [40_000, 40_001] } })
    expect(listens[1]?.detail).toMatchObject({ message: { ports: [40_000, 40_001] } })
    expect(board.calls).toEqual(['reserve 0', 'reserve 1', 'publish 1'])
  })

  test('rejects when a worker does not load, with its reason', async () => {
    const { supervisor } = harness((index) => (index === 1 ? 'throws-at-start' : 'ok'))
    await expect(supervisor.start(snapshot(1))).rejects.toThrow('worker 1 failed while starting: it does not load')
  })

  test('rejects with the explained usage error when an address cannot be listened on', async () => {
    const { supervisor } = harness((index) => (index === 0 ? 'listen-fails' : 'ok'))
    await expect(supervisor.start(snapshot(1))).rejects.toBeInstanceOf(UsageError)
  })
})

describe('serving', () => {
  test('a worker that fails is replaced; the replacement gets the current snapshot, addresses and ports', async () => {
    const { supervisor, received, log, board } = harness(() => 'ok')
    await supervisor.start(snapshot(1))
    await supervisor.publish(snapshot(2))
    const node = { host: 'a', address: '10.0.0.1', port: 80, weight: 1, priority: 0 }
    supervisor.updateNodes({ type: 'nodes', epoch: 1, updates: [{ upstream: 0, nodes: [] }] })
    supervisor.updateNodes({ type: 'nodes', epoch: 2, updates: [{ upstream: 0, nodes: [node] }] })
    const textsOf0 = () => received.filter(({ worker }) => worker === 0).map(({ text }) => text)
    await expect.poll(textsOf0, { timeout: waitMs }).toEqual(['snapshot', 'listen', 'snapshot', 'nodes'])
    received.length = 0
    board.calls.length = 0
    await expect.poll(() => supervisor.hasSpare, { timeout: waitMs }).toBe(true)
    expect(supervisor.injectFault(0, 'throw')).toBe(true)
    await log.until('worker 0 was replaced')
    expect(log.lines.some((line) => line.includes('worker 0 ended: a fault was injected'))).toBe(true)
    expect(supervisor.restartCount).toBe(1)
    await expect.poll(textsOf0, { timeout: waitMs }).toEqual(['fault', 'assign', 'snapshot', 'nodes'])
    expect(received.at(-1)?.detail).toMatchObject({ message: { epoch: 2, updates: [{ upstream: 0, nodes: [node] }] } })
    expect(board.calls).toEqual(['release 0', 'ended 0', 'reserve 0'])
  })

  test('without a spare the replacement is a new thread', async () => {
    const { supervisor, received, log } = harness((index) => (index < 0 ? 'spare-dies' : 'ok'))
    await supervisor.start(snapshot(1))
    await log.until('the spare worker ended')
    expect(supervisor.hasSpare).toBe(false)
    supervisor.injectFault(1, 'throw')
    await log.until('worker 1 was replaced')
    expect(received.filter(({ worker }) => worker === 1).map(({ text }) => text)).toEqual(['snapshot', 'listen', 'fault', 'snapshot'])
  })

  test('a fault for a worker that does not exist is refused', async () => {
    const { supervisor } = harness(() => 'ok')
    await supervisor.start(snapshot(1))
    expect(supervisor.injectFault(7, 'throw')).toBe(false)
  })

  test('workers that keep dying are a crash loop, reported once', async () => {
    const { supervisor, fatal, log } = harness((_, replacement) => (replacement ? 'dies-when-listening' : 'ok'))
    await supervisor.start(snapshot(1))
    supervisor.injectFault(0, 'throw')
    await log.until('never', () => fatal.length > 0)
    expect(fatal).toEqual(['crash loop: 5 workers ended within 10 s, the last one by: it died when listening'])
    expect(supervisor.restartCount).toBe(4)
  })
})

/** What the supervisor tells the acceptor, in order. */
class RecordedAcceptor implements ConnectionAcceptor {
  readonly calls: string[] = []
  refusal: ListenRefused | null = null
  add(worker: number, descriptors: readonly unknown[]): void {
    this.calls.push(`add ${worker}: ${descriptors.join(', ')}`)
  }
  remove(worker: number): void {
    this.calls.push(`remove ${worker}`)
  }
  open(ports: readonly number[]): Promise<void> {
    this.calls.push(`open ${ports.join(', ')}`)
    return this.refusal === null ? Promise.resolve() : Promise.reject(this.refusal)
  }
  setAccepting(on: boolean): void {
    this.calls.push(`accepting ${on}`)
  }
  drain(): Promise<void> {
    this.calls.push('drain')
    return Promise.resolve()
  }
  close(): void {
    this.calls.push('close')
  }
}

describe('accept primary', () => {
  test('the acceptor knows every worker before it opens, and is drained and closed before the workers are', async () => {
    const acceptor = new RecordedAcceptor()
    const { supervisor, received } = harness(() => 'ok', acceptor)
    await supervisor.start(snapshot(1))
    expect(acceptor.calls).toEqual([
      'add 0: app 0 of worker 0, app 1 of worker 0',
      'add 1: app 0 of worker 1, app 1 of worker 1',
      'open 40000, 40001',
    ])
    acceptor.calls.length = 0
    supervisor.setAccepting(false)
    expect(acceptor.calls).toEqual(['accepting false'])
    acceptor.drain = () => {
      acceptor.calls.push('drain')
      expect(received.some(({ text }) => text === 'drain')).toBe(false)
      return Promise.resolve()
    }
    expect(await supervisor.drain(waitMs, new AbortController().signal)).toBe(true)
    const closed = supervisor.close()
    // In the same turn as the request to close: no worker can have ended before.
    expect(acceptor.calls).toEqual(['accepting false', 'drain', 'close'])
    await closed
  })

  test('a worker that fails is let go of before it may end, and its replacement is taken in', async () => {
    const acceptor = new RecordedAcceptor()
    const { supervisor, log, board } = harness(() => 'ok', acceptor)
    await supervisor.start(snapshot(1))
    acceptor.calls.length = 0
    board.release = (index) => acceptor.calls.push(`ended ${index}`)
    supervisor.injectFault(0, 'throw')
    await log.until('worker 0 was replaced')
    expect(log.lines.some((line) => line.includes('worker 0 ended: a fault was injected'))).toBe(true)
    expect(acceptor.calls[0]).toBe('remove 0')
    expect(acceptor.calls.filter((call) => call !== 'remove 0')).toEqual(['ended 0', 'add 0: app 0 of worker 0, app 1 of worker 0'])
  })

  test('a thread that ends without a word is let go of, too', async () => {
    const acceptor = new RecordedAcceptor()
    const { supervisor, log } = harness((_, replacement) => (replacement ? 'ok' : 'exits-on-fault'), acceptor)
    await supervisor.start(snapshot(1))
    acceptor.calls.length = 0
    supervisor.injectFault(1, 'throw')
    await log.until('worker 1 was replaced')
    expect(acceptor.calls).toEqual(['remove 1', 'add 1: app 0 of worker 1, app 1 of worker 1'])
  })

  test('an address that the primary cannot listen on is explained', async () => {
    const acceptor = new RecordedAcceptor()
    acceptor.refusal = new ListenRefused('127.0.0.1:40000', 'refused')
    const { supervisor } = harness(() => 'ok', acceptor)
    await expect(supervisor.start(snapshot(1))).rejects.toThrow(new UsageError('cannot listen on 127.0.0.1:40000: refused', 1))
  })
})

describe('ending', () => {
  test('drain waits for all workers', async () => {
    const { supervisor } = harness(() => 'ok')
    await supervisor.start(snapshot(1))
    expect(await supervisor.drain(waitMs, new AbortController().signal)).toBe(true)
  })

  test('drain gives up at the timeout, and at once when told to stop', async () => {
    const { supervisor } = harness((index) => (index === 1 ? 'never-drained' : 'ok'))
    await supervisor.start(snapshot(1))
    expect(await supervisor.drain(50, new AbortController().signal)).toBe(false)
    const other = harness((index) => (index === 1 ? 'never-drained' : 'ok'))
    await other.supervisor.start(snapshot(1))
    const stop = new AbortController()
    const drained = other.supervisor.drain(600_000, stop.signal)
    stop.abort()
    expect(await drained).toBe(false)
  })

  test('close ends every thread without killing', async () => {
    const { supervisor, killed, board } = harness(() => 'ok')
    await supervisor.start(snapshot(1))
    await supervisor.close()
    expect(killed.count).toBe(0)
    expect(board.calls.filter((call) => call.startsWith('release')).sort()).toEqual(['release 0', 'release 1'])
  })

  test('a thread that does not close makes the process kill itself, after saying so', async () => {
    const { supervisor, killed, log } = harness((index) => (index === 1 ? 'ignores-close' : 'ok'), undefined, 300)
    await supervisor.start(snapshot(1))
    await supervisor.close()
    expect(killed.count).toBe(1)
    expect(log.lines).toContain('error a worker did not close its sockets in time: killing this process')
    expect(log.flushes).toBe(1)
  })
})
