/**
 * Upstream nodes that behave as they are told, in a thread of their own: what they do must not slow the load generator down.
 *
 * A behaviour is plain data, and may be changed at any time (`set`); it holds for requests that arrive from then on:
 *
 *   delayMs, jitterMs  time until the answer: fixed part, mean of the exponential part
 *   slots              requests served at a time; the others wait (capacity = slots / delay). Absent = any number
 *   share              part of the requests that `kind` holds for, the others are answered with 200. Absent = all
 *   kind               ok      200 and a short body
 *                      status  `status`
 *                      cut     the connection is reset without an answer
 *                      half    half of the body, then FIN
 *                      close   200, kept open by its headers, and FIN right behind it
 *                      drip    200 and `bytes` single bytes, one every `everyMs`
 *                      refuse  does not listen: connections are refused, open ones are gone
 *
 * Each node counts its requests, with the time of each (milliseconds since the epoch, with fraction: comparable between threads).
 */
import { createServer } from 'node:http'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

export const wallMs = () => performance.timeOrigin + performance.now()

export class SimulatedNodes {
  #worker
  #waiting = []

  /** @param behaviours one of each node. */
  static async start(behaviours) {
    const nodes = new SimulatedNodes()
    nodes.#worker = new Worker(new URL(import.meta.url), { workerData: { behaviours } })
    nodes.#worker.on('message', (message) => nodes.#waiting.shift().resolve(message))
    nodes.#worker.on('error', (error) => nodes.#waiting.shift()?.reject(error))
    nodes.ports = await nodes.#answer()
    return nodes
  }

  /** Addresses with weight 1, as `nodes` of an upstream. */
  get map() {
    return Object.fromEntries(this.ports.map((port) => [`127.0.0.1:${port}`, 1]))
  }

  /** Behaves so from now on. Resolves to the time of the change. */
  set(index, behaviour) {
    return this.#ask({ index, behaviour })
  }

  async setAll(behaviour) {
    const at = wallMs()
    for (const index of this.ports.keys()) await this.set(index, behaviour)
    return at
  }

  /** Times of the requests of each node so far. */
  times() {
    return this.#ask({})
  }

  close() {
    return this.#worker.terminate()
  }

  #ask(message) {
    this.#worker.postMessage(message)
    return this.#answer()
  }

  #answer() {
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }
}

class SimulatedNode {
  times = []
  port = 0
  #busy = 0
  #waiting = []
  #server = createServer((request, response) => this.#receive(request, response))

  constructor(behaviour) {
    this.behaviour = behaviour
    this.#server.keepAliveTimeout = 120_000
    this.#server.on('clientError', (_, socket) => socket.destroy())
  }

  async become(behaviour) {
    this.behaviour = behaviour
    if (behaviour.kind === 'refuse') {
      if (this.port === 0) await this.#listen()
      if (!this.#server.listening) return
      this.#server.closeAllConnections()
      await new Promise((resolve) => this.#server.close(resolve))
    } else if (!this.#server.listening) await this.#listen()
  }

  async #listen() {
    await new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(this.port, '127.0.0.1', resolve)
    })
    this.port = this.#server.address().port
  }

  #receive(request, response) {
    this.times.push(wallMs())
    request.resume()
    response.on('error', () => undefined)
    const { slots = Number.POSITIVE_INFINITY } = this.behaviour
    if (this.#busy < slots) this.#serve(response, this.behaviour)
    else this.#waiting.push(response)
  }

  #serve(response, behaviour) {
    this.#busy++
    const done = () => {
      this.#answer(response, behaviour)
      this.#busy--
      // Who has gone meanwhile is not served.
      let next = this.#waiting.shift()
      while (next?.destroyed) next = this.#waiting.shift()
      if (next !== undefined) this.#serve(next, this.behaviour)
    }
    const { delayMs = 0, jitterMs = 0 } = behaviour
    const ms = delayMs - jitterMs * Math.log(1 - Math.random())
    if (ms > 0) setTimeout(done, ms)
    else done()
  }

  #answer(response, { kind = 'ok', share = 1, status = 500, bytes = 20, everyMs = 100 }) {
    const { socket } = response
    if (response.destroyed || socket === null) return
    const actual = Math.random() < share ? kind : 'ok'
    switch (actual) {
      case 'status':
        response.writeHead(status, { 'content-length': 6 }).end('broken')
        return
      case 'cut':
        socket.resetAndDestroy()
        return
      case 'half':
        response.writeHead(200, { 'content-length': 10 }).write('halfs')
        setImmediate(() => socket.end())
        return
      case 'close':
        response.writeHead(200, { 'content-length': 2 }).end('ok', () => socket.end())
        return
      case 'drip': {
        response.writeHead(200, { 'content-length': bytes })
        let sent = 0
        const timer = setInterval(() => {
          sent++
          if (response.destroyed || sent >= bytes) clearInterval(timer)
          if (sent >= bytes) response.end('.')
          else if (!response.destroyed) response.write('.')
        }, everyMs)
        return
      }
      default:
        response.writeHead(200, { 'content-length': 2 }).end('ok')
    }
  }
}

if (!isMainThread && workerData?.behaviours !== undefined) {
  const nodes = workerData.behaviours.map((behaviour) => new SimulatedNode(behaviour))
  for (const node of nodes) await node.become(node.behaviour)
  parentPort.on('message', async ({ index, behaviour }) => {
    if (behaviour === undefined) {
      parentPort.postMessage(nodes.map((node) => node.times))
      return
    }
    await nodes[index].become(behaviour)
    parentPort.postMessage(wallMs())
  })
  parentPort.postMessage(nodes.map((node) => node.port))
}
