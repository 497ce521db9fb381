import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import {
  evenSchedule,
  isDisturbed,
  type LatencyRound,
  type Percentiles,
  poissonSchedule,
  readTimes,
  summariseRounds,
} from '../../native-bench/lib/latency-times.mjs'
import { divideByDescent, parseIdleTicks, parseProcStat } from '../../native-bench/lib/parse.mjs'

describe('when requests are due', () => {
  test('at equal distances, starting at once', () => {
    expect([...evenSchedule(4, 1.5)]).toEqual([0, 250_000, 500_000, 750_000, 1_000_000, 1_250_000])
  })

  test('independent of each other: exponential distances, the same for the same seed', () => {
    const [rate, seconds] = [10_000, 1]
    const due = poissonSchedule(rate, seconds, 7)
    expect(due).toEqual(poissonSchedule(rate, seconds, 7))
    expect(due).not.toEqual(poissonSchedule(rate, seconds, 8))
    expect(due.length).toBe(rate * seconds)
    const gaps = [...due].map((at, index) => at - (due[index - 1] ?? 0))
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(0)
    const mean = 1e6 / rate
    // The mean of n exponential gaps deviates by 1/sqrt(n) of itself, the share of those above the mean is 1/e.
    expect(gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length / mean).toBeCloseTo(1, 1)
    expect(gaps.filter((gap) => gap > mean).length / gaps.length).toBeCloseTo(1 / Math.E, 1)
  })
})

describe('what the times say', () => {
  /** ready, sent, answered of each request. */
  const times = (...requests: [number, number, number][]) => Float64Array.from(requests.flat())

  test('latency counts from the moment a request was due, lateness is what the generator lost by itself', () => {
    const due = Float64Array.of(0, 100, 200, 300)
    // The second waits 400 µs for a free connection, and the generator needs 5 µs more; the first is warm-up.
    const read = readTimes(due, times([0, 90, 99], [500, 505, 600], [200, 200, 250], [300, 301, 350]), 100)
    expect(read).toMatchObject({ requests: 3, waited: 1 })
    expect(read.latency.p50).toBeCloseTo(50, 1)
    expect(read.latency.max).toBeCloseTo(500, 0)
    expect(read.lateness.p50).toBeCloseTo(1, 2)
    expect(read.lateness.max).toBeCloseTo(5, 2)
  })

  test('percentiles of a known distribution, to three digits', () => {
    const count = 100_000
    const due = evenSchedule(1_000_000, count / 1e6)
    // Latencies of 1 to 100,000 µs.
    const { latency } = readTimes(due, Float64Array.from([...due].flatMap((at, index) => [at, at, at + index + 1])), 0)
    const expected: [keyof Percentiles, number][] = [
      ['p50', 50_000],
      ['p90', 90_000],
      ['p99', 99_000],
      ['p999', 99_900],
      ['max', 100_000],
    ]
    for (const [name, value] of expected) expect(Math.abs(latency[name] / value - 1), name).toBeLessThan(0.001)
  })

  test('times that do not belong to the requests are an error', () => {
    expect(() => readTimes(Float64Array.of(0, 1), times([0, 0, 1]), 0)).toThrow('3 times of 2 requests')
  })
})

describe('rounds', () => {
  const limits = { latenessUs: 100, others: 0.03 }
  const percentiles = (p50: number, p99: number): Percentiles => ({ p50, p90: p50, p99, p999: p99, max: p99 })
  const round = (direct: [number, number], through: [number, number], { lateness = 20, others = 0.01 } = {}): LatencyRound => ({
    direct: { latency: percentiles(...direct), lateness: percentiles(5, 10), others: 0 },
    through: { latency: percentiles(...through), lateness: percentiles(5, lateness), others, cpuShare: 0.5 },
  })

  test('what is added is the difference of percentiles within a round, and its median over the rounds', () => {
    // The second round was slow for both.
    const found = summariseRounds([round([30, 90], [70, 190]), round([130, 900], [171, 1020]), round([30, 90], [72, 180])], limits)
    expect(found).toMatchObject({ rounds: 3, disturbed: 0, isTrusted: true, generator: 20, others: 0.01, cpuShare: 0.5 })
    expect(found.added.p50).toEqual({ median: 41, least: 40, most: 42 })
    expect(found.added.p99).toEqual({ median: 100, least: 90, most: 120 })
    expect(found.direct.p50).toBe(30)
    expect(found.through.p50).toBe(72)
  })

  test('a late generator or busy neighbours disturb a round; it is left out, unless there is no other', () => {
    const late = round([30, 90], [500, 9000], { lateness: 101 })
    const crowded = round([30, 90], [600, 9000], { others: 0.04 })
    const good = round([30, 90], [70, 190], { lateness: 100, others: 0.03 })
    expect([late, crowded, good].map((one) => isDisturbed(one, limits))).toEqual([true, true, false])
    expect(summariseRounds([late, good, crowded], limits)).toMatchObject({ disturbed: 2, isTrusted: true, through: { p50: 70 } })
    expect(summariseRounds([late, crowded], limits)).toMatchObject({ disturbed: 2, isTrusted: false, through: { p50: 550 } })
  })
})

