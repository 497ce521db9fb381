/**
 * A listening port of the loopback that never answers a SYN: its thread stands still without accepting, and the kernel's queue of
 * connections is filled up. What Linux does then is what a firewall does that drops packets.
 */
import { connect, createServer } from 'node:net'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

/** Whoever has no connection after this time has none. */
const noAnswerMs = 300
const fillersMax = 64

export class BlackHole {
  #fillers = []

  static async open() {
    const hole = new BlackHole()
    hole.gate = new Int32Array(new SharedArrayBuffer(4))
    hole.worker = new Worker(new URL(import.meta.url), { workerData: { gate: hole.gate } })
    hole.port = await new Promise((resolve, reject) => hole.worker.once('message', resolve).once('error', reject))
    while (await hole.#fill()) if (hole.#fillers.length > fillersMax) throw new Error(`the queue of port ${hole.port} does not fill`)
    return hole
  }

  /** Another connection in the queue; false = there was no room. */
  #fill() {
    const socket = connect({ host: '127.0.0.1', port: this.port })
    socket.on('error', () => undefined)
    this.#fillers.push(socket)
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), noAnswerMs)
      socket.once('connect', () => {
        clearTimeout(timer)
        resolve(true)
      })
    })
  }

  async close() {
    for (const socket of this.#fillers) socket.destroy()
    Atomics.store(this.gate, 0, 1)
    Atomics.notify(this.gate, 0)
    await this.worker.terminate()
  }
}

if (!isMainThread && workerData?.gate !== undefined) {
  const server = createServer((socket) => socket.destroy())
  server.listen(0, '127.0.0.1', 1, () => {
    parentPort.postMessage(server.address().port)
    Atomics.wait(workerData.gate, 0, 0)
  })
}
