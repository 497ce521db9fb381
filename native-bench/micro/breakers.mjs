/**
 * What a circuit breaker costs a request, in nanoseconds of CPU time.
 *
 *   npm run build && node native-bench/micro/breakers.mjs        (SLUICE_DIST: another build folder)
 *
 * Each number is the best of seven rounds of a million requests on one thread, by the CPU clock of the process.
 */
import { pathToFileURL } from 'node:url'

const dist = process.env.SLUICE_DIST === undefined ? new URL('../../dist/', import.meta.url) : pathToFileURL(`${process.env.SLUICE_DIST}/`)
const { BREAKERS_BYTES, BreakerCells } = await import(new URL('shared/breaker-cells.js', dist))
const { createPathBreakersRegion, PathBreakerTable } = await import(new URL('shared/path-breakers.js', dist))

const rounds = 7
const requests = 1_000_000
const now = 2_000

const cells = new BreakerCells(new SharedArrayBuffer(BREAKERS_BYTES), () => undefined)
const inARow = {
  consecutiveFailures: 5,
  errorRatio: 0,
  slowRatio: 0,
  slowMs: 1_000,
  minimumRequests: 20,
  windowMs: 10_000,
  openMs: 30_000,
  openMaxMs: 30_000,
  permits: 3,
  permitExpiryMs: 60_000,
  successes: 3,
  rampMs: 0,
}
const ratio = { ...inARow, errorRatio: 0.5 }
const [first, second, open] = ['first', 'second', 'open'].map((name) => cells.slotOf(name))
cells.openNow(open, 10_000_000, 1, false, now, 'manual')

const paths = new PathBreakerTable(createPathBreakersRegion([1, 2]), 0)
const counts = { failures: 3, successes: 3, maxBreakerSec: 300 }
const lookAndCount = () => {
  paths.isOpen('api.example.com', '/orders/12345', counts, now)
  paths.succeeded('api.example.com', '/orders/12345', counts)
}

measure('circuit-breaker, closed, failures in a row', () => {
  cells.isClosed(first)
  cells.record(first, inARow, 0, now, 0)
})
measure('circuit-breaker, closed, ratio over a window', (index) => {
  cells.isClosed(second)
  cells.record(second, ratio, 0, now + index / 1000, 0)
})
measure('circuit-breaker, open: refusal', () => cells.isClosed(open) || cells.admit(open, ratio, now))
measure('api-breaker, nothing has failed yet', lookAndCount)
paths.failed('b.example.com', '/', counts, now)
measure('api-breaker, other paths have failed', lookAndCount)

function measure(name, request) {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < rounds; round++) {
    const before = process.cpuUsage()
    for (let index = 0; index < requests; index++) request(index)
    const { user, system } = process.cpuUsage(before)
    best = Math.min(best, ((user + system) * 1000) / requests)
  }
  console.log(`${name.padEnd(48)} ${best.toFixed(0).padStart(5)} ns`)
}
