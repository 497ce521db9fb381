/**
 * Draws what the rate-limit algorithms do with the same traffic, from the real engine, into docs/images/limits.svg.
 *
 *   npm run build && node scripts/draw-limits.mjs [FILE]        (SLUICE_DIST: another build folder)
 *
 * The picture is committed; it changes only when the engine's behaviour does.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const dist = process.env.SLUICE_DIST === undefined ? new URL('../dist/', import.meta.url) : pathToFileURL(`${process.env.SLUICE_DIST}/`)
const { createLimiterRegion } = await import(new URL('shared/limiter-layout.js', dist))
const { LocalLimiterStore } = await import(new URL('shared/limiter-store.js', dist))

const second = 1000
const limit = 10
const windowMs = 10 * second
const spanMs = 60 * second
const startMs = Date.UTC(2026, 0, 2)

function evenly(count, fromMs, toMs) {
  return Array.from({ length: count }, (_, index) => Math.round(fromMs + ((toMs - fromMs) * index) / count))
}

const traffic = [
  ...evenly(8, 500, 10 * second),
  ...evenly(12, 18 * second, 20 * second),
  ...evenly(12, 20 * second, 22 * second),
  ...evenly(40, 30 * second, 50 * second),
  ...evenly(15, 55 * second, 55.15 * second),
]

const rows = [
  ['fixed window', 'from the clock', { algorithm: 'fixed-window', limit, windowMs, start: 'clock' }],
  ['fixed window', 'from the first hit', { algorithm: 'fixed-window', limit, windowMs, start: 'first-hit' }],
  ['sliding window', 'two counters', { algorithm: 'sliding-window', limit, windowMs }],
  ['sliding log', 'exact', { algorithm: 'sliding-log', limit, windowMs }],
  ['token bucket', 'rate 1/s, burst 9', { algorithm: 'token-bucket', rate: 1, burst: limit - 1 }],
  ['leaky bucket', 'rate 1/s, queue of 9', { algorithm: 'leaky-bucket', rate: 1, burst: limit - 1 }],
]

/** Every request with the verdict, and the moment at which it goes on. */
function run(rule) {
  let nowMs = startMs
  const store = new LocalLimiterStore(createLimiterRegion({ members: 1, cells: 1, logEntries: 1, seed: [1, 2] }), 0, () => nowMs)
  const limiter = store.bind({ scope: 'drawing', rules: [rule], countRefused: false, dryRun: false, store: { kind: 'local' } })
  const out = limiter.decision()
  return traffic.map((atMs) => {
    nowMs = startMs + atMs
    limiter.check('key', 1, out)
    return { atMs, isAdmitted: out.allowed, leavesMs: atMs + out.delayMs }
  })
}

/** Most requests that went on within any ten seconds. */
function peakOf(requests) {
  const times = requests.filter((request) => request.isAdmitted).map((request) => request.leavesMs)
  return Math.max(...times.map((from) => times.filter((time) => time >= from && time < from + windowMs).length))
}

const left = 170
const right = 150
const plot = 640
const laneHeight = 64
const top = 60
const width = left + plot + right
const height = top + rows.length * laneHeight + 50
const x = (ms) => (left + (plot * ms) / spanMs).toFixed(1)

const parts = []
const text = (at, y, words, more = '') => parts.push(`<text x="${at}" y="${y}" ${more}>${words}</text>`)
const line = (at, from, to, more) => parts.push(`<line x1="${at}" x2="${at}" y1="${from}" y2="${to}" ${more}/>`)

parts.push(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13" role="img">`)
parts.push('<title>Six rate limits of 10 requests per 10 seconds, given the same traffic</title>')
parts.push(`<rect width="${width}" height="${height}" fill="#ffffff"/>`)
text(left, 22, `The same ${traffic.length} requests, each limit 10 per 10 s`, 'font-size="15" font-weight="bold"')
text(left, 42, 'blue: admitted', 'fill="#1d4ed8"')
text(left + 110, 42, 'red: refused', 'fill="#dc2626"')
text(left + 205, 42, 'green: leaves the queue', 'fill="#15803d"')
text(left + plot + 12, 42, 'admitted · most in 10 s', 'font-size="11" fill="#475569"')
for (let ms = 0; ms <= spanMs; ms += windowMs) {
  line(x(ms), top, top + rows.length * laneHeight, 'stroke="#cbd5e1" stroke-dasharray="3 3"')
  text(x(ms), height - 26, `${ms / second} s`, 'text-anchor="middle" fill="#475569"')
}
for (const [index, [name, detail, rule]] of rows.entries()) {
  const base = top + (index + 1) * laneHeight - 12
  const requests = run(rule)
  text(12, base - 22, name, 'font-weight="bold"')
  text(12, base - 6, detail, 'font-size="11" fill="#475569"')
  parts.push(`<line x1="${left}" x2="${left + plot}" y1="${base}" y2="${base}" stroke="#94a3b8"/>`)
  for (const { atMs, isAdmitted, leavesMs } of requests) {
    line(
      x(atMs),
      isAdmitted ? base - 36 : base - 14,
      base,
      `stroke="${isAdmitted ? '#1d4ed8' : '#dc2626'}" stroke-width="2" stroke-opacity="0.75"`,
    )
    if (leavesMs > atMs) parts.push(`<circle cx="${x(leavesMs)}" cy="${base - 42}" r="2.5" fill="#15803d"/>`)
  }
  const admitted = requests.filter((request) => request.isAdmitted).length
  text(left + plot + 12, base - 14, `${admitted} · ${peakOf(requests)}`, 'font-weight="bold"')
}
parts.push('</svg>')

const file = process.argv[2] ?? fileURLToPath(new URL('../docs/images/limits.svg', import.meta.url))
mkdirSync(dirname(file), { recursive: true })
writeFileSync(file, `${parts.join('\n')}\n`)
console.log(
  rows
    .map(
      ([name, detail, rule]) =>
        `${name} (${detail}): ${run(rule).filter((request) => request.isAdmitted).length} admitted, at most ${peakOf(run(rule))} in 10 s`,
    )
    .join('\n'),
)
