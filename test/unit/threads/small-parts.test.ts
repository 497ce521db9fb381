import { EventEmitter } from 'node:events'
import { createServer } from 'node:net'
import { describe, expect, test } from 'vitest'
import { ManualClock } from '../../../src/base/clock.js'
import { availableCores } from '../../../src/threads/cores.js'
import { Backoff, CrashLoop } from '../../../src/threads/crash-loop.js'
import { findFreePorts } from '../../../src/threads/free-ports.js'
import { HeartbeatWatch } from '../../../src/threads/heartbeat.js'
import { explainListenFailure } from '../../../src/threads/listen-problem.js'
import { notifyServiceManager } from '../../../src/threads/notify.js'
import { installSignals } from '../../../src/threads/signals.js'
import { RecordedLog } from './recorded-log.js'

describe('availableCores', () => {
  const cores = (parallelism: number, files: { readonly [path: string]: string }) =>
    availableCores({ parallelism: () => parallelism, readText: (path) => files[path] })

  test.each([
    ['no control group', 8, {}, 8],
    ['version 2 without a quota', 8, { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': 'max 100000\n' }, 8],
    ['version 2, 1.5 cores', 8, { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': '150000 100000\n' }, 2],
    ['version 2, a tenth of a core', 8, { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': '10000 100000\n' }, 1],
    [
      'version 2, the parent is tighter',
      8,
      { '/proc/self/cgroup': '0::/a/b\n', '/sys/fs/cgroup/a/b/cpu.max': '600000 100000', '/sys/fs/cgroup/a/cpu.max': '300000 100000' },
      3,
    ],
    [
      'version 2, path of the host not visible inside',
      8,
      { '/proc/self/cgroup': '0::/../x\n', '/sys/fs/cgroup/cpu.max': '400000 100000' },
      4,
    ],
    [
      'version 1',
      8,
      {
        '/proc/self/cgroup': '5:memory:/m\n4:cpu,cpuacct:/d/1\n',
        '/sys/fs/cgroup/cpu/d/1/cpu.cfs_quota_us': '200000\n',
        '/sys/fs/cgroup/cpu/d/1/cpu.cfs_period_us': '100000\n',
      },
      2,
    ],
    [
      'version 1 without a quota',
      8,
      {
        '/proc/self/cgroup': '4:cpu:/\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
      },
      8,
    ],
    ['the mask is tighter than the quota', 2, { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': '800000 100000' }, 2],
    ['nonsense', 4, { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': '0 0' }, 4],
  ])('%s', (_, parallelism, files, expected) => {
    expect(cores(parallelism, files)).toBe(expected)
  })

  test('on this machine it is a positive whole number', () => {
    expect(availableCores()).toBeGreaterThanOrEqual(1)
    expect(Number.isInteger(availableCores())).toBe(true)
  })
})

describe('CrashLoop', () => {
  test('the fifth death within the window completes the loop', () => {
    const loop = new CrashLoop(5, 10_000)
    expect([0, 1, 2, 3].map((at) => loop.record(at))).toEqual([false, false, false, false])
    expect(loop.record(9_999)).toBe(true)
  })

  test('deaths as old as the window do not count', () => {
    const loop = new CrashLoop(2, 10_000)
    expect(loop.record(0)).toBe(false)
    expect(loop.record(10_000)).toBe(false)
    expect(loop.record(19_999)).toBe(true)
  })
})

test('Backoff doubles up to its limit and starts over after reset', () => {
  const backoff = new Backoff(100, 5_000)
  expect(Array.from({ length: 8 }, () => backoff.next())).toEqual([100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000])
  backoff.reset()
  expect(backoff.next()).toBe(100)
})

test('signals: HUP reloads, USR1 reopens, the first TERM or INT drains, the second ends; removal restores', () => {
  const source = new EventEmitter()
  const clock = new ManualClock()
  const calls: string[] = []
  const remove = installSignals(
    {
      reload: () => calls.push('reload'),
      drain: (signal) => calls.push(`drain ${signal}`),
      endNow: (signal) => calls.push(`end ${signal}`),
      reopenLogs: () => calls.push('reopen'),
    },
    source,
    clock,
  )
  for (const signal of ['SIGHUP', 'SIGUSR1', 'SIGTERM', 'SIGHUP']) source.emit(signal, signal)
  clock.advance(100)
  // to the process and to its group: one request
  source.emit('SIGTERM', 'SIGTERM')
  clock.advance(200)
  for (const signal of ['SIGINT', 'SIGTERM']) source.emit(signal, signal)
  expect(calls).toEqual(['reload', 'reopen', 'drain SIGTERM', 'reload', 'end SIGINT', 'end SIGTERM'])
  remove()
  expect(source.eventNames()).toEqual([])
})

describe('notifyServiceManager', () => {
  test('does nothing without a service manager', async () => {
    const runs: (readonly string[])[] = []
    await notifyServiceManager(
      'READY=1',
      () => {},
      {},
      async (args) => {
        runs.push(args)
        return null
      },
    )
    expect(runs).toEqual([])
  })

  test('passes the state on, and a failure as a warning', async () => {
    const runs: (readonly string[])[] = []
    const warnings: string[] = []
    await notifyServiceManager(
      'STOPPING=1',
      (message) => warnings.push(message),
      { NOTIFY_SOCKET: '/run/x' },
      async (args) => {
        runs.push(args)
        return 'no such program'
      },
    )
    expect(runs).toEqual([['STOPPING=1']])
    expect(warnings).toEqual(['the service manager was not told STOPPING=1: no such program'])
  })
})

test('HeartbeatWatch says once that a worker stalls and once that it is over', () => {
  const log = new RecordedLog()
  const watch = new HeartbeatWatch(log, 1_000)
  const look = (beatAgeMs: number, state = 'serving') => watch.check([{ index: 3, state, beatAgeMs }])
  look(999)
  look(1_001)
  look(5_000)
  look(10)
  look(9_000, 'ended')
  expect(log.lines).toEqual(['warn worker 3 does not respond: its last heartbeat is 1001 ms old', 'info worker 3 responds again'])
})

describe('explainListenFailure', () => {
  test('a port in use', async () => {
    const holder = createServer()
    await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve))
    const address = holder.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const error = await explainListenFailure(`127.0.0.1:${port}`, 'refused')
    holder.close()
    expect(error.message).toBe(
      `cannot listen on 127.0.0.1:${port}: the port is in use by another process; stop it, or choose another with --listen`,
    )
    expect(error.exitCode).toBe(1)
  })

  test('an address of another machine', async () => {
    const error = await explainListenFailure('203.0.113.7:9080', 'refused')
    expect(error.message).toContain('this machine has no such address')
    expect(error.exitCode).toBe(2)
  })

  test('whatever the binding said, when the system has no objection', async () => {
    expect((await explainListenFailure('127.0.0.1:0', 'the binding refused')).message).toBe(
      'cannot listen on 127.0.0.1:0: the binding refused',
    )
  })
})

test('findFreePorts keeps configured ports and finds a different free one for each 0', async () => {
  const host = '127.0.0.1'
  const [kept, one, other] = await findFreePorts([
    { host, port: 81 },
    { host, port: 0 },
    { host, port: 0 },
  ])
  expect(kept).toBe(81)
  expect(one).toBeGreaterThan(0)
  expect(other).toBeGreaterThan(0)
  expect(one).not.toBe(other)
  await expect(findFreePorts([{ host: '203.0.113.7', port: 0 }])).rejects.toThrow('cannot listen on 203.0.113.7:0')
})
