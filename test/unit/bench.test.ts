import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { UsageError } from '../../src/base/errors.js'
import { passed, Recorder, resultOf } from '../../src/cli/bench/measure.js'
import { originOf } from '../../src/cli/bench/processes.js'
import { renderReport } from '../../src/cli/bench/report.js'
import { type BenchCase, benchCases, selfStartDocument } from '../../src/cli/bench/suites.js'
import { benchDefaults, runBench } from '../../src/cli/bench.js'
import { runCommandLine } from '../../src/cli/program.js'

const servers: Server[] = []

afterEach(async () => {
  vi.restoreAllMocks()
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
})

async function serve(listener: RequestListener): Promise<{ origin: string; connections: () => number }> {
  let connections = 0
  const server = createServer(listener)
  server.on('connection', () => connections++)
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return { origin: `http://127.0.0.1:${address.port}`, connections: () => connections }
}

function captureStdout(): () => string {
  let text = ''
  vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    text += String(chunk)
    return true
  })
  return () => text
}

const plain: BenchCase = { suite: 'plain', title: 'plain GET', method: 'GET', paths: ['/'], bodyBytes: 0, reconnect: false }

describe('suites', () => {
  test('all of a self-started gateway covers every suite', () => {
    const { targets } = selfStartDocument(9000)
    const cases = benchCases('all', targets)
    expect(cases.map(({ title }) => title)).toEqual([
      'plain GET',
      'kept connections',
      'new connection each',
      'POST 1 KB',
      'POST 100 KB',
      '300 mixed paths',
    ])
    expect(cases.map(({ bodyBytes }) => bodyBytes)).toEqual([0, 0, 0, 1024, 102400, 0])
  })

  test('all against a foreign gateway leaves out routes, and routes by name is refused', () => {
    const targets = { path: '/x', mixedPaths: [] }
    expect(benchCases('all', targets).some(({ suite }) => suite === 'routes')).toBe(false)
    expect(() => benchCases('routes', targets)).toThrow(UsageError)
    expect(benchCases('routes', { path: '/x', mixedPaths: ['/a', '/b'] })[0]?.paths).toEqual(['/a', '/b'])
  })
})

describe('recorder', () => {
  test('percentiles are within the histogram precision, and failures count', () => {
    const recorder = new Recorder()
    for (let i = 1; i <= 1000; i++) recorder.record(i === 1000 ? 503 : 200, i / 10)
    const result = resultOf(plain, recorder, { seconds: 2, errors: 1, timeouts: 0, bytes: 4000 })
    expect(result.requests).toBe(1000)
    expect(result.requestsPerSecond).toBe(500)
    expect(result.bytesPerSecond).toBe(2000)
    expect(result.non2xx).toBe(1)
    expect(result.statuses).toEqual({ 200: 999, 503: 1 })
    const at = (wanted: number): number => result.latencyMs.find(({ percentile }) => percentile === wanted)?.value ?? Number.NaN
    expect(at(50)).toBeCloseTo(50, 0)
    expect(at(99)).toBeCloseTo(99, 0)
    expect(at(100)).toBeCloseTo(100, 0)
    expect(passed(result)).toBe(false)
  })

  test('no answer at all is a failure, and is printed as one', () => {
    const result = resultOf(plain, new Recorder(), { seconds: 1, errors: 0, timeouts: 0, bytes: 0 })
    expect(passed(result)).toBe(false)
    expect(renderReport([result], false)).toContain('FAILED plain: plain GET: no answers')
  })
})

test('the origin is read from the ready line', () => {
  const line = 'sluice 0.1.0 ready: http://127.0.0.1:41234, metrics http://127.0.0.1:9, workers 1, accept kernel, uWebSockets.js 1.5.0'
  expect(originOf(line)).toBe('http://127.0.0.1:41234')
  expect(() => originOf('sluice ready: https://127.0.0.1:1')).toThrow(/names no http:/)
})

