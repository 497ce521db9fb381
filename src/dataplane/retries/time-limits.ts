/** Limits of tries and of whole requests: `timeout.per_try`, `timeout.total`, and the deadlines of clients. */
import { type Failure, failures } from '../../base/errors.js'
import type { Exchange } from '../exchange.js'
import type { LinkedUpstream } from '../linked-upstream.js'
import type { LinkedRoute } from '../snapshot.js'

/** The limits of a request: those of the route, else of its upstream; and the client's, where it is believed. */
export function setLimits(exchange: Exchange, route: LinkedRoute, upstream: LinkedUpstream): void {
  const { timeout } = upstream.record
  const { deadline } = upstream
  const totalMs = route.totalMs >= 0 ? route.totalMs : (timeout.totalMs ?? 0)
  exchange.isTimed = true
  exchange.isClientDeadline = false
  exchange.perTryMs = route.perTryMs >= 0 ? route.perTryMs : (timeout.perTryMs ?? 0)
  exchange.untilMs = totalMs === 0 ? 0 : exchange.startMs + totalMs
  if (deadline === null) return
  const key = deadline.header.toLowerCase()
  const given = deadline.fromClient ? exchange.requestHeaders.get(key) : undefined
  exchange.requestHeaders.remove(key)
  if (given === undefined || !/^\d{1,9}$/.test(given)) return
  const clientUntil = exchange.startMs + Number(given)
  if (exchange.untilMs !== 0 && exchange.untilMs <= clientUntil) return
  exchange.untilMs = clientUntil
  exchange.isClientDeadline = true
}

/** Sets the limit of a try and tells the upstream of it; false = there is no time left for it. */
export function limitTry(exchange: Exchange, upstream: LinkedUpstream, now: number): boolean {
  const { untilMs, perTryMs } = exchange
  if (isOver(untilMs, now)) return false
  const tryUntil = perTryMs === 0 ? untilMs : untilMs === 0 ? now + perTryMs : Math.min(untilMs, now + perTryMs)
  exchange.limitMs = tryUntil
  const header = upstream.deadline?.header
  if (header !== undefined && tryUntil !== 0) exchange.requestHeaders.set(header, String(Math.max(1, Math.floor(tryUntil - now))))
  return true
}

/** What it is called when the time of a request is over. */
export function deadlineFailure(exchange: Exchange): Failure {
  return exchange.isClientDeadline ? failures.CLIENT_DEADLINE : failures.UPSTREAM_DEADLINE
}

/** A moment of 0 is none. */
export function isOver(limitMs: number, now: number): boolean {
  return limitMs !== 0 && now >= limitMs
}
