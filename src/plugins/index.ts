/**
 * The plugins that come with the gateway, in run order: the one literal list. `_meta.priority` changes the order of one resource;
 * of equal priorities the earlier in this list runs first. A test keeps the list sorted by priority.
 */

import { acl } from './acl.js'
import { apiBreaker } from './api-breaker.js'
import { attachConsumerLabel } from './attach-consumer-label.js'
import { basicAuth } from './basic-auth.js'
import { circuitBreaker } from './circuit-breaker.js'
import { clientControl } from './client-control.js'
import { consumerRestriction } from './consumer-restriction.js'
import { cors } from './cors.js'
import { csrf } from './csrf.js'
import { echo } from './echo.js'
import { faultInjection } from './fault-injection.js'
import { forwardAuth } from './forward-auth.js'
import { gzip } from './gzip.js'
import { hmacAuth } from './hmac-auth.js'
import { ipRestriction } from './ip-restriction.js'
import { jwt } from './jwt.js'
import { jwtAuth } from './jwt-auth.js'
import { keyAuth } from './key-auth.js'
import { limitConn } from './limit-conn.js'
import { limitCount } from './limit-count.js'
import { limitReq } from './limit-req.js'
import { mocking } from './mocking.js'
import { multiAuth } from './multi-auth.js'
import { opa } from './opa.js'
import type { AnyPlugin } from './plugin.js'
import { prometheus } from './prometheus.js'
import { proxyRewrite } from './proxy-rewrite.js'
import { rateLimit } from './rate-limit.js'
import { rateLimiting } from './rate-limiting.js'
import { rateLimitingAdvanced } from './rate-limiting-advanced.js'
import { realIp } from './real-ip.js'
import { redirect } from './redirect.js'
import { refererRestriction } from './referer-restriction.js'
import { requestId } from './request-id.js'
import { responseRewrite } from './response-rewrite.js'
import { slidingWindowRateLimit } from './sliding-window-rate-limit.js'
import { trafficSplit } from './traffic-split.js'
import { uaRestriction } from './ua-restriction.js'
import { uriBlocker } from './uri-blocker.js'

export const builtinPlugins: readonly AnyPlugin[] = [
  realIp, // 23000
  clientControl, // 22000
  requestId, // 12015
  faultInjection, // 11000
  mocking, // 10900
  cors, // 4000
  ipRestriction, // 3000
  uaRestriction, // 2999
  refererRestriction, // 2990
  csrf, // 2980
  uriBlocker, // 2900
  multiAuth, // 2600
  hmacAuth, // 2530
  basicAuth, // 2520
  jwtAuth, // 2510
  keyAuth, // 2500
  acl, // 2410
  consumerRestriction, // 2400
  attachConsumerLabel, // 2399
  forwardAuth, // 2002
  opa, // 2001
  jwt, // 1450
  proxyRewrite, // 1008
  apiBreaker, // 1005
  limitConn, // 1003
  limitCount, // 1002
  limitReq, // 1001
  slidingWindowRateLimit, // 1001
  rateLimit, // 1000
  gzip, // 995
  trafficSplit, // 966
  circuitBreaker, // 960
  rateLimiting, // 910
  rateLimitingAdvanced, // 910
  redirect, // 900
  responseRewrite, // 899
  prometheus, // 500
  echo, // 412
]
