/**
 * How well each balancer keeps away from slow nodes: 20 nodes, two of them five times slower, against 20 equal ones.
 *
 *   npm run build && node native-bench/scenarios/lb-quality.mjs        (--seconds N, --rate N, --only TYPE)
 *
 * Nodes are simulated in this process: each serves two requests at a time, the others wait; serving takes 40 ms + exponential 20 ms, so that
 * the machine's own hesitations count for little. Requests arrive at a constant rate whatever happens (open loop), on kept connections to a
 * gateway with two workers, and are counted from the time at which they were due. The first second is not counted. Goal: with ewma, p99 with two slow nodes ≤ 1.5 × p99 with none.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, createServer, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { textTable } from '../lib/report.mjs'

const dist = new URL('../../dist/', import.meta.url)
const { GatewayProcess } = await import(new URL('doctor/gateway-process.js', dist))

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '8' }, rate: { type: 'string', default: '250' }, only: { type: 'string' } },
})
const seconds = Number(values.seconds)
const rate = Number(values.rate)
const nodeCount = 20
const slowCount = 2
const slowness = 5
const served = 2
const warmUpMs = 1000
const cases = {
  roundrobin: { type: 'roundrobin' },
  random: { type: 'random' },
  'chash (by request)': { type: 'chash', key: 'arg_n' },
  'chash, bounded 125': { type: 'chash', key: 'arg_n', hash_balance_factor: 125 },
  least_conn: { type: 'least_conn' },
  ewma: { type: 'ewma' },
}

class SimulatedNode {
  slowness = 1
  count = 0
  #busy = 0
  #waiting = []

  async listen() {
    this.server = createServer((_, response) => {
      this.count++
      if (this.#busy < served) this.#serve(response)
      else this.#waiting.push(response)
    })
    this.server.keepAliveTimeout = 60_000
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve))
    return this
  }

  #serve(response) {
    this.#busy++
    setTimeout(
      () => {
        response.end('ok')
        this.#busy--
        const next = this.#waiting.shift()
        if (next !== undefined) this.#serve(next)
      },
      (40 - 20 * Math.log(1 - Math.random())) * this.slowness,
    )
  }
}

/** Latencies in milliseconds of an open loop; rejects nothing: a failure is counted. */
async function drive(url, path) {
  const agent = new Agent({ keepAlive: true, maxSockets: 256 })
  const target = new URL(url)
  const latencies = []
  const pending = new Set()
  let failed = 0
  const total = Math.round(seconds * rate)
  const begun = performance.now()
  for (let sent = 0; sent < total; ) {
    const due = Math.min(total, Math.floor(((performance.now() - begun) * rate) / 1000))
    for (; sent < due; sent++) {
      const dueMs = begun + (sent * 1000) / rate
      const done = new Promise((resolve) => {
        const call = request({ agent, host: target.hostname, port: target.port, path: `${path}?n=${sent}` }, (response) => {
          response.resume().on('end', () => {
            if (response.statusCode !== 200) failed++
            else if (dueMs - begun >= warmUpMs) latencies.push(performance.now() - dueMs)
            resolve()
          })
        })
        call.on('error', () => {
          failed++
          resolve()
        })
        call.end()
      })
      pending.add(done)
      done.then(() => pending.delete(done))
    }
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  await Promise.all(pending)
  agent.destroy()
  latencies.sort((a, b) => a - b)
  const at = (share) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))]
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), failed }
}

const nodes = await Promise.all(Array.from({ length: nodeCount }, () => new SimulatedNode().listen()))
const folder = mkdtempSync(join(tmpdir(), 'sluice-lb-quality-'))
const file = join(folder, 'sluice.yaml')
const rows = []
let goal = null
try {
  for (const [name, options] of Object.entries(cases)) {
    if (values.only !== undefined && options.type !== values.only) continue
    const results = []
    for (const slow of [0, slowCount]) {
      for (const [index, node] of nodes.entries()) Object.assign(node, { slowness: index < slow ? slowness : 1, count: 0 })
      const upstream = { ...options, nodes: Object.fromEntries(nodes.map((node) => [`127.0.0.1:${node.server.address().port}`, 1])) }
      // A new gateway each time: nothing is known about the nodes yet.
      writeFileSync(file, JSON.stringify({ routes: [{ id: 'all', uri: '/*', upstream }], sluice: { log: { level: 'error' } } }))
      const gateway = await GatewayProcess.start({
        entry: fileURLToPath(new URL('main.js', dist)),
        file,
        workers: 2,
        readyTimeoutMs: 60_000,
      })
      try {
        results.push(await drive(gateway.url, '/'))
      } finally {
        await gateway.stop()
      }
    }
    const [fast, mixed] = results
    const toSlow = nodes.slice(0, slowCount).reduce((sum, node) => sum + node.count, 0) / nodes.reduce((sum, node) => sum + node.count, 0)
    const ratio = mixed.p99 / fast.p99
    if (name === 'ewma') goal = ratio
    const ms = (value) => value.toFixed(1)
    rows.push([
      name,
      ms(fast.p50),
      ms(fast.p99),
      ms(mixed.p50),
      ms(mixed.p90),
      ms(mixed.p99),
      ratio.toFixed(2),
      `${(100 * toSlow).toFixed(1)} %`,
      fast.failed + mixed.failed,
    ])
  }
} finally {
  for (const node of nodes) {
    node.server.close()
    node.server.closeAllConnections()
  }
  rmSync(folder, { recursive: true, force: true })
}
console.log(`${nodeCount} nodes, ${rate} requests/s, ${seconds} s each; milliseconds`)
console.log(textTable(['type', 'p50 equal', 'p99 equal', 'p50', 'p90', 'p99', 'p99 × equal', 'to the slow two', 'failed'], rows))
if (goal !== null) console.log(`goal for ewma: p99 ≤ 1.5 × equal: ${goal <= 1.5 ? 'met' : 'missed'} (${goal.toFixed(2)})`)
process.exitCode = goal === null || goal <= 1.5 ? 0 : 1
