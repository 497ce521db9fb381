/** One timed run of wrk against a gateway. */
import { join } from 'node:path'
import { benchFolder } from './machine.mjs'
import { parseWrk } from './parse.mjs'
import { cpuSeconds, run } from './processes.mjs'

const loadScript = join(benchFolder, 'lib', 'load.lua')

/**
 * wrk's report plus the CPU that the gateway used meanwhile.
 *
 * @param load `path`; `uploadBytes` makes it a POST; `fields`: file with a header field per line, one for each request; `closes`: a new
 *   connection per request; `depth`: how many requests are sent at once; `isTls`; `status`: what is answered, when it is a refusal.
 * @throws Error when the gateway answered nothing, or let requests through that it has to refuse.
 */
export async function measure(workshop, loadCores, gateway, load, { connections, seconds }) {
  const { path, uploadBytes = 0, fields, closes = false, depth = 1, isTls = false, status } = load
  const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--latency', '--timeout', '10s']
  if (closes) args.push('-H', 'Connection: close')
  const isSpecial = uploadBytes > 0 || fields !== undefined || depth > 1
  if (isSpecial) args.push('-s', loadScript)
  args.push(`${isTls ? 'https' : 'http'}://127.0.0.1:${gateway.port}${path}`)
  if (isSpecial)
    args.push('--', uploadBytes > 0 ? 'POST' : 'GET', String(uploadBytes), String(depth), ...(fields === undefined ? [] : [fields]))
  const before = cpuSeconds(gateway.running.pid)
  const output = await run(workshop, 'wrk', loadCores, 'wrk', args)
  const cpu = cpuSeconds(gateway.running.pid) - before
  const report = parseWrk(output)
  if (report.requests === 0) throw new Error(`${gateway.name} answered nothing in ${seconds} s:\n${gateway.running.log}`)
  if (status !== undefined) {
    // All but a few (nginx lets one request a minute pass) are meant to be refused.
    if (report.errors.non2xx < report.requests * 0.999) {
      throw new Error(`${gateway.name} refused ${report.errors.non2xx} of ${report.requests} requests only`)
    }
    report.failed -= report.errors.non2xx
  }
  return {
    ...report,
    cpuSeconds: cpu,
    cpuShare: cpu / report.seconds,
    cpuMicrosPerRequest: (cpu * 1e6) / report.requests,
    requestsPerCpuSecond: report.requests / cpu,
  }
}
