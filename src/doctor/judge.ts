/** Compares what arrived at the upstream with what a strict reading of the client's bytes allows to arrive. */
import { valuesOf } from './strict-fields.js'
import type { StrictRequest, StrictRequestReader } from './strict-request.js'
import { authorityOf, originFormOf } from './strict-request.js'

/** What the gateway itself adds or rewrites toward an upstream (semantics §1.6); everything else must come from the client. */
const GATEWAY_FIELDS = new Set([
  'host',
  'connection',
  'content-length',
  'transfer-encoding',
  'x-real-ip',
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
  'x-forwarded-port',
  'x-request-id',
])

export interface Difference {
  /** `body` when the boundaries of the messages are right and only the content of a body changed. */
  readonly kind: 'message' | 'body'
  readonly text: string
}

/** Bytes of one upstream connection, strictly read. */
export interface Arrival {
  readonly requests: readonly StrictRequest[]
  readonly problem: string | null
  readonly unread: string
}

/** Every way in which `arrivals` is more than, or other than, a beginning of `sent`. Empty = faithful. */
export function differences(sent: StrictRequestReader, arrivals: readonly Arrival[]): Difference[] {
  const found: Difference[] = []
  const add = (text: string, kind: Difference['kind'] = 'message'): number => found.push({ kind, text })
  const arrived = arrivals.flatMap((arrival) => arrival.requests)
  for (const arrival of arrivals) {
    if (arrival.problem !== null) add(`the upstream got bytes that no strict reader accepts: ${arrival.problem}`)
    else if (arrival.unread !== '') add(`the upstream got a cut header section: ${JSON.stringify(arrival.unread.slice(0, 80))}`)
  }
  arrived.forEach((request, index) => {
    const original = sent.requests[index]
    if (original === undefined) add(`the upstream got ${request.method} ${request.target.slice(0, 60)}, which nobody sent`)
    else compare(original, request, add)
  })
  return found
}

function compare(original: StrictRequest, request: StrictRequest, add: (text: string, kind?: Difference['kind']) => void): void {
  const line = `${request.method} ${request.target.slice(0, 60)}`
  if (request.method !== original.method) add(`method ${original.method} arrived as ${request.method}`)
  if (originFormOf(request) !== originFormOf(original)) add(`target ${originFormOf(original).slice(0, 60)} arrived as ${line}`)
  const authority = authorityOf(original)
  if (authority !== '' && authorityOf(request) !== authority) add(`${line}: Host ${authority} arrived as ${authorityOf(request)}`)
  if (request.complete && !original.complete) add(`${line}: a request that never became complete was completed`)
  const body = Buffer.concat(original.body)
  const arrivedBody = Buffer.concat(request.body)
  const same = request.complete ? body.equals(arrivedBody) : body.subarray(0, arrivedBody.length).equals(arrivedBody)
  if (!same) add(`${line}: a body of ${body.length} bytes arrived as ${arrivedBody.length} other bytes`, 'body')
  for (const { name, value } of [...request.fields, ...request.trailers]) {
    const key = name.toLowerCase()
    if (GATEWAY_FIELDS.has(key)) continue
    const known = [...valuesOf(original.fields, key), ...valuesOf(original.trailers, key)]
    if (!known.includes(value)) add(`${line}: field ${JSON.stringify(`${name}: ${value}`.slice(0, 80))} arrived, which nobody sent`)
  }
}
