import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { MetricsDirectory } from '../../src/shared/metrics-directory.js'
import { type RouteSeriesLabels, WorkerMetrics } from '../../src/shared/metrics-slab.js'
import { createRegions } from '../../src/shared/regions.js'
import { metrics } from '../../src/telemetry/metrics.js'
import { renderPrometheus, type Sample } from '../../src/telemetry/prometheus.js'

const labels: RouteSeriesLabels = {
  route: 'r1',
  matchedUri: '/a/*',
  matchedHost: 'x.test',
  service: 's',
  consumer: 'jack',
  node: '127.0.0.1',
}
const PROMTOOL = '/usr/bin/promtool'

interface Parsed {
  readonly types: Map<string, string>
  /** Value by metric name with sorted labels: `name{a="1",b="2"}`. */
  readonly samples: Map<string, number>
}

/** A strict reading of the exposition format: anything else than it allows throws. */
function parse(page: string): Parsed {
  if (!page.endsWith('\n')) throw new Error('the page does not end with a line feed')
  const types = new Map<string, string>()
  const samples = new Map<string, number>()
  let family = ''
  for (const line of page.slice(0, -1).split('\n')) {
    const help = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (?:[^\\]|\\\\|\\n)+$/.exec(line)
    if (help !== null) {
      family = help[1] ?? ''
      if (types.has(family)) throw new Error(`family ${family} twice`)
      continue
    }
    const type = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram)$/.exec(line)
    if (type !== null) {
      if (type[1] !== family) throw new Error(`TYPE without its HELP: ${line}`)
      types.set(family, type[2] ?? '')
      continue
    }
    const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line)
    if (sample === null) throw new Error(`neither comment nor sample: ${line}`)
    const [, name = '', body = '', value = ''] = sample
    const base = types.get(family) === 'histogram' ? name.replace(/_(bucket|sum|count)$/, '') : name
    if (base !== family) throw new Error(`${name} stands in the family ${family}`)
    const pairs = body === '' ? [] : body.match(/[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"/g)
    if (pairs === null || pairs.join(',') !== body) throw new Error(`bad labels: ${line}`)
    const key = `${name}{${[...pairs].sort().join(',')}}`
    if (samples.has(key)) throw new Error(`sample twice: ${key}`)
    const number = value === '+Inf' ? Number.POSITIVE_INFINITY : Number(value)
    if (Number.isNaN(number)) throw new Error(`bad value: ${line}`)
    samples.set(key, number)
  }
  return { types, samples }
}

function setup() {
  const regions = createRegions(2)
  const directory = new MetricsDirectory(regions.metrics)
  const workers = regions.metrics.map(
    (slab, index) => new WorkerMetrics(slab, (slot, declared) => directory.declare(index, slot, declared)),
  )
  const [first, second] = workers
  if (first === undefined || second === undefined) throw new Error('two workers expected')
  return { directory, first, second }
}

const route = 'consumer="jack",llm_model="",node="127.0.0.1",request_llm_model="",request_type="",route="r1",service="s"'

