/** Texts of failures in the shape of Kong, as its source has them. */
import { expect, test } from 'vitest'
import { failures } from '../../src/base/errors.js'
import { kongMessage } from '../../src/base/kong-error.js'

test.each([
  ['NO_ROUTE', 'no Route matched with those values'],
  ['NO_UPSTREAM', 'no Service found with those values'],
  ['NO_NODES', 'failure to get a peer from the ring-balancer'],
  ['UPSTREAM_UNHEALTHY', 'failure to get a peer from the ring-balancer'],
  ['UPSTREAM_RESET', 'An invalid response was received from the upstream server'],
  ['UPSTREAM_READ_TIMEOUT', 'The upstream server is timing out'],
  ['BODY_TOO_LARGE', 'Payload too large'],
] as const)('%s', (code, message) => {
  expect(kongMessage(failures[code])).toBe(message)
})
