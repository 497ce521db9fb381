/** Options of rate-limiting, in both of its shapes. */
import { nullable, nullableOneOf, type Static, Type } from '../plugin.js'
import { keyTypes } from './identity.js'
import { identifierOptions, kongAnswer } from './kong-options.js'
import { flatRedis, kongRedis } from './redis-options.js'

const period = (unit: string) =>
  nullable(Type.Number({ exclusiveMinimum: 0, maximum: 1_000_000_000 }), { description: `Requests per ${unit}; fractions are rounded up.` })

/** Options of the shape with second … year only. */
export const periodOptions = {
  second: period('second'),
  minute: period('minute'),
  hour: period('hour'),
  day: period('day'),
  month: period('calendar month'),
  year: period('calendar year'),
  algorithm: nullableOneOf(['fixed-window', 'token-bucket'], {
    description:
      'With second … year (unset = `fixed-window`): windows on the wall clock in UTC, of which two can be used up around a boundary; or a bucket ' +
      'of the size of the limit that fills evenly over the period.',
  }),
  limit_by: nullableOneOf(['consumer', 'credential', 'ip', 'service', 'header', 'path'], {
    description:
      'With second … year (unset = `consumer`): whose requests count together. What a request does not have: the client address.',
  }),
  path: identifierOptions.path,
  sync_rate: nullable(Type.Number(), {
    description:
      'With second … year and Redis. -1 (or unset): Redis decides on each request. 0.02 and above: requests are counted in batches taken from ' +
      'Redis beforehand (a lease), which never admits more than the limit.',
  }),
  count_rejected: nullable(Type.Boolean(), {
    description:
      'With second … year: count refused requests too, in all windows, as Kong does with Redis. Otherwise what one window refuses uses up ' +
      'nothing of the others.',
  }),
}

/** Options of the shape with `rate` only. */
export const rateOptions = {
  rate: nullable(Type.Number({ exclusiveMinimum: 0, maximum: 1_000_000 }), {
    description: 'Requests per second that are admitted in the long run; with `window_size`, whole requests per window.',
  }),
  burst: nullable(Type.Integer({ minimum: 0, maximum: 1_000_000_000 }), {
    description: 'Requests that may come early, beyond the rate (unset = 0); with `window_size`, added to the limit of a window.',
  }),
  window_size: nullable(Type.Integer({ minimum: 1, maximum: 31_622_400 }), {
    description: 'Makes `rate` a number per window of so many seconds, as in sliding-window-rate-limit.',
  }),
  key_type: nullableOneOf(keyTypes, {
    description: 'With `rate` (unset = `remote_addr`): whose requests count together. What a request does not have: the client address.',
  }),
  key: nullable(Type.String({ minLength: 1, maxLength: 1024 }), {
    description: 'With `rate`: the variable of `key_type: var`, the template of `var_combination`, the text of `constant`.',
  }),
}

export const schema = Type.Object({
  ...periodOptions,
  ...rateOptions,
  header_name: identifierOptions.header_name,
  policy: nullableOneOf(['local', 'cluster', 'redis', 'redis-cluster'], {
    description:
      'Where counters are kept: in this gateway, exact over all its threads, or in Redis, exact over all gateways. `cluster` is refused.',
    default: 'local',
  }),
  fault_tolerant: nullable(Type.Boolean(), {
    description: 'Let requests pass uncounted and without rate headers when Redis does not answer; otherwise they are answered with 500.',
    default: true,
  }),
  ...kongAnswer,
  error_message: nullable(Type.String({ minLength: 1 }), {
    description: 'Text of refusals. Unset: `API rate limit exceeded`, with `rate` `Rate limit exceeded`.',
  }),
  redis: kongRedis,
  ...flatRedis,
})
export type Conf = Static<typeof schema>