describe('prometheus page', () => {
  test('sums the workers under the names and labels of the reference gateway', () => {
    const { directory, first, second } = setup()
    first.routeSeries(labels).record(200, 1, 1.5, 1, 10, 100)
    second.routeSeries(labels).record(200, 1, 70_000, 3, 1, 1)
    second.routeSeries({ ...labels, matchedUri: '/b' }).record(429, 0, 0.2, -1, 0, 0)
    const { samples, types } = parse(renderPrometheus(directory, []))
    const status = (code: string, uri: string, source: string) =>
      samples.get(
        `apisix_http_status{code="${code}",consumer="jack",llm_model="",matched_host="x.test",matched_uri="${uri}",node="127.0.0.1",request_llm_model="",request_type="",response_source="${source}",route="r1",service="s"}`,
      )
    expect(status('200', '/a/*', 'upstream')).toBe(2)
    expect(status('429', '/b', 'apisix')).toBe(1)
    const bucket = (type: string, le: string) =>
      samples.get(
        `apisix_http_latency_bucket{consumer="jack",le="${le}",llm_model="",node="127.0.0.1",request_llm_model="",request_type="",route="r1",service="s",type="${type}"}`,
      )
    expect([bucket('request', '1'), bucket('request', '2'), bucket('request', '60000'), bucket('request', '+Inf')]).toEqual([1, 2, 2, 3])
    expect([bucket('upstream', '1'), bucket('upstream', '5'), bucket('upstream', '+Inf')]).toEqual([1, 2, 2])
    expect(samples.get(`apisix_http_latency_count{${route},type="upstream"}`)).toBe(2)
    expect(samples.get(`apisix_http_latency_sum{${route},type="upstream"}`)).toBe(4)
    expect(samples.get(`apisix_http_latency_sum{${route},type="apisix"}`)).toBeCloseTo(0.5 + 69_997 + 0.2)
    expect(samples.get(`apisix_bandwidth{${route},type="ingress"}`)).toBe(11)
    expect(samples.get(`apisix_bandwidth{${route},type="egress"}`)).toBe(101)
    expect(types.get('apisix_http_requests_total')).toBe('gauge')
    expect(types.get('apisix_http_latency')).toBe('histogram')
  })

  test('the process-wide histogram is cumulative and in seconds', () => {
    const { directory, first, second } = setup()
    for (const [worker, ms] of [
      [first, 0.128],
      [second, 0.129],
      [first, 1.024],
      [second, 100_000],
    ] as const) {
      worker.requestStarted()
      worker.requestEnded(ms)
    }
    const { samples } = parse(renderPrometheus(directory, []))
    const bucket = (le: string) => samples.get(`gateway_request_duration_seconds_bucket{le="${le}"}`)
    expect([bucket('0.000128'), bucket('0.000256'), bucket('0.001024'), bucket('67.108864'), bucket('+Inf')]).toEqual([1, 2, 3, 3, 4])
    expect(samples.get('gateway_request_duration_seconds_count{}')).toBe(4)
    expect(samples.get('gateway_request_duration_seconds_sum{}')).toBeCloseTo(100.001281)
    expect(samples.get('apisix_http_requests_total{}')).toBe(4)
  })

  test('connection states are shown only where connections were reported', () => {
    const { directory, first } = setup()
    first.requestStarted()
    const state = (name: string) =>
      parse(renderPrometheus(directory, [])).samples.get(`apisix_nginx_http_current_connections{state="${name}"}`)
    expect([state('writing'), state('active')]).toEqual([1, undefined])
    first.connectionOpened()
    first.connectionOpened()
    first.connectionOpened()
    first.connectionClosed()
    expect([state('writing'), state('active'), state('waiting'), state('accepted')]).toEqual([1, 2, 1, 3])
  })

  test('named counters and samples of the primary appear; families have no gaps', () => {
    const { directory, first, second } = setup()
    first.counter('upstream_retries').add(2)
    second.counter('upstream_retries').add(3)
    second.counter('refused', ['NO_ROUTE']).add(1)
    const extra: Sample[] = [
      { metric: metrics.workerLag, values: ['0'], value: 0.25 },
      { metric: metrics.configEpoch, values: [], value: 9 },
      { metric: metrics.workerLag, values: ['1'], value: 0.5 },
    ]
    const { samples } = parse(renderPrometheus(directory, extra))
    expect(samples.get('gateway_upstream_retries_total{}')).toBe(5)
    expect(samples.get('gateway_refused_requests_total{reason="NO_ROUTE"}')).toBe(1)
    expect(samples.get('gateway_worker_event_loop_lag_seconds{worker="1"}')).toBe(0.5)
    expect(samples.get('gateway_config_epoch{}')).toBe(9)
  })

  test('label values cannot break out of their quotes', () => {
    const { directory, first } = setup()
    const hostile = 'a"b\\c\nd} 1\n# TYPE x counter\nx 1'
    first.routeSeries({ ...labels, consumer: hostile }).record(200, 1, 1, 1, 0, 0)
    const { samples, types } = parse(renderPrometheus(directory, []))
    expect(types.has('x')).toBe(false)
    expect([...samples.keys()].some((key) => key.includes('consumer="a\\"b\\\\c\\nd} 1\\n# TYPE x counter\\nx 1"'))).toBe(true)
  })

  test('label values of the wrong number are refused by name', () => {
    const { directory } = setup()
    expect(() => renderPrometheus(directory, [{ metric: metrics.workerLag, values: [], value: 1 }])).toThrow(
      'gateway_worker_event_loop_lag_seconds takes the labels worker, but got 0 values',
    )
  })

  test.skipIf(!existsSync(PROMTOOL))('promtool accepts the page', () => {
    const { directory, first } = setup()
    first.routeSeries({ ...labels, consumer: 'a"b\\c\nd' }).record(200, 1, 1, 1, 0, 0)
    first.requestStarted()
    first.requestEnded(1)
    const page = renderPrometheus(directory, [{ metric: metrics.nodeInfo, values: ['host', '0.1.0'], value: 1 }])
    // Exit 3 is for style: names that the reference gateway chose (a gauge called _total, milliseconds) break promtool's taste.
    try {
      execFileSync(PROMTOOL, ['check', 'metrics'], { input: page, stdio: ['pipe', 'pipe', 'pipe'], timeout: 60_000 })
    } catch (error) {
      expect(error).toMatchObject({ status: 3 })
    }
  })
})

describe('metric declarations', () => {
  test('names and labels are valid and declared once', () => {
    const all = Object.values(metrics)
    expect(new Set(all.map((metric) => metric.name)).size).toBe(all.length)
    for (const metric of all) {
      expect(metric.name).toMatch(/^(apisix|gateway)_[a-z0-9_]+$/)
      for (const label of metric.labels) expect(label).toMatch(/^[a-z][a-z0-9_]*$/)
      expect(metric.help).toMatch(/\.$/)
    }
  })
})
