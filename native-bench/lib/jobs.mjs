/** The jobs: what wrk sends, which rivals take part, and what a right answer is. */
import { request } from 'node:http'
import { join } from 'node:path'
import { benchFolder } from './machine.mjs'
import { parseWrk } from './parse.mjs'
import { cpuSeconds, run } from './processes.mjs'
import { largeBody, smallBody } from './rivals.mjs'

const natives = ['nginx', 'haproxy', 'http-proxy']

export const jobs = {
  plain: { title: 'A plain proxy, 141-byte answer', path: '/', rivals: ['sluice', ...natives, 'http-proxy-default'], body: smallBody },
  pipelining: {
    title: 'A plain proxy, 141-byte answer; Sluice pipelines to the upstream (16)',
    path: '/',
    rivals: ['sluice-pipelining', ...natives],
    body: smallBody,
  },
  '16k': { title: '16 KiB answer', path: '/16k', rivals: ['sluice', ...natives], body: largeBody },
  limit: {
    title: 'Limit by address, never reached (limit-count, limit_req, stick table); "sluice-plain" is the same gateway without it',
    path: '/limit/',
    paths: { 'sluice-plain': '/' },
    rivals: ['sluice', 'sluice-plain', 'nginx', 'haproxy'],
    body: smallBody,
  },
  refuse: {
    title: 'Refusals: every request is over its limit and gets 429',
    path: '/refuse/',
    rivals: ['sluice', 'nginx', 'haproxy'],
    status: 429,
  },
  post1k: { title: 'POST of 1 KiB, 141-byte answer', path: '/', rivals: ['sluice', ...natives], body: smallBody, upload: 'x'.repeat(1024) },
}

function fetchOnce(port, { method = 'GET', path, upload = '' }) {
  return new Promise((resolve, reject) => {
    const headers = { host: 'bench.example', ...(upload === '' ? {} : { 'content-length': upload.length }) }
    const sent = request({ host: '127.0.0.1', port, method, path, headers, agent: false, timeout: 10_000 }, (response) => {
      const chunks = []
      response.on('data', (chunk) => chunks.push(chunk))
      response.on('end', () => resolve({ status: response.statusCode, body: Buffer.concat(chunks).toString() }))
      response.on('error', reject)
    })
    sent.once('timeout', () => sent.destroy(new Error('no answer within 10 s')))
    sent.once('error', reject)
    sent.end(upload)
  })
}

/**
 * A gateway that answers wrongly is not worth timing: status and body of the job, and what arrives at the upstream.
 *
 * @throws Error naming the gateway, what was expected and what came.
 */
export async function checkAnswers(gateway, job) {
  const wrong = (what, expected, found) => new Error(`${gateway.name}: ${what}: expected ${expected}, found ${JSON.stringify(found)}`)
  const method = job.upload === undefined ? 'GET' : 'POST'
  if (job.status !== undefined) {
    // The first request uses the limit up.
    await fetchOnce(gateway.port, { path: job.path })
    const refusal = await fetchOnce(gateway.port, { path: job.path })
    if (refusal.status !== job.status) throw wrong(`status of ${job.path}`, job.status, refusal.status)
    return
  }
  const answer = await fetchOnce(gateway.port, { method, path: pathFor(job, gateway), upload: job.upload })
  if (answer.status !== 200) throw wrong(`status of ${method} ${job.path}`, 200, answer)
  if (answer.body !== job.body) throw wrong(`body of ${method} ${job.path}`, `the ${job.body.length} bytes of the upstream`, answer.body)
  const { status, body } = await fetchOnce(gateway.port, { method, path: '/echo', upload: job.upload })
  if (status !== 200) throw wrong('status of /echo', 200, { status, body })
  const echo = JSON.parse(body)
  const expected = {
    method,
    host: 'bench.example',
    for: '127.0.0.1',
    real: '127.0.0.1',
    length: job.upload ? String(job.upload.length) : '',
  }
  for (const [name, value] of Object.entries(expected)) {
    if (echo[name] !== value) throw wrong(`what the upstream received as "${name}"`, JSON.stringify(value), echo[name])
  }
}

function pathFor(job, gateway) {
  return job.paths?.[gateway.name] ?? job.path
}

/** One timed run of wrk against a gateway: wrk's report plus the CPU that the gateway used meanwhile. */
export async function measure(workshop, loadCores, gateway, job, { connections, seconds }) {
  const script = job.upload === undefined ? [] : ['-s', join(benchFolder, 'configs', 'post1k.lua')]
  const url = `http://127.0.0.1:${gateway.port}${pathFor(job, gateway)}`
  const before = cpuSeconds(gateway.running.pid)
  const output = await run(workshop, 'wrk', loadCores, 'wrk', ['-t1', `-c${connections}`, `-d${seconds}s`, '--latency', ...script, url])
  const cpu = cpuSeconds(gateway.running.pid) - before
  const report = parseWrk(output)
  if (report.requests === 0) throw new Error(`${gateway.name} answered nothing in ${seconds} s:\n${gateway.running.log}`)
  if (job.status !== undefined) {
    // All but a few (nginx lets one request a minute pass) are meant to be refused.
    if (report.errors.non2xx < report.requests * 0.999)
      throw new Error(`${gateway.name} refused ${report.errors.non2xx} of ${report.requests} requests only`)
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
