/**
 * Builds the head of the request that goes upstream: request line, Host, the client's surviving fields, the gateway's own
 * (semantics §1.6), framing. One string, written in one call.
 */

import type { CompiledNode, CompiledUpstream } from '../../schema/compiled.js'
import type { Exchange } from '../exchange.js'

const CHAR_X = 120

/** Byte values that must never come out of a plugin's template: they would split the head. */
const splitsHead = /[\r\n\0]/

/** True if the head can be sent as it is: a plugin's template may have produced CR, LF or NUL out of a client's data. */
export function isSafeFieldValue(value: string): boolean {
  return !splitsHead.test(value)
}

export function buildRequestHead(exchange: Exchange, upstream: CompiledUpstream, node: CompiledNode): string {
  const target = exchange.upstreamQuery === '' ? exchange.upstreamPath : `${exchange.upstreamPath}?${exchange.upstreamQuery}`
  let head = `${exchange.upstreamMethod} ${target} HTTP/1.1\r\nhost: ${hostFor(exchange, upstream, node)}\r\n`
  const { keys, names, values, count } = exchange.requestHeaders
  let forwardedFor = ''
  let hasProto = false
  let hasHost = false
  let hasPort = false
  for (let index = 0; index < count; index++) {
    const key = keys[index] as string
    if (key.charCodeAt(0) === CHAR_X) {
      if (key === 'x-forwarded-for') {
        forwardedFor = forwardedFor === '' ? `${values[index] as string}, ` : `${forwardedFor}${values[index] as string}, `
        continue
      }
      if (key === 'x-real-ip') continue
      if (key === 'x-forwarded-proto') hasProto = true
      else if (key === 'x-forwarded-host') hasHost = true
      else if (key === 'x-forwarded-port') hasPort = true
    }
    head += `${names[index] as string}: ${values[index] as string}\r\n`
  }
  const address = exchange.clientAddress
  head += `x-real-ip: ${address}\r\nx-forwarded-for: ${forwardedFor}${address}\r\n`
  if (!hasProto) head += `x-forwarded-proto: ${exchange.scheme}\r\n`
  if (!hasHost) head += `x-forwarded-host: ${exchange.hostHeader}\r\n`
  if (!hasPort) head += `x-forwarded-port: ${exchange.serverPort}\r\n`
  if (exchange.requestBodyLength === 0) {
    // A body is expected of these methods: without a length some servers wait for one, or answer 411.
    return needsLength(exchange.upstreamMethod) ? `${head}content-length: 0\r\n\r\n` : `${head}\r\n`
  }
  return exchange.requestBodyLength > 0
    ? `${head}content-length: ${exchange.requestBodyLength}\r\n\r\n`
    : `${head}transfer-encoding: chunked\r\n\r\n`
}

function hostFor(exchange: Exchange, upstream: CompiledUpstream, node: CompiledNode): string {
  if (exchange.upstreamHost !== '') return exchange.upstreamHost
  switch (upstream.passHost) {
    case 'pass':
      return exchange.hostHeader
    case 'rewrite':
      return upstream.upstreamHost
    case 'node': {
      if (node.host.startsWith('/') || node.host.startsWith('unix:')) return 'localhost'
      const isDefault = node.port === (upstream.scheme === 'https' ? 443 : 80)
      const host = node.host.includes(':') && !node.host.startsWith('[') ? `[${node.host}]` : node.host
      return isDefault ? host : `${host}:${node.port}`
    }
  }
}

function needsLength(method: string): boolean {
  return method === 'POST' || method === 'PUT' || method === 'PATCH'
}
