/** Reloading a gateway and seeing from outside that it took effect. */
import { Agent, get } from 'node:http'
import { generationPath, replaceFile } from './documents.mjs'

const pollMs = 5

/** One GET; resolves with the status, or rejects when the connection fails or nothing comes within 10 s. */
export function status(port, path, agent) {
  return new Promise((resolve, reject) => {
    const sent = get({ host: '127.0.0.1', port, path, agent, timeout: 10_000 }, (response) => {
      response.on('end', () => resolve(response.statusCode))
      response.on('error', reject)
      response.resume()
    })
    sent.once('timeout', () => sent.destroy(new Error('no answer within 10 s')))
    sent.once('error', reject)
  })
}

/**
 * Puts `text` in place of the configuration file, sends SIGHUP and waits until the route of `generation` answers.
 *
 * @returns milliseconds from the signal until the first answer by the new configuration.
 * @throws Error when it did not take effect in time, or the gateway ended.
 */
export async function reload(gateway, file, { text, generation, timeoutMs }) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  try {
    await replaceFile(file, text)
    const sent = performance.now()
    gateway.running.child.kill('SIGHUP')
    for (;;) {
      if (gateway.running.ended !== null) throw new Error(`${gateway.name} ended (${gateway.running.ended}):\n${gateway.running.log}`)
      const found = await status(gateway.port, generationPath(generation), agent)
      if (found === 200) return performance.now() - sent
      if (found !== 404) throw new Error(`${generationPath(generation)} answered ${found}; expected 404 before the reload and 200 after it`)
      if (performance.now() - sent > timeoutMs) {
        throw new Error(`a reload had no effect within ${timeoutMs} ms; the end of the log:\n${gateway.running.log}`)
      }
      await new Promise((resolve) => setTimeout(resolve, pollMs))
    }
  } finally {
    agent.destroy()
  }
}
