/**
 * A process that changes routes by the Admin API, at a constant rate: PUT of random routes among many, each time with another header to
 * set, so that every change means something.
 *
 *   node admin-writer.mjs PORT KEY ROUTES UPSTREAM_PORT RATE SECONDS MOST_IN_FLIGHT
 *
 * Prints one line of JSON: {done, failed, seconds, latencies: [p50, p99, max] in ms}.
 */
import { Agent, request } from 'node:http'
import { routePath } from './documents.mjs'
import { percentile } from './parse.mjs'

const [port, key, routes, upstreamPort, rate, seconds, most] = process.argv.slice(2)
const agent = new Agent({ keepAlive: true, maxSockets: Number(most) })
const latencies = []
let sent = 0
let failed = 0
let open = 0

function put(index, generation) {
  const body = JSON.stringify({
    uri: routePath(index),
    upstream: { nodes: { [`127.0.0.1:${upstreamPort}`]: 1 } },
    plugins: { 'response-rewrite': { headers: { set: { 'X-Generation': String(generation) } } } },
  })
  const headers = { 'x-api-key': key, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
  return new Promise((resolve, reject) => {
    const path = `/apisix/admin/routes/r${index}`
    const asked = request({ host: '127.0.0.1', port, method: 'PUT', path, agent, headers, timeout: 30_000 }, (response) => {
      response.on('end', () => resolve(response.statusCode))
      response.on('error', reject)
      response.resume()
    })
    asked.once('timeout', () => asked.destroy(new Error('no answer within 30 s')))
    asked.once('error', reject)
    asked.end(body)
  })
}

async function change(number) {
  const started = performance.now()
  try {
    const status = await put(Math.floor(Math.random() * Number(routes)), number)
    if (status === 200 || status === 201) latencies.push(performance.now() - started)
    else failed++
  } catch {
    failed++
  }
  open--
}

const started = performance.now()
await new Promise((resolve) => {
  const timer = setInterval(() => {
    const elapsed = (performance.now() - started) / 1000
    if (elapsed >= Number(seconds)) {
      clearInterval(timer)
      resolve()
      return
    }
    while (sent < elapsed * Number(rate) && open < Number(most)) {
      open++
      void change(sent++)
    }
  }, 1)
})
while (open > 0) await new Promise((resolve) => setTimeout(resolve, 5))
const took = (performance.now() - started) / 1000
agent.destroy()
latencies.sort((a, b) => a - b)
const at = (percent) => (latencies.length === 0 ? 0 : percentile(latencies, percent))
console.log(JSON.stringify({ done: latencies.length, failed, seconds: took, latencies: [at(50), at(99), at(100)] }))
