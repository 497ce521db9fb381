/** Job J: what idle client connections cost in memory, and what the active ones notice of them. */
import { connect } from 'node:net'
import { jobs } from '../jobs/index.mjs'
import { measure } from './measure.mjs'
import { residentOf, Workshop } from './processes.mjs'
import { available, rivals, smallBody, startUpstream } from './rivals.mjs'

const batch = 200
const openTimeoutMs = 20_000
const question = 'GET / HTTP/1.1\r\nHost: bench.example\r\n\r\n'
const activeConnections = 16
const contestants = ['sluice', 'nginx', 'haproxy', 'caddy', 'http-proxy']

/**
 * @param options `count` of idle connections, `seconds` of each measurement, `only` (rivals).
 * @returns a record by rival: bytes per idle connection, p50 and p99 (ms) of 16 active connections without and with the idle ones.
 */
export async function runIdle({ cores, only, count, seconds }) {
  const workshop = await new Workshop().open()
  try {
    const upstream = await startUpstream(workshop, cores.load)
    const found = {}
    for (const name of available(contestants.filter((rival) => only.includes(rival)))) {
      const values = { UPSTREAM_PORT: upstream.port, PIPELINING: 1, MAX_CONNECTIONS: count + 1000, WORKER_CONNECTIONS: count + 4000 }
      const gateway = { ...(await rivals[name].start(workshop, cores.gateway, { name, folder: 'plain', values })), rival: name }
      await jobs.plain.check(gateway, jobs.plain.load)
      found[name] = await measureIdle(workshop, cores, gateway, { count, seconds })
      console.error(`idle ${name}: ${Math.round(found[name].bytesPerConnection)} bytes a connection, p99 ${found[name].p99Ms} ms`)
      await workshop.stop(gateway.running)
    }
    return found
  } finally {
    await workshop.close()
  }
}

async function measureIdle(workshop, cores, gateway, { count, seconds }) {
  const load = { path: '/', body: smallBody }
  const settings = { connections: activeConnections, seconds }
  await measure(workshop, cores.load, gateway, load, settings)
  const alone = await measure(workshop, cores.load, gateway, load, settings)
  const before = residentOf(gateway.running.pid)
  const sockets = await openIdle(gateway.port, count)
  try {
    const bytesPerConnection = (residentOf(gateway.running.pid) - before) / count
    const { p50Ms, p99Ms, failed } = await measure(workshop, cores.load, gateway, load, settings)
    const open = sockets.filter((socket) => !socket.destroyed).length
    if (open < count) throw new Error(`${gateway.name} closed ${count - open} of ${count} idle connections`)
    return { bytesPerConnection, aloneP50Ms: alone.p50Ms, aloneP99Ms: alone.p99Ms, p50Ms, p99Ms, failed: failed + alone.failed }
  } finally {
    for (const socket of sockets) socket.destroy()
  }
}

/** Connections that had one answer and then rest. */
async function openIdle(port, count) {
  const sockets = []
  for (let opened = 0; opened < count; opened += batch) {
    sockets.push(...(await Promise.all(Array.from({ length: Math.min(batch, count - opened) }, () => openOne(port)))))
  }
  return sockets
}

function openOne(port) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    let received = ''
    const timer = setTimeout(() => socket.destroy(new Error(`no answer within ${openTimeoutMs / 1000} s`)), openTimeoutMs)
    socket.once('connect', () => socket.write(question))
    socket.on('data', (chunk) => {
      received += chunk
      if (!received.endsWith(smallBody)) return
      clearTimeout(timer)
      socket.removeAllListeners('error')
      // Whoever counts the open ones will see that it ended.
      socket.on('error', () => {})
      resolve(socket)
    })
    socket.once('error', (error) => {
      clearTimeout(timer)
      reject(new Error(`an idle connection could not be opened: ${error.message}`))
    })
  })
}

/** The goal for the memory of a connection, with what `runIdle` found. */
export function judgeIdle(found) {
  const one = found?.sluice
  return one === undefined ? [] : [{ name: 'idle: sluice, memory of a connection', most: 8, found: one.bytesPerConnection / 1024 }]
}

export function idleRows(found) {
  const head = ['gateway', 'KB a connection', 'p50 ms alone', 'p99 ms alone', 'p50 ms with idle', 'p99 ms with idle', 'failed']
  const rows = Object.entries(found).map(([name, one]) => [
    name,
    (one.bytesPerConnection / 1024).toFixed(1),
    one.aloneP50Ms.toFixed(2),
    one.aloneP99Ms.toFixed(2),
    one.p50Ms.toFixed(2),
    one.p99Ms.toFixed(2),
    String(one.failed),
  ])
  return { head, rows }
}
