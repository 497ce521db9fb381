/** Schemas of `checks` and `outlier_detection` of an upstream. Names and defaults of the former are those of APISIX, of the latter Envoy's. */
import { type Static, Type } from '@sinclair/typebox'
import { host, oneOf } from './common.js'

const LIMIT_MAX = 254

const statuses = (description: string, fallback: readonly number[]) =>
  Type.Optional(
    Type.Array(Type.Integer({ minimum: 200, maximum: 599 }), {
      minItems: 1,
      uniqueItems: true,
      default: [...fallback],
      description,
    }),
  )

const limit = (minimum: 0 | 1, fallback: number, description: string) =>
  Type.Optional(
    Type.Integer({
      minimum,
      maximum: LIMIT_MAX,
      default: fallback,
      description: minimum === 0 ? `${description}; 0 = not counted.` : `${description}.`,
    }),
  )

const interval = (which: string) =>
  Type.Optional(
    Type.Number({ minimum: 0.1, maximum: 86_400, default: 1, description: `Seconds between two probes of a node that is ${which}.` }),
  )

export const checkDefaults = {
  active: { healthy: [200, 302], unhealthy: [429, 404, 500, 501, 502, 503, 504, 505] },
  passive: {
    healthy: [200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308],
    unhealthy: [429, 500, 503],
  },
} as const

const active = Type.Object(
  {
    type: Type.Optional(
      oneOf(['http', 'https', 'tcp'], {
        default: 'http',
        description: 'What a probe is: a request, of which only the status line is read, or with `tcp` a connection.',
      }),
    ),
    timeout: Type.Optional(
      Type.Number({ exclusiveMinimum: 0, maximum: 3_600, default: 1, description: 'Seconds that a probe may take, connecting included.' }),
    ),
    concurrency: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1_024, default: 10, description: 'Probes of this upstream at the same time.' }),
    ),
    host: Type.Optional(
      host('Host of the request and TLS name of a probe; default: `upstream_host` with `pass_host: rewrite`, else the host of the node.'),
    ),
    port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535, description: 'Port to probe; default: that of the node.' })),
    http_path: Type.Optional(
      Type.String({ pattern: '^/[!-~]*$', maxLength: 4_096, default: '/', description: 'Path of the request, with its query.' }),
    ),
    http_method: Type.Optional(Type.String({ pattern: '^[A-Z]{1,32}$', default: 'GET', description: 'Method of the request.' })),
    http_req_body: Type.Optional(Type.String({ maxLength: 65_536, default: '', description: 'Body of the request.' })),
    https_verify_certificate: Type.Optional(
      Type.Boolean({ default: true, description: 'With type `https`: verify the certificate of the node.' }),
    ),
    req_headers: Type.Optional(
      Type.Array(Type.String({ pattern: "^[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\\t -~\\x80-\\xff]*$", maxLength: 8_192 }), {
        uniqueItems: true,
        maxItems: 64,
        default: [],
        description: 'Further header lines of the request: `Name: value`.',
      }),
    ),
    healthy: Type.Optional(
      Type.Object(
        {
          interval: interval('usable'),
          http_statuses: statuses('Statuses that are a success.', checkDefaults.active.healthy),
          successes: limit(1, 2, 'Successes in a row that make a node healthy'),
        },
        { additionalProperties: false, description: 'What makes a node healthy.' },
      ),
    ),
    unhealthy: Type.Optional(
      Type.Object(
        {
          interval: interval('not usable'),
          http_statuses: statuses('Statuses that are a failure.', checkDefaults.active.unhealthy),
          http_failures: limit(0, 5, 'Answers with such a status, or without any, that make a node unhealthy'),
          tcp_failures: limit(0, 2, 'Connections that failed, or were closed without an answer, that make a node unhealthy'),
          timeouts: limit(0, 3, 'Probes without an answer in time that make a node unhealthy'),
        },
        { additionalProperties: false, description: 'What makes a node unhealthy. Each kind is counted apart; a success begins all anew.' },
      ),
    ),
  },
  { additionalProperties: false, description: 'Probes, sent by the gateway itself.' },
)

