/** Job I: throughput with 1, 1,000 and 100,000 routes, first and last route. */
import { join } from 'node:path'
import { checkProxy } from './checks.mjs'
import { manyRoutes, replaceFile, routePath } from './documents.mjs'
import { measure } from './measure.mjs'
import { pairedRatio, summarise } from './parse.mjs'
import { Workshop } from './processes.mjs'
import { smallBody, startSluice, startUpstream } from './rivals.mjs'

/** @returns per size and route: `label`, `summary`, and `ratio` to one route. */
export async function measureSizes(sizes, { cores, settings }) {
  const workshop = await new Workshop().open()
  try {
    const upstream = await startUpstream(workshop, cores.load)
    const points = []
    for (const size of sizes) {
      const config = join(workshop.folder, `routes-${size}.json`)
      await replaceFile(config, withEcho(manyRoutes({ count: size, upstreamPort: upstream.port })))
      const gateway = await startSluice(workshop, cores.gateway, { config })
      const indices = size === 1 ? { only: 0 } : { first: 0, last: size - 1 }
      for (const [which, index] of Object.entries(indices)) {
        const load = { path: routePath(index), body: smallBody }
        await checkProxy(gateway, load)
        await measure(workshop, cores.load, gateway, load, { ...settings, seconds: 2 })
        points.push({ label: `${size.toLocaleString('en-US')}, ${which}`, gateway, load, rounds: [] })
      }
    }
    for (let round = 1; round <= settings.rounds; round++) {
      for (const point of points) {
        const measured = await measure(workshop, cores.load, point.gateway, point.load, settings)
        point.rounds.push(measured)
        console.error(
          `routes round ${round}/${settings.rounds} ${point.label}: ${Math.round(measured.requestsPerCpuSecond)} per CPU second`,
        )
      }
    }
    const base = points[0].rounds
    return points.map(({ label, rounds }) => ({ label, rounds, summary: summarise(rounds), ratio: pairedRatio(rounds, base) }))
  } finally {
    await workshop.close()
  }
}

/** The goals for many routes, with what `measureSizes` found. */
export function judgeSizes(points) {
  const most = (points ?? []).filter(({ label }) => label.startsWith('100,000'))
  return most.map(({ label, ratio }) => ({ job: 'routes', of: label, to: points[0].label, least: 0.97, ratio }))
}

/** The check of answers looks at what reaches the upstream. */
function withEcho(text) {
  const document = JSON.parse(text)
  document.routes.push({ id: 'echo', uri: '/echo', upstream_id: 'bench' })
  return JSON.stringify(document)
}

export function sizeRows(points) {
  const head = ['routes', 'requests/s', 'p99 ms', 'CPU µs/request', 'requests/CPU s', '× 1 route', 'failed']
  const rows = points.map(({ label, summary, ratio }) => [
    label,
    Math.round(summary.requestsPerSecond).toLocaleString('en-US'),
    summary.p99Ms.toFixed(2),
    summary.cpuMicrosPerRequest.toFixed(1),
    Math.round(summary.requestsPerCpuSecond).toLocaleString('en-US'),
    ratio.median.toFixed(3),
    String(summary.failed),
  ])
  return { head, rows }
}