describe('runBench against a running server', () => {
  test('keep-alive and new connections: both are measured, connections are really new', async () => {
    const { origin, connections } = await serve((_request, response) => response.end('ok'))
    const output = captureStdout()
    const folder = await mkdtemp(join(tmpdir(), 'sluice-bench-test-'))
    try {
      const json = join(folder, 'report.json')
      const code = await runBench({ ...benchDefaults, suite: 'keepalive', url: `${origin}/x`, duration: 1, connections: 2, json })
      expect(code).toBe(0)
      const report = JSON.parse(await readFile(json, 'utf8'))
      const [kept, fresh] = report.results
      expect(fresh.requests).toBeGreaterThan(0)
      expect(kept.statuses).toEqual({ 200: kept.requests })
      expect(connections()).toBeGreaterThanOrEqual(fresh.requests)
      // Two that are kept, and those on their way at the end; on a machine that is slow beyond reason there are not more requests.
      expect(connections()).toBeLessThanOrEqual(fresh.requests + Math.min(10, kept.requests + 2))
      expect(output()).toMatch(/new connection each/)
      expect(output()).toMatch(/p99\.99/)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })

  test('POST sends the whole body; a single kind of non-2xx answer is exit code 1', async () => {
    const sizes = new Set<number>()
    const { origin } = await serve((request, response) => {
      let size = 0
      request.on('data', (chunk: Buffer) => {
        size += chunk.length
      })
      request.on('end', () => {
        sizes.add(size)
        response.statusCode = size > 2000 ? 413 : 200
        response.end()
      })
    })
    const output = captureStdout()
    expect(await runBench({ ...benchDefaults, suite: 'post', url: origin, duration: 1, connections: 2 })).toBe(1)
    expect([...sizes].sort((a, b) => a - b)).toEqual([1024, 102400])
    expect(output()).toMatch(/FAILED post: POST 100 KB: \d+ × 413/)
    expect(output()).not.toMatch(/FAILED post: POST 1 KB/)
  })

  test('the routes suite asks for every path, with the headers that were given', async () => {
    const seen = new Set<string>()
    const { origin } = await serve((request, response) => {
      seen.add(`${request.url} ${request.headers['apikey']}`)
      response.end()
    })
    captureStdout()
    const paths = ['/a', '/b?x=1', '/c']
    expect(
      await runBench({ ...benchDefaults, suite: 'routes', url: origin, paths, duration: 1, connections: 1, headers: { apikey: 'jack' } }),
    ).toBe(0)
    expect([...seen].sort()).toEqual(paths.map((path) => `${path} jack`))
  })

  test.each([
    [{ url: 'nonsense' }, /--url: found "nonsense"/],
    [{ url: 'ftp://x/' }, /--url/],
    [{ connections: 0 }, /--connections: found 0/],
    [{ duration: 1.5 }, /--duration/],
    [{ paths: ['/a'] }, /--path: works only together with --url/],
    [{ url: 'http://127.0.0.1:1', workers: 2 }, /--workers/],
    [{ url: 'http://127.0.0.1:1', suite: 'routes' as const }, /--path/],
  ])('wrong options %j are a usage error', async (wrong, text) => {
    const error = await runBench({ ...benchDefaults, ...wrong }).catch((caught: unknown) => caught)
    expect(error).toBeInstanceOf(UsageError)
    expect(error).toMatchObject({ exitCode: 2, message: expect.stringMatching(text) })
  })
})

test.each([
  [['--tune', '--url', 'http://127.0.0.1:1/'], /--url: a gateway that runs cannot be given other flags/],
  [['--tune', '--path', '/x'], /--path: works only together with --url or --config/],
  [['post', '--tune'], /suite "post": --tune compares one number/],
  [['--tune', '--knobs', 'workers,colour'], /--knobs: found "colour"; expected one or more of workers, pipelining, pool/],
  [['--tune', '-c', 'x.yaml'], /--config: needs --path/],
  [['--tune', '-c', 'x.yaml', '--path', 'orders'], /--path: found "orders"; expected a target that begins with "\/"/],
  [['routes', '--tune', '-c', 'x.yaml', '--path', '/'], /suite "routes": with --config/],
  [['--tune', '-c', 'no-such.yaml', '--path', '/'], /--config: no-such\.yaml is not valid\n.*the file does not exist/],
  [['-c', 'x.yaml'], /--config: works only together with --tune/],
  [['--header', 'nonsense'], /--header: found "nonsense"; expected "Name: value"/],
  [['--rounds', '2'], /--rounds: works only together with --tune/],
  [['--knobs', 'pool'], /--knobs: works only together with --tune/],
])('the command line refuses %j', async (args, text) => {
  let told = ''
  vi.spyOn(process.stderr, 'write').mockImplementation((chunk) => {
    told += String(chunk)
    return true
  })
  expect(await runCommandLine(['bench', ...args])).toBe(2)
  expect(told).toMatch(text)
})
