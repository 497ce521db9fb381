/** What a scenario is made of: nodes, gateways and load, all ended behind it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BlackHole } from './black-hole.mjs'
import { OpenLoop, pause } from './open-loop.mjs'
import { SimulatedNodes } from './simulated-nodes.mjs'

const dist = new URL('../../dist/', import.meta.url)
const { GatewayProcess } = await import(new URL('doctor/gateway-process.js', dist))
const adminKey = 'key-of-the-scenarios'

export class ScenarioKit {
  #folder = mkdtempSync(join(tmpdir(), 'sluice-scenario-'))
  #closing = []
  #count = 0

  later(close) {
    this.#closing.push(close)
  }

  /** @param behaviours of each node, or a number of nodes with the behaviour `behaviour`. */
  async nodes(behaviours, behaviour = {}) {
    const list = typeof behaviours === 'number' ? Array.from({ length: behaviours }, () => behaviour) : behaviours
    const nodes = await SimulatedNodes.start(list)
    this.later(() => nodes.close())
    return nodes
  }

  async blackHole() {
    const hole = await BlackHole.open()
    this.later(() => hole.close())
    return hole
  }

  async gateway(config, { workers = 2, args = [] } = {}) {
    const file = join(this.#folder, `sluice-${this.#count++}.json`)
    const write = (document) =>
      writeFileSync(
        file,
        JSON.stringify({ ...document, sluice: { log: { level: 'info', access: { format: 'off' } }, ...document.sluice } }),
      )
    write(config)
    const gateway = await GatewayProcess.start({
      entry: fileURLToPath(new URL('main.js', dist)),
      file,
      workers,
      args,
      admin: '127.0.0.1:0',
      env: { SLUICE_ADMIN_KEY: adminKey },
      readyTimeoutMs: 60_000,
    })
    this.later(() => gateway.end())
    return new ScenarioGateway(gateway, write)
  }

  load(options) {
    const load = new OpenLoop(options)
    this.later(() => load.stop(0))
    return load
  }

  async close() {
    for (const close of this.#closing.splice(0).reverse()) await close()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

class ScenarioGateway {
  constructor(process, write) {
    this.process = process
    this.write = write
    this.port = process.port
  }

  /** Replaces the configuration and waits for the outcome. */
  async reload(config) {
    const before = await this.status()
    this.write(config)
    this.process.send('SIGHUP')
    const outcome = await until('the reload', async () => {
      const now = await this.status()
      return now.reload.at === before.reload.at ? null : now
    })
    if (outcome.reload.last_error !== null) throw new Error(`the reload failed: ${outcome.reload.last_error}`)
  }

  async status() {
    return (await fetch(`${this.process.metricsUrl}/status`)).json()
  }

  async breakers() {
    const response = await fetch(`${this.process.adminUrl}/v1/breakers`, { headers: { 'X-API-KEY': adminKey } })
    return (await response.json()).breakers
  }

  /** Sum of the metric lines that begin so. */
  async metric(beginning) {
    const text = await (await fetch(`${this.process.metricsUrl}/metrics`)).text()
    const lines = text.split('\n').filter((line) => line.startsWith(beginning))
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0)
  }

  /** What the process log says, as objects. */
  get log() {
    return this.process.stderr.split('\n').flatMap((line) => (line.startsWith('{') && line.endsWith('}') ? [JSON.parse(line)] : []))
  }

  /** Changes of a breaker: { time (epoch), from, to, reason }. */
  transitions(name) {
    return this.log.filter(({ breaker }) => breaker === name)
  }

  residentBytes() {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.process.pid}/status`, 'latin1'))?.[1] ?? 0) * 1024
  }
}

/** What `ask` returns once it is neither null nor false. */
export async function until(what, ask, timeoutMs = 20_000) {
  for (const end = performance.now() + timeoutMs; performance.now() < end; await pause(20)) {
    const answer = await ask()
    if (answer !== null && answer !== false) return answer
  }
  throw new Error(`${what}: not within ${timeoutMs} ms`)
}

/** A line of the result: what was measured, the value, the goal, and whether it is met (null = there is no goal). */
export function finding(what, value, goal = '', met = null) {
  return { what, value: String(value), goal, met }
}

export const atMost = (what, value, limit, unit = '', digits = 0) =>
  finding(what, `${value.toFixed(digits)}${unit}`, `≤ ${limit}${unit}`, value <= limit)
export const atLeast = (what, value, limit, unit = '', digits = 0) =>
  finding(what, `${value.toFixed(digits)}${unit}`, `≥ ${limit}${unit}`, value >= limit)
