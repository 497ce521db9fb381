/** Shedding in a running gateway: the least important first, quickly, and without touching the upstream. */
import { afterEach, expect, test } from 'vitest'
import { ask } from '../support/limit-clients.js'
import { eventually } from '../support/redis.js'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
afterEach(() => bed.close())

test('a process above its memory bound refuses all but critical routes; one below serves all', async () => {
  const upstream = await bed.upstream()
  const route = (id: string, labels: object) => ({
    id,
    uri: `/${id}`,
    labels,
    upstream: { nodes: { [`127.0.0.1:${upstream.port}`]: 1 } },
  })
  const routes = [route('plain', {}), route('high', { priority: 'high' }), route('critical', { priority: 'critical' })]
  const overload = { max_memory: 1_000_000, retry_after: 7 }
  const full = await bed.gateway({ config: { sluice: { log: { level: 'info' }, overload }, routes } })
  await eventually('the level', async () => (await full.metric('gateway_overload_level{worker="0"}')) === 3)
  const refused = await ask(bed, full, '/plain')
  expect([refused.status, refused.field('retry-after'), refused.body]).toEqual([
    503,
    '7',
    '{"error_msg":"the gateway is overloaded","reason":"OVERLOADED"}\n',
  ])
  expect((await ask(bed, full, '/high')).status).toBe(503)
  expect(upstream.requests).toHaveLength(0)
  expect((await ask(bed, full, '/critical')).status).toBe(200)
  expect((await ask(bed, full, '/nowhere')).status).toBe(404)
  await eventually('the count', async () => (await full.metric('gateway_refused_requests_total{reason="OVERLOADED"}')) === 2)
  expect(full.stderr).toContain('overloaded: requests are refused at level 3 of 3')

  const roomy = await bed.gateway({ config: { sluice: { overload: { max_memory: 2 ** 40 } }, routes } })
  expect((await ask(bed, roomy, '/plain')).status).toBe(200)
  expect(await roomy.metric('gateway_overload_level{worker="0"}')).toBe(0)
}, 60_000)
