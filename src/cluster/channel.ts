/**
 * Listens on one channel of a Redis, for as long as it is not closed, over a connection of its own. Messages may be lost, as Redis has it: who
 * listens also asks from time to time. For the same reason nobody is told when it cannot listen: the client of the calls says so.
 */
import type { Clock } from '../base/clock.js'
import { BEGIN_AGAIN_MS, connect } from './connection.js'
import type { RedisSettings } from './settings.js'

/** Connects at once, and again and again. `heard` is called for every message. */
export function listenOn(settings: RedisSettings, clock: Clock, channel: string, heard: () => void): { close(): void } {
  const client = connect(settings)
  let isClosed = false
  const ignore = (): void => undefined
  client.on('error', ignore)
  client.on('message', heard)
  client.on('ready', () => {
    client.subscribe(channel).then(heard, ignore)
  })
  // As in connection.ts: the client may give up for ever.
  client.on('end', () => {
    if (isClosed) return
    clock.after(BEGIN_AGAIN_MS, () => {
      if (!isClosed && client.status === 'end') client.connect().catch(ignore)
    })
  })
  return {
    close() {
      isClosed = true
      client.disconnect()
    },
  }
}
