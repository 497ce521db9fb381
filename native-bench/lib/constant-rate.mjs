/** Requests at a constant rate, whatever the answers do (open loop), and what they notice of something else that goes on. */
import { execFileSync } from 'node:child_process'
import { Agent } from 'node:http'
import { setPriority } from 'node:os'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { status } from './reloads.mjs'

const connections = 128
const clientPriority = -15
let priorityRefused = false

/** This process, which is the client, on these cores (as taskset writes them), before others that run there. */
export function clientOn(cores) {
  execFileSync('taskset', ['-a', '-c', '-p', cores, String(process.pid)], { stdio: 'ignore' })
  prefer(process.pid)
}

/** With two cores the client shares one with other work; without priority it would measure its own waiting for the core. */
export function prefer(pid) {
  try {
    setPriority(pid, clientPriority)
  } catch (error) {
    if (!priorityRefused) console.error(`no priority for the client (${error.message}): look at its own delay in the table`)
    priorityRefused = true
  }
}

/**
 * Sends at a constant rate while `work` goes on. A latency counts from the moment the request was due, so waiting for a late timer or
 * for a free connection is part of it.
 *
 * @returns sorted latencies in ms, failures, the largest delay of this process' own event loop, and what `work` returned.
 */
export async function underLoad(gateway, path, rate, work) {
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  const delay = monitorEventLoopDelay({ resolution: 1 })
  const latencies = []
  const open = new Set()
  let failed = 0
  let sent = 0
  const started = performance.now()
  const send = (due) => {
    const answered = status(gateway.port, path, agent).then(
      (found) => {
        if (found === 200) latencies.push(performance.now() - due)
        else failed++
      },
      () => {
        failed++
      },
    )
    open.add(answered)
    answered.then(() => open.delete(answered))
  }
  delay.enable()
  const timer = setInterval(() => {
    for (; started + (sent * 1000) / rate <= performance.now(); sent++) send(started + (sent * 1000) / rate)
  }, 1)
  try {
    const result = await work()
    clearInterval(timer)
    await Promise.all(open)
    delay.disable()
    if (latencies.length === 0) throw new Error(`none of ${sent} requests was answered with 200`)
    return { latencies: latencies.sort((a, b) => a - b), failed, clientDelayMs: delay.max / 1e6, result }
  } finally {
    clearInterval(timer)
    agent.destroy()
  }
}
