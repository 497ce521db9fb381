/** prometheus: names instead of ids in the series of routes, and the attributes of the plugin. */
import { afterAll, expect, test } from 'vitest'
import { Gateway } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
afterAll(() => bed.close())

const answer = { mocking: { response_example: 'x' } }
const services = [{ id: 's1', name: 'orders-service', plugins: {} }]
const routes = (plugins: object) => [
  { id: 'r1', name: 'orders', uri: '/named', service_id: 's1', plugins: { ...answer, ...plugins } },
  { id: 'r2', uri: '/nameless', service_id: 's1', plugins: { ...answer, ...plugins } },
  { id: 'r3', name: 'other', uri: '/without', service_id: 's1', plugins: answer },
]
const preferred = { prometheus: { prefer_name: true } }

/** `route/service` of the series that counted these paths; that of requests without a route is always there. */
async function seriesOf(gateway: Gateway): Promise<string[]> {
  for (const path of ['/named', '/nameless', '/without']) await fetch(`${gateway.url}${path}`)
  let found: string[] = []
  await expect
    .poll(async () => {
      const text = await (await fetch(`${gateway.metricsUrl}/apisix/prometheus/metrics`)).text()
      found = [...text.matchAll(/^apisix_bandwidth\{type="egress",route="([^"]*)",service="([^"]*)"/gm)].map(
        ([, route, service]) => `${route}/${service}`,
      )
      found = found.filter((names) => names !== '/')
      return new Set(found).size
    })
    .toBeGreaterThanOrEqual(3)
  return [...new Set(found)].sort()
}

test('per route, in a global rule, and where the page is', async () => {
  const config = {
    services,
    routes: routes(preferred),
    plugin_attr: { prometheus: { export_addr: { ip: '127.0.0.1', port: 0 }, default_buckets: [0.1, 60] } },
  }
  const gateway = await Gateway.start({ config })
  bed.later(() => gateway.discard())
  expect(gateway.stderr).toContain('read as seconds: apisix_http_latency is in milliseconds and gets the bounds 100 to 60000')
  expect(await seriesOf(gateway)).toEqual(['orders/orders-service', 'r2/orders-service', 'r3/s1'])
  const page = await (await fetch(`${gateway.metricsUrl}/metrics`)).text()
  const buckets = [...page.matchAll(/^apisix_http_latency_bucket\{type="request",route="orders",.*?le="([^"]+)"\} (\d+)/gm)]
  expect(buckets.slice(0, 3).map(([, bound]) => bound)).toEqual(['100', '60000', '+Inf'])
  expect(Number(buckets[1]?.[2])).toBeGreaterThan(0)
  expect(buckets[2]?.[2]).toBe(buckets[1]?.[2])
  await gateway.reload({ ...config, routes: routes({}), global_rules: [{ id: 1, plugins: preferred }] })
  expect(await seriesOf(gateway)).toContain('other/orders-service')
})
