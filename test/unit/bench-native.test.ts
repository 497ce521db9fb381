import { readFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { describe, expect, test } from 'vitest'
import { goals, jobs } from '../../native-bench/jobs/index.mjs'
import { fetchTogether } from '../../native-bench/lib/http.mjs'
import { compared, durationMs, median, pairedRatio, parseProcStat, parseWrk, percentile, summarise } from '../../native-bench/lib/parse.mjs'
import { rivals } from '../../native-bench/lib/rivals.mjs'

const clean = `Running 5s test @ http://127.0.0.1:8000/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.21ms  450.11us  15.20ms   90.00%
    Req/Sec    50.12k     2.01k   55.00k    70.00%
  Latency Distribution
     50%    1.10ms
     75%    1.32ms
     90%  980.00us
     99%    2.50ms
  250600 requests in 5.01s, 70.00MB read
Requests/sec:  50020.00
Transfer/sec:     14.00MB
`
const failing = clean.replace(
  'Requests/sec',
  '  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\nRequests/sec',
)

describe('report of wrk', () => {
  test('numbers and units', () => {
    const report = parseWrk(clean)
    expect(report).toMatchObject({ requests: 250600, seconds: 5.01, p50Ms: 1.1, p99Ms: 2.5, maxMs: 15.2, failed: 0 })
    expect(report.requestsPerSecond).toBeCloseTo(50020, 0)
  })

  test('every kind of failure is counted', () => {
    expect(parseWrk(failing)).toMatchObject({ failed: 15, errors: { connect: 1, read: 2, write: 3, timeout: 4, non2xx: 5 } })
  })

  test('anything else is an error, not zeros', () => {
    expect(() => parseWrk('unable to connect to 127.0.0.1:1 Connection refused')).toThrow(/no report/)
    expect(() => durationMs('5 fortnights')).toThrow(/not a duration/)
  })

  test.each([
    ['850.00us', 0.85],
    ['1.50ms', 1.5],
    ['2.00s', 2000],
    ['10.00m', 600_000],
    ['1.00h', 3_600_000],
  ])('%s is %d ms', (text, ms) => expect(durationMs(text)).toBeCloseTo(ms, 6))
})

test('a process name may hold blanks and parentheses', () => {
  const text = '4242 (ng) inx: (w) S 17 4242 1 0 -1 4194560 500 0 0 0 120 30 7 7 20 0 1 0 12345 1000000 900'
  expect(parseProcStat(text)).toEqual({ pid: 4242, name: 'ng) inx: (w', state: 'S', parent: 17, cpuTicks: 150, endedChildrenTicks: 14 })
})

describe('arithmetic', () => {
  test('median and percentile', () => {
    expect(median([3, 1, 2])).toBe(2)
    expect(median([4, 1, 3, 2])).toBe(2.5)
    expect(() => median([])).toThrow(/no values/)
    const sorted = Array.from({ length: 100 }, (_, i) => i + 1)
    expect([50, 99, 100].map((percent) => percentile(sorted, percent))).toEqual([50, 99, 100])
    expect(percentile([7], 0)).toBe(7)
  })

  test('a summary takes medians per column and the sum of failures', () => {
    const round = (value: number, failed: number) => ({
      requestsPerSecond: value,
      p50Ms: value,
      p99Ms: value,
      cpuMicrosPerRequest: value,
      requestsPerCpuSecond: value,
      failed,
    })
    expect(summarise([round(1, 0), round(9, 2), round(5, 1)])).toEqual(round(5, 3))
  })

  test('builds and rivals are compared round by round', () => {
    const round = (requestsPerCpuSecond: number) => ({
      requestsPerSecond: 1,
      p50Ms: 1,
      p99Ms: 1,
      cpuMicrosPerRequest: 1,
      failed: 0,
      requestsPerCpuSecond,
    })
    // The second round was twice as slow for both: no difference between the two.
    const ours = [round(100), round(50), round(120)]
    const theirs = [round(100), round(50), round(80)]
    expect(pairedRatio(ours, theirs)).toEqual({ median: 1, least: 1, most: 1.5 })
  })

  test.each([
    [[110, 108, 109, 111, 99], 'better'],
    [[110, 108, 99, 111, 99], 'nothing'],
    [[90, 91, 92, 88, 89], 'worse'],
    [[101, 101, 101, 101, 101], 'nothing'],
  ])('rounds of %j beside 100 prove: %s', (rates, verdict) => {
    const rounds = (values: readonly number[]) =>
      values.map((requestsPerCpuSecond) => ({
        requestsPerSecond: 1,
        p50Ms: 1,
        p99Ms: 1,
        cpuMicrosPerRequest: 1,
        failed: 0,
        requestsPerCpuSecond,
      }))
    expect(compared(rounds(rates), rounds(rates.map(() => 100)), 0.02).verdict).toBe(verdict)
  })
})

describe('jobs', () => {
  const contestants = Object.entries(jobs).flatMap(([name, job]) =>
    Object.entries(job.contestants).map(([one, { of = one }]) => ({ name, job, one, of })),
  )

  test.each(contestants)('$name: $one can be started, and its configuration has no name that nobody fills in', ({ job, of }) => {
    const known = new Set([
      'DIR',
      'JOBS',
      'MODULES',
      'PORT',
      'NAME',
      'HTTP',
      'METRICS_PORT',
      'MAX_CONNECTIONS',
      'WORKER_CONNECTIONS',
      'UPSTREAM_PORT',
      'PIPELINING',
      'ALGORITHM',
      'VERIFICATION_KEY',
      'KEY_FILE',
      'JWT_CONSUMERS',
      'KEY_CONSUMERS',
      'DEAD_PORT',
      'SHARED',
    ])
    const files: { readonly [rival: string]: string } = {
      sluice: 'sluice.yaml',
      'sluice-pipelining': 'sluice.yaml',
      nginx: 'nginx.conf',
      haproxy: 'haproxy.cfg',
      'nginx-lua': 'nginx-lua.conf',
      caddy: 'Caddyfile',
    }
    const file = files[of]
    expect(Object.keys(rivals)).toContain(of)
    // Programs in Node have no configuration.
    if (file === undefined) return
    const text = readFileSync(new URL(`../../native-bench/jobs/${job.folder}/${file}`, import.meta.url), 'utf8')
    expect([...text.matchAll(/@([A-Z_]+)@/g)].map(([, key]) => key).filter((key) => !known.has(String(key)))).toEqual([])
  })

  const namesOf = (job: string) => Object.keys(jobs[job]?.contestants ?? {})

  test('plain proxies are measured with four numbers of connections, small and large answers, and with both ways of pipelining', () => {
    const all = ['plain', 'plain-c16', 'plain-c256', 'plain-c1024', '16k', '16k-c16', '16k-c256', '16k-c1024', 'pipelined-clients']
    for (const job of all)
      expect([job, ...namesOf(job)]).toEqual(expect.arrayContaining(['sluice', 'nginx', 'haproxy', 'caddy', 'http-proxy']))
    for (const job of all.slice(1)) expect([job, ...namesOf(job)]).toContain('sluice-pipelining')
    for (const job of ['plain', '16k', 'post1k', 'post100k'])
      expect([job, ...namesOf(job)]).toEqual(expect.arrayContaining(['@fastify/http-proxy', 'fast-gateway']))
    expect(all.map((job) => jobs[job]?.connections)).toEqual([undefined, 16, 256, 1024, undefined, 16, 256, 1024, undefined])
  })

  test('nobody is in a job that it cannot do by itself', () => {
    const plain = ['caddy', 'http-proxy', 'http-proxy-default', '@fastify/http-proxy', 'fast-gateway']
    for (const job of ['limit', 'key', 'jwt-hs256', 'jwt-rs256', 'refuse-429'])
      for (const one of plain) expect(namesOf(job)).not.toContain(one)
    for (const job of ['jwt-hs256', 'jwt-rs256']) expect(namesOf(job)).not.toContain('nginx')
  })

  test('requests that are sent at once are answered in their order, however the answers arrive', async () => {
    const server = createServer((socket) => {
      socket.once('data', (asked) => {
        const answers = [...asked.toString().matchAll(/^GET (\S+) /gm)].map(
          ([, path = '']) => `HTTP/1.1 200 OK\r\nContent-Length: ${path.length}\r\n\r\n${path}`,
        )
        const text = answers.join('')
        socket.write(text.slice(0, 50))
        setImmediate(() => socket.end(text.slice(50)))
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    try {
      const { port } = server.address() as AddressInfo
      await expect(fetchTogether(port, ['/a', '/longer', '/'])).resolves.toEqual(['/a', '/longer', '/'])
      server.removeAllListeners('connection')
      server.on('connection', (socket) => socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')))
      await expect(fetchTogether(port, ['/a', '/b'])).rejects.toThrow(/closed behind 1 of 2 answers/)
    } finally {
      server.close()
    }
  })

  test('goals are about jobs and contestants that there are', () => {
    for (const { job, of, to } of goals) expect(Object.keys(jobs[job]?.contestants ?? {})).toEqual(expect.arrayContaining([of, to]))
  })
})