const passive = Type.Object(
  {
    type: Type.Optional(
      oneOf(['http', 'https', 'tcp'], {
        default: 'http',
        description: '`http` and `https` look at the status of answers; with `tcp` every answer is a success.',
      }),
    ),
    healthy: Type.Optional(
      Type.Object(
        {
          http_statuses: statuses('Statuses that are a success.', checkDefaults.passive.healthy),
          successes: limit(0, 5, 'Successes in a row that make a node healthy'),
        },
        { additionalProperties: false, description: 'What makes a node healthy.' },
      ),
    ),
    unhealthy: Type.Optional(
      Type.Object(
        {
          http_statuses: statuses('Statuses that are a failure.', checkDefaults.passive.unhealthy),
          http_failures: limit(0, 5, 'Answers with such a status that make a node unhealthy'),
          tcp_failures: limit(0, 2, 'Connections that failed or broke off that make a node unhealthy'),
          timeouts: limit(0, 7, 'Tries that were not answered in time that make a node unhealthy'),
        },
        { additionalProperties: false, description: 'What makes a node unhealthy. Each kind is counted apart; a success begins all anew.' },
      ),
    ),
  },
  {
    additionalProperties: false,
    description: 'What the traffic itself tells about nodes. Only together with `active`, which brings them back.',
  },
)

export const checksSchema = Type.Object(
  { active: Type.Optional(active), passive: Type.Optional(passive) },
  {
    additionalProperties: false,
    description: 'Health checks: nodes that are not healthy get no requests. All workers see the same state, and reloads keep it.',
  },
)

const seconds = (minimum: number, fallback: number, description: string) =>
  Type.Optional(Type.Number({ minimum, maximum: 86_400, default: fallback, description: `${description}, in seconds.` }))
const count = (fallback: number, description: string) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000, default: fallback, description }))
const volume = (fallback: number, description: string) =>
  Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000_000, default: fallback, description }))
const percent = (minimum: 0 | 1, fallback: number, description: string) =>
  Type.Optional(Type.Number({ minimum, maximum: 100, default: fallback, description }))

export const outlierDetectionSchema = Type.Object(
  {
    consecutive_5xx: count(5, 'Failures in a row (statuses from 500, broken or failed connections, timeouts) that eject a node; 0 = off.'),
    consecutive_gateway_failure: count(0, 'The same, where only 502, 503, 504, broken or failed connections and timeouts count; 0 = off.'),
    success_rate_minimum_hosts: volume(5, 'Nodes with enough requests that success rates are compared with.'),
    success_rate_request_volume: volume(100, 'Requests of a node in one interval from which its success rate says something.'),
    success_rate_stdev_factor: count(
      1_900,
      'Nodes are ejected whose success rate is below the mean by more than so many thousandths of the standard deviation; 0 = off.',
    ),
    failure_percentage_threshold: percent(0, 0, 'Percentage of failed requests in one interval from which a node is ejected; 0 = off.'),
    failure_percentage_minimum_hosts: volume(5, 'Nodes with enough requests for `failure_percentage_threshold` to apply.'),
    failure_percentage_request_volume: volume(50, 'Requests of a node in one interval from which its failures are judged.'),
    slow_call_duration: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: 3_600,
        default: 0,
        description: 'Seconds without the head of an answer that make a call slow; 0 = off.',
      }),
    ),
    consecutive_slow_calls: count(5, 'Slow calls in a row that eject a node, also ones that are not answered yet; 0 = off.'),
    slow_call_percentage: percent(0, 50, 'Percentage of slow calls in one interval from which a node is ejected; 0 = off.'),
    slow_call_request_volume: volume(20, 'Requests of a node in one interval from which its slow calls are judged.'),
    interval: seconds(0.1, 10, 'Time over which rates and percentages are taken'),
    base_ejection_time: seconds(0.1, 30, 'Length of the first ejection; the n-th in a row is n times as long'),
    max_ejection_time: seconds(0.1, 300, 'Longest ejection'),
    max_ejection_percent: percent(
      0,
      10,
      'Percentage of the nodes that may be ejected at the same time; one may in any case, unless this is 0.',
    ),
  },
  {
    additionalProperties: false,
    description:
      'Takes nodes out for a while that answer worse than they should, judged by the traffic alone. Names as in Envoy; `slow_call_*` are ours.',
  },
)

export type ChecksResource = Static<typeof checksSchema>
export type OutlierDetectionResource = Static<typeof outlierDetectionSchema>
