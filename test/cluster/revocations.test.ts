import { afterEach, describe, expect, test } from 'vitest'
import { type Clock, ManualClock, systemClock } from '../../src/base/clock.js'
import { listenOn } from '../../src/cluster/channel.js'
import { RedisClient } from '../../src/cluster/client.js'
import { RevocationSync } from '../../src/cluster/revocations.js'
import { redisDefaults } from '../../src/cluster/settings.js'
import { eventually, RedisServer, redisMissing } from '../support/redis.js'

const END_S = 4_000_000_000

describe.skipIf(redisMissing !== null)('revocations of several nodes', () => {
  const closing: (() => unknown)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  async function start() {
    const server = await RedisServer.start()
    closing.push(() => server.close())
    const settings = { ...redisDefaults, mode: 'redis', host: server.host, port: server.port, database: 0, deadlineMs: 30_000 } as const
    /** With a clock that stands still a node never asks by itself: it knows what messages tell it to read. */
    const join = async (clock: Clock, isListening = true) => {
      const client = new RedisClient({ settings, clock: systemClock, log: () => undefined })
      const inForce = new Map<string, number>()
      const sync = new RevocationSync({
        client,
        clock,
        inForce,
        listen: (channel, heard) => (isListening ? listenOn(settings, systemClock, channel, heard) : { close: () => undefined }),
        learn: (digest, untilS) => (untilS === 0 ? inForce.delete(digest) : inForce.set(digest, untilS)),
      })
      closing.push(() => sync.close())
      expect(await sync.begin()).toBe(true)
      return { sync, inForce }
    }
    return { server, join }
  }

  test('messages tell of what is revoked, and of what no longer is', async () => {
    const { server, join } = await start()
    const [first, second] = [await join(new ManualClock()), await join(new ManualClock())]
    // Subscribed: what comes now is not read by chance.
    await eventually('both listen', async () => String(await server.client.pubsub('NUMSUB', 'sluice:{revocations}:news')).endsWith(',2'))
    expect(await first.sync.publish('jti:a', END_S)).toBeNull()
    expect(await first.sync.publish('jti:b', END_S)).toBeNull()
    await eventually('the other node', () => second.inForce.size === 2)
    expect(await second.sync.undo('jti:a', END_S)).toBeNull()
    await eventually('the first node', () => !first.inForce.has('jti:a'))
    expect([...first.inForce]).toEqual([['jti:b', END_S]])
    // Who comes later finds what is in force, and what was undone and revoked again.
    expect(await second.sync.publish('jti:a', END_S)).toBeNull()
    const third = await join(new ManualClock())
    expect(new Set(third.inForce.keys())).toEqual(new Set(['jti:a', 'jti:b']))
    expect(await third.sync.undo('jti:b', END_S)).toBeNull()
    expect([...(await join(new ManualClock())).inForce.keys()]).toEqual(['jti:a'])
  })

  test('without messages nodes ask, and a user who may not publish revokes all the same', async () => {
    const { server, join } = await start()
    await server.client.call('ACL', 'SETUSER', 'default', 'resetchannels')
    const [first, second] = [await join(new ManualClock()), await join(systemClock, false)]
    expect(await first.sync.publish('sub:a', END_S)).toBeNull()
    await eventually('the other node', () => second.inForce.has('sub:a'))
    expect(await first.sync.undo('sub:a', END_S)).toBeNull()
    await eventually('the other node again', () => second.inForce.size === 0)
  })
})
