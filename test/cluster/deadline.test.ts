/** A deadline is about Redis, not about this thread: what was answered in time is taken, however late this thread comes to read it. */
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { RedisClient } from '../../src/cluster/client.js'
import { loadScripts } from '../../src/cluster/script.js'
import { redisDefaults } from '../../src/cluster/settings.js'
import { eventually, RedisServer, redisMissing } from '../support/redis.js'

const DEADLINE_MS = 50

test.skipIf(redisMissing !== null)('an answer that came while this thread stood still beyond the deadline counts', async () => {
  const server = await RedisServer.start()
  const settings = { ...redisDefaults, mode: 'redis', host: server.host, port: server.port, database: 0, deadlineMs: DEADLINE_MS } as const
  const client = new RedisClient({ settings, clock: systemClock, log: () => undefined })
  try {
    const { nodes } = loadScripts()
    const ask = () => client.run(nodes, ['sluice:{nodes}'], ['me', 60_000])
    await eventually('the connection', () =>
      ask().then(
        () => true,
        () => false,
      ),
    )
    const calls = () =>
      Number(
        /cmdstat_evalsha:calls=(\d+)/.exec(spawnSync('redis-cli', ['-p', `${server.port}`, 'INFO', 'commandstats']).stdout.toString())?.[1],
      )
    const before = calls()
    const beganMs = performance.now()
    const answer = ask()
    // The call leaves at the end of this turn; from the next one on nothing runs here until Redis has answered and the time is over.
    await new Promise((resolve) => setImmediate(resolve))
    while (calls() === before || performance.now() - beganMs < 2 * DEADLINE_MS);
    expect(await answer).toBe(1)
  } finally {
    client.close()
    await server.close()
  }
})
