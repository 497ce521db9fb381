import { afterEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { RedisClient } from '../../src/cluster/client.js'
import { NodeRegistry } from '../../src/cluster/nodes.js'
import { loadScripts } from '../../src/cluster/script.js'
import { redisDefaults } from '../../src/cluster/settings.js'
import { eventually, RedisServer, redisMissing } from '../support/redis.js'

const { nodes: script } = loadScripts()

describe.skipIf(redisMissing !== null)('live nodes', () => {
  const closing: (() => unknown)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  async function start() {
    const server = await RedisServer.start()
    closing.push(() => server.close())
    const settings = { ...redisDefaults, mode: 'redis', host: server.host, port: server.port, database: 0, deadlineMs: 30_000 } as const
    const client = new RedisClient({ settings, clock: systemClock, log: () => undefined })
    closing.push(() => client.close())
    const join = (nodeId: string) => {
      const registry = new NodeRegistry({ client, script, clock: systemClock, nodeId })
      closing.push(() => registry.close())
      return registry
    }
    return { server, client, join }
  }

  test('workers of one process count once, those who leave no more', async () => {
    const { join } = await start()
    const [first, again, other] = [join('a'), join('a'), join('b')]
    await eventually('two nodes', () => first.count === 2 && again.count === 2 && other.count === 2)
    await other.close()
    await eventually('one node', () => first.count === 1)
  })

  test('a node that says nothing is forgotten when its time is over', async () => {
    const { server, client, join } = await start()
    // As one that said something and died.
    const key = `${client.keyPrefix}{nodes}`
    await client.run(script, [key], ['dead', 600_000])
    const registry = join('a')
    await eventually('both', () => registry.count === 2)
    await server.client.zadd(key, 'XX', (Date.now() - 1) * 1000, 'dead')
    await eventually('the living', () => registry.count === 1)
  })

  test('the last count stands while Redis is away', async () => {
    const { server, join } = await start()
    const [first] = [join('a'), join('b')]
    await eventually('two nodes', () => first.count === 2)
    await server.kill()
    // Leaving needs Redis too: it fails within the deadline, and changes nothing here.
    await first.close()
    expect(first.count).toBe(2)
  })
})
