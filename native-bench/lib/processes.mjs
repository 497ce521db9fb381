/** Processes of a run: started pinned, measured from /proc, ended by their ids only. */
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { chmod } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { divideByDescent, parseIdleTicks, parseProcStat } from './parse.mjs'

const readyTimeoutMs = 120_000
const stopTimeoutMs = 5_000
const rememberedLogBytes = 4_000

/** A temporary folder and the processes started for one run; `close` ends and removes all of it. */
export class Workshop {
  #running = []
  #closed = null

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'sluice-native-bench-'))
    for (const [signal, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ]) {
      process.once(signal, () => {
        console.error(`${signal}: ending what was started`)
        process.exitCode = code
        this.close().then(() => process.exit())
      })
    }
  }

  /** Workers of servers that drop privileges must reach the files. */
  async open() {
    await chmod(this.folder, 0o755)
    return this
  }

  /**
   * Starts `command` on the given cores. `stdout` is collected only for a caller that reads it; the end of stderr is kept for
   * error texts.
   */
  start(name, cores, command, args, { env = {}, keepStdout = false } = {}) {
    if (this.#closed !== null) throw new Error(`${name} is not started: the run is being ended`)
    const child = spawn('taskset', ['-c', cores, command, ...args], {
      env: { ...process.env, ...env },
      stdio: ['ignore', keepStdout ? 'pipe' : 'ignore', 'pipe'],
    })
    const running = { name, child, pid: child.pid, log: '', ended: null }
    child.stderr.on('data', (chunk) => {
      running.log = (running.log + chunk).slice(-rememberedLogBytes)
    })
    running.exit = new Promise((resolve) => {
      child.once('error', (error) => {
        running.ended = error.message
        resolve()
      })
      child.once('exit', (code, signal) => {
        running.ended ??= signal ?? `exit code ${code}`
        resolve()
      })
    })
    this.#running.push(running)
    return running
  }

  async stop(running) {
    if (running.ended === null) {
      running.child.kill('SIGTERM')
      const timer = setTimeout(() => running.child.kill('SIGKILL'), stopTimeoutMs)
      await running.exit
      clearTimeout(timer)
    }
    this.#running = this.#running.filter((other) => other !== running)
  }

  close() {
    this.#closed ??= (async () => {
      await Promise.all(this.#running.map((running) => this.stop(running)))
      rmSync(this.folder, { recursive: true, force: true })
    })()
    return this.#closed
  }
}

const givenPorts = new Set()

/** A TCP port of the loopback that was free a moment ago; never the same twice, so that a port at which nobody shall listen stays so. */
export async function freePort() {
  for (;;) {
    const port = await anyFreePort()
    if (givenPorts.has(port)) continue
    givenPorts.add(port)
    return port
  }
}

function anyFreePort() {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

/** Waits until `port` accepts, or fails with the end of the log of the process that should be there. */
export async function accepting(running, port) {
  const deadline = performance.now() + readyTimeoutMs
  while (!(await connects(port))) {
    if (running.ended !== null) throw new Error(`${running.name} ended (${running.ended}) before it listened:\n${running.log}`)
    if (performance.now() > deadline) throw new Error(`${running.name} did not listen on ${port} within ${readyTimeoutMs / 1000} s`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function connects(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

/** Runs a command to its end and returns its stdout. */
export function run(workshop, name, cores, command, args) {
  return new Promise((resolve, reject) => {
    const running = workshop.start(name, cores, command, args, { keepStdout: true })
    let output = ''
    running.child.stdout.on('data', (chunk) => {
      output += chunk
    })
    running.child.once('error', (error) => reject(new Error(`${name}: ${error.message}`)))
    running.child.once('close', (code, signal) => {
      workshop.stop(running)
      if (code === 0) resolve(output)
      else reject(new Error(`${name} ended with ${signal ?? `exit code ${code}`}: ${running.log || output}`))
    })
  })
}

export const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))

export function procStat(pid) {
  return parseProcStat(readFileSync(`/proc/${pid}/stat`, 'utf8'))
}

/** CPU seconds of a process (all its threads) and of its children that are alive: nginx works in a child. */
export function cpuSeconds(pid) {
  let ticks = procStat(pid).cpuTicks
  for (const child of childrenOf(pid)) ticks += procStat(child).cpuTicks
  return ticks / ticksPerSecond
}

/** Seconds that some cores, given as taskset writes them, had nothing to do. */
export function idleSeconds(cores) {
  return parseIdleTicks(readFileSync('/proc/stat', 'utf8'), cores.split(',').map(Number)) / ticksPerSecond
}

/** CPU seconds of all processes there are, in two parts: this one with everything it started, and all the others. */
export function cpuSecondsOfAll() {
  const processes = readdirSync('/proc').flatMap((entry) => (/^\d+$/.test(entry) ? statsOf(entry) : []))
  const { own, others } = divideByDescent(processes, process.pid)
  return { own: own / ticksPerSecond, others: others / ticksPerSecond }
}

function statsOf(pid) {
  try {
    return [procStat(pid)]
  } catch {
    // Ended between the listing and the reading: whoever waits for it takes over its time.
    return []
  }
}

export function childrenOf(pid) {
  const children = []
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      if (procStat(entry).parent === pid) children.push(Number(entry))
    } catch {
      // Ended between the listing and the reading.
    }
  }
  return children
}

/** Resident memory of a process in bytes. */
export function residentBytes(pid) {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  if (line === null) throw new Error(`/proc/${pid}/status names no VmRSS`)
  return Number(line[1]) * 1024
}

/** Resident memory of a process and of its children, in bytes: nginx works in a child. */
export function residentOf(pid) {
  return [pid, ...childrenOf(pid)].reduce((sum, one) => sum + residentBytes(one), 0)
}
