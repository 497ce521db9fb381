import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { EventWebhook } from '../../src/telemetry/webhook.js'
import { eventually } from '../support/redis.js'

const running: (Server | EventWebhook)[] = []
afterEach(() => {
  for (const one of running.splice(0)) one.close()
})

/** Pauses are over at once. */
const clock = { ...systemClock, after: (_ms: number, callback: () => void) => systemClock.after(0, callback) }

/** A server that answers with what `statusOf` says about the events it was sent so far, and the webhook to it. */
async function hook(statusOf: (count: number) => number, timeoutMs = 10_000) {
  const taken: unknown[] = []
  const logged: string[] = []
  const server = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk) => {
      text += chunk
    })
    request.on('end', () => {
      taken.push(JSON.parse(text))
      const status = statusOf(taken.length)
      if (status > 0) response.writeHead(status).end('thanks')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  const webhook = new EventWebhook({
    config: { url, timeoutMs, headers: { authorization: 'secret' } },
    clock,
    log: (line) => logged.push(line),
  })
  running.push(webhook, server)
  return { webhook, taken, logged, close: () => server.closeAllConnections() }
}

test('events arrive in order, also behind a failure', async () => {
  const { webhook, taken } = await hook((count) => (count === 2 ? 500 : 200))
  for (const n of [1, 2, 3]) webhook.push({ n })
  await eventually('all events', () => taken.length === 4)
  expect(taken).toEqual([{ n: 1 }, { n: 2 }, { n: 2 }, { n: 3 }])
  expect(webhook.lost).toBe(0)
})

test('an event that is not taken three times is lost, counted, and said once', async () => {
  const { webhook, taken, logged } = await hook(() => 503)
  webhook.push({ n: 1 })
  webhook.push({ n: 2 })
  await eventually('both lost', () => webhook.lost === 2)
  expect(taken).toHaveLength(6)
  expect(logged).toEqual(['events are not taken by the webhook: it answered 503'])
})

test('no answer is a failure after the deadline', async () => {
  const { webhook, logged, close } = await hook(() => 0, 50)
  webhook.push({ n: 1 })
  await eventually('the loss', () => webhook.lost === 1)
  expect(logged).toEqual(['events are not taken by the webhook: no answer in 50 ms'])
  close()
})

test('the queue is bounded: the oldest go', async () => {
  const { webhook, close } = await hook(() => 0)
  // The first is on its way, 256 wait.
  for (let n = 0; n < 300; n++) webhook.push({ n })
  expect(webhook.lost).toBe(300 - 257)
  close()
})