describe('CPU time of others', () => {
  test('idle ticks of the cores that are used', () => {
    const text = 'cpu  9 9 9 9 9 9\ncpu0 10 20 30 400 50 60 70\ncpu1 1 2 3 4 5 6 7\ncpu10 500 500 500 500 500 0 0\nintr 1\n'
    expect(parseIdleTicks(text, [0])).toBe(450)
    expect(parseIdleTicks(text, [0, 1])).toBe(459)
    expect(() => parseIdleTicks(text, [2])).toThrow('no core 2')
  })

  test('processes are ours by descent; what ended counts for those who waited for it', () => {
    const line = (pid: number, parent: number, cpu: number, ended: number) =>
      parseProcStat(`${pid} (node) S ${parent} 1 1 0 -1 0 0 0 0 0 ${cpu} 1 ${ended} 1 20 0`)
    const processes = [line(1, 0, 10, 20), line(5, 1, 100, 200), line(7, 5, 1000, 2000), line(8, 7, 1, 1), line(9, 1, 50, 0)]
    expect(divideByDescent(processes, 5)).toEqual({ own: 3302 + 3 * 2, others: 80 + 2 * 2 })
    // 8 has ended, and 7 has waited for it.
    const later = [line(1, 0, 10, 20), line(5, 1, 100, 200), line(7, 5, 1000, 2004), line(9, 1, 50, 0)]
    expect(divideByDescent(later, 5)).toEqual(divideByDescent(processes, 5))
  })
})

const wrk = '/usr/bin/wrk'
const script = fileURLToPath(new URL('../../native-bench/lib/constant-rate.lua', import.meta.url))

/** Runs the generator on two connections against `answer`. */
async function generate(answer: RequestListener, due: Float64Array): Promise<Float64Array> {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-generator-'))
  const server = createServer(answer)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    const { port } = server.address() as AddressInfo
    writeFileSync(join(folder, 'due'), due)
    const url = `http://127.0.0.1:${port}/asked`
    await promisify(execFile)(wrk, ['-t1', '-c1', '-d1s', '-s', script, url, '--', join(folder, 'due'), join(folder, 'times'), '2'])
    const bytes = readFileSync(join(folder, 'times'))
    return new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
  } finally {
    server.closeAllConnections()
    server.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

describe.skipIf(!existsSync(wrk))('the generator', () => {
  test('sends no request before it is due, and the one that finds all connections busy when one is free', async () => {
    const asked: (string | undefined)[] = []
    const due = Float64Array.of(0, 0, 0, 20_000)
    const written = await generate((request, response) => {
      asked.push(request.url)
      response.end('the same for all')
    }, due)
    const of = (index: number) => ({
      ready: written[index * 3] ?? -1,
      sent: written[index * 3 + 1] ?? -1,
      done: written[index * 3 + 2] ?? -1,
    })
    // Each connection asks once before the start, to learn how long answers are.
    expect(asked).toEqual(Array.from({ length: 6 }, () => '/asked'))
    for (const [index, at] of due.entries()) {
      const { ready, sent, done } = of(index)
      expect([at <= ready, ready <= sent, sent < done]).toEqual([true, true, true])
    }
    expect(of(0).ready).toBe(0)
    expect(of(2).ready).toBe(Math.min(of(0).done, of(1).done))
  })

  test('an answer that is no answer ends it', async () => {
    let count = 0
    const answer: RequestListener = (_request, response) => {
      count++
      response.statusCode = count > 2 ? 503 : 200
      response.end('overloaded')
    }
    await expect(generate(answer, Float64Array.of(0, 1))).rejects.toThrow(/not an answer with 200: HTTP\/1.1 503/)
  })
})
