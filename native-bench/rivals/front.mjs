/**
 * What the gateways in Node have in common: their arguments, and the headers each has to add.
 * Usage: node NAME.mjs --port N --upstream N [--cert FILE --key FILE] [--no-agent]
 */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    port: { type: 'string' },
    upstream: { type: 'string' },
    cert: { type: 'string' },
    key: { type: 'string' },
    'no-agent': { type: 'boolean', default: false },
  },
})

export const port = Number(values.port)
export const upstreamUrl = `http://127.0.0.1:${values.upstream}`
/** Certificate and key of the listener; null = plain HTTP. */
export const tls = values.cert === undefined ? null : { cert: readFileSync(values.cert), key: readFileSync(values.key) }
export const hasAgent = !values['no-agent']
export const keepAliveMs = 300_000
/** As many connections to the upstream as the others may keep. */
export const poolSize = 1100

/** Adds X-Real-IP and X-Forwarded-For to `headers`, of a request that came from `address`. */
export function addClient(headers, address) {
  const before = headers['x-forwarded-for']
  headers['x-forwarded-for'] = before === undefined ? address : `${before}, ${address}`
  headers['x-real-ip'] = address
}
