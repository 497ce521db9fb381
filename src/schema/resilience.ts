/** Options of upstreams (and routes) for what is done when an upstream fails, is late, or has too much to do. */
import { Type } from '@sinclair/typebox'

/** Failures that may be repeated, by the names of the field. */
export const retryCauses = ['connect-failure', 'reset', 'timeout'] as const

const fieldName = "^[0-9A-Za-z!#$%&'*+.^_`|~-]+$"

/** On upstreams and on routes, where they replace those of the upstream. */
export const retryRules = {
  retry_on: Type.Optional(
    Type.Array(
      Type.Union([...retryCauses.map((cause) => Type.Literal(cause)), Type.Integer({ minimum: 400, maximum: 599 })], {
        description: '`connect-failure`, `reset`, `timeout`, or a status from 400 to 599.',
      }),
      {
        uniqueItems: true,
        maxItems: 64,
        description:
          'What is tried again: `connect-failure` (nothing was sent), `reset` (the connection broke, or the answer was no HTTP), `timeout`, and statuses. Default: the three failures, and no status.',
      },
    ),
  ),
  retry_non_idempotent: Type.Optional(
    Type.Boolean({
      default: false,
      description: 'Also repeat POST, PATCH and the like whose bytes were sent: the upstream may then do the same thing twice.',
    }),
  ),
}

const concurrency = Type.Object(
  {
    limit: Type.Integer({
      minimum: 1,
      maximum: 1_000_000,
      description: 'Requests that the upstream has at a time, over all workers; with `adaptive` the limit begins here.',
    }),
    queue: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 100_000,
        default: 100,
        description: 'Requests, over all workers, that may wait for a place; a further one is answered 503 at once.',
      }),
    ),
    queue_timeout: Type.Optional(
      Type.Number({ minimum: 0.001, maximum: 3_600, default: 1, description: 'Seconds that a request waits before it is answered 503.' }),
    ),
    adaptive: Type.Optional(
      Type.Object(
        {
          min: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000, default: 10, description: 'Lowest limit.' })),
          max: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000, default: 1_000, description: 'Highest limit.' })),
          tolerance: Type.Optional(
            Type.Number({
              minimum: 1,
              maximum: 100,
              default: 1.5,
              description: 'The limit falls when the latency is above this times what it is over the long term.',
            }),
          ),
        },
        { additionalProperties: false, description: 'Finds the limit by the latency of the upstream (Gradient2).' },
      ),
    ),
  },
  {
    additionalProperties: false,
    description: 'Bounds the requests that the upstream has at a time; what is above waits, or is answered 503.',
  },
)

export const resilienceOptions = {
  ...retryRules,
  retry_backoff: Type.Optional(
    Type.Object(
      {
        base: Type.Optional(
          Type.Number({
            minimum: 0.001,
            maximum: 60,
            default: 0.025,
            description: 'Seconds. The n-th retry waits a random time from 0 to (2^n - 1) times this.',
          }),
        ),
        max: Type.Optional(
          Type.Number({ minimum: 0.001, maximum: 60, description: 'Longest wait, in seconds; default: ten times `base`.' }),
        ),
      },
      { additionalProperties: false, description: 'Waits between tries, random so that retries do not come in waves. Absent = none.' },
    ),
  ),
  retry_after_max: Type.Optional(
    Type.Number({
      minimum: 0,
      maximum: 60,
      default: 1,
      description:
        'An answer that is to be tried again (`retry_on` with its status) and has a `Retry-After` of up to so many seconds is tried again after that time; with a longer one it goes to the client. 0 = the field is not looked at.',
    }),
  ),
  retry_budget: Type.Optional(
    Type.Object(
      {
        percent: Type.Optional(
          Type.Number({
            minimum: 0,
            maximum: 1_000,
            default: 20,
            description: 'Retries in percent of the requests, of any stretch of two seconds and more.',
          }),
        ),
        min_per_second: Type.Optional(
          Type.Number({
            minimum: 0,
            maximum: 100_000,
            default: 3,
            description: 'Retries per second (over two seconds) that are allowed however few requests there are.',
          }),
        ),
      },
      {
        additionalProperties: false,
        description:
          'Most retries and hedges of all workers together. A try that failed before anything was sent does not count. What is above it is not tried again.',
      },
    ),
  ),
  hedge: Type.Optional(
    Type.Object(
      {
        delay: Type.Optional(
          Type.Number({
            minimum: 0.001,
            maximum: 60,
            description: 'Seconds after which the second try is sent; with `percentile` the least.',
          }),
        ),
        percentile: Type.Optional(
          Type.Number({
            minimum: 50,
            maximum: 99.9,
            description:
              'The second try is sent when the first takes longer than so many percent of the latest ones. Default 95 without `delay`.',
          }),
        ),
      },
      {
        additionalProperties: false,
        description:
          'When an answer is late, asks a second node too and takes the first answer. Only GET, HEAD and OPTIONS without a body, within `retry_budget`.',
      },
    ),
  ),
  concurrency: Type.Optional(concurrency),
  deadline: Type.Optional(
    Type.Object(
      {
        header: Type.Optional(
          Type.String({
            minLength: 1,
            maxLength: 256,
            pattern: fieldName,
            default: 'X-Request-Deadline-Ms',
            description: 'Field that tells the upstream how many milliseconds are left for its answer.',
          }),
        ),
        from_client: Type.Optional(
          Type.Boolean({
            default: false,
            description:
              'Believe this field of clients: a client can shorten its deadline, never lengthen it. Otherwise theirs is dropped.',
          }),
        ),
      },
      {
        additionalProperties: false,
        description: 'Passes deadlines on: what is left of `timeout.total`, of `timeout.per_try`, or of the time that the client gives.',
      },
    ),
  ),
}
