/**
 * Builds the head of the request that goes upstream: request line, Host, the client's surviving fields, the gateway's own
 * (semantics §1.6), framing. One string, written in one call.
 */

import type { CompiledNode, CompiledUpstream } from '../../schema/compiled.js'
import type { Exchange } from '../exchange.js'

const CHAR_X = 120

/** Name and value bytes that can stand in a head: RFC 9110 tokens; printable characters and tabs (sent as UTF-8). */
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const unsafeInValue = /[^\t\x20-\x7e\x80-\uffff]/
const unsafeInValueRuns = /[^\t\x20-\x7e\x80-\uffff]+/g
const unsafeInTarget = /[^\x21-\x7e]|#/

/** Fields that this file writes, or that belong to one connection. */
const ownFields: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'host',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/**
 * Builds the head. What plugins wrote cannot split it: bytes that would are percent-encoded in targets and values, and fields whose
 * name is not a token, or which belong to framing, are left out. What is as it arrived was checked then, and where no plugin can have
 * written such a thing, nothing else is looked at either.
 */
export function buildRequestHead(exchange: Exchange, upstream: CompiledUpstream, node: CompiledNode): string {
  const { linked, overlaid } = exchange
  // The rewrite phase of the route ran also where a consumer's plugins have joined the chain since.
  const isChanged = !(linked?.chain.keepsHeadSafe === true && (overlaid === null || overlaid.chain.keepsHeadSafe))
  if (isChanged || exchange.requestHeaders.origin === null || upstream.passHost === 'node')
    return newHead(exchange, upstream, node, isChanged)
  if (last.fits(exchange, upstream)) return last.head
  const head = newHead(exchange, upstream, node, isChanged)
  last.learn(exchange, upstream, head)
  return head
}

/** The last head of a request with the fields that its client sent: the same client often asks for the same again. */
class LastHead {
  head = ''
  private origin: object | null = null
  private upstream: CompiledUpstream | null = null
  private method = ''
  private path = ''
  private query = ''
  private host = ''
  private client = ''
  private peer = ''
  private port = 0
  private bodyLength = 0

  fits(exchange: Exchange, upstream: CompiledUpstream): boolean {
    return (
      this.origin === exchange.requestHeaders.origin &&
      this.upstream === upstream &&
      this.path === exchange.upstreamPath &&
      this.query === exchange.upstreamQuery &&
      this.method === exchange.upstreamMethod &&
      this.host === exchange.upstreamHost &&
      this.client === exchange.clientAddress &&
      this.peer === exchange.peerAddress &&
      this.port === exchange.serverPort &&
      this.bodyLength === exchange.requestBodyLength
    )
  }

  learn(exchange: Exchange, upstream: CompiledUpstream, head: string): void {
    this.head = head
    this.origin = exchange.requestHeaders.origin
    this.upstream = upstream
    this.path = exchange.upstreamPath
    this.query = exchange.upstreamQuery
    this.method = exchange.upstreamMethod
    this.host = exchange.upstreamHost
    this.client = exchange.clientAddress
    this.peer = exchange.peerAddress
    this.port = exchange.serverPort
    this.bodyLength = exchange.requestBodyLength
  }
}

const last = new LastHead()

function newHead(exchange: Exchange, upstream: CompiledUpstream, node: CompiledNode, isChanged: boolean): string {
  let head = isChanged ? checkedStart(exchange, upstream, node) : plainStart(exchange, upstream, node)
  const headers = exchange.requestHeaders
  const { keys, names, values, checkedCount } = headers
  // What may have to be left out is looked at one by one; a block only has what can stand there.
  const count = isChanged ? headers.count : headers.countBeforeBlock
  let forwardedFor = ''
  let hasProto = false
  let hasHost = false
  let hasPort = false
  for (let index = 0; index < count; index++) {
    const key = keys[index] as string
    const name = names[index] as string
    let value = values[index] as string
    if (isChanged && index >= checkedCount) {
      if (!token.test(name) || ownFields.has(key)) continue
      value = safeValue(value)
    }
    if (key.charCodeAt(0) === CHAR_X) {
      if (key === 'x-forwarded-for') {
        if (value !== '') forwardedFor = `${forwardedFor}${value}, `
        continue
      }
      if (key === 'x-real-ip') continue
      if (key === 'x-forwarded-proto') hasProto = true
      else if (key === 'x-forwarded-host') hasHost = true
      else if (key === 'x-forwarded-port') hasPort = true
    }
    head += `${name}: ${value}\r\n`
  }
  head += headers.blockLines
  if (!isChanged && forwardedFor === '' && !hasProto && !hasHost && !hasPort) return head + usualTail(exchange)
  // The chain names who was connected to whom; only X-Real-IP says whom the gateway takes the client for.
  const client = isChanged ? safeValue(exchange.clientAddress) : exchange.clientAddress
  head += `x-real-ip: ${client}\r\nx-forwarded-for: ${forwardedFor}${exchange.peerAddress}\r\n`
  if (!hasProto) head += `x-forwarded-proto: ${exchange.scheme}\r\n`
  if (!hasHost) head += `x-forwarded-host: ${exchange.hostHeader}\r\n`
  if (!hasPort) head += `x-forwarded-port: ${exchange.serverPort}\r\n`
  return head + framing(exchange)
}

/** What the last request with nothing unusual about it ended in: on a kept-alive connection the next one ends the same way. */
let lastTail = ''
let lastClient = ''
let lastPeer = ''
let lastHost = ''
let lastScheme = ''
let lastPort = 0
let lastLength = 0
let lastNeedsLength = false

/** The gateway's own fields and the framing. */
function usualTail(exchange: Exchange): string {
  const { clientAddress, peerAddress, hostHeader, scheme, serverPort, requestBodyLength } = exchange
  const isLengthNeeded = needsLength(exchange.upstreamMethod)
  if (
    clientAddress === lastClient &&
    peerAddress === lastPeer &&
    hostHeader === lastHost &&
    requestBodyLength === lastLength &&
    serverPort === lastPort &&
    isLengthNeeded === lastNeedsLength &&
    scheme === lastScheme
  ) {
    return lastTail
  }
  lastClient = clientAddress
  lastPeer = peerAddress
  lastHost = hostHeader
  lastLength = requestBodyLength
  lastPort = serverPort
  lastNeedsLength = isLengthNeeded
  lastScheme = scheme
  lastTail =
    `x-real-ip: ${clientAddress}\r\nx-forwarded-for: ${peerAddress}\r\nx-forwarded-proto: ${scheme}\r\n` +
    `x-forwarded-host: ${hostHeader}\r\nx-forwarded-port: ${serverPort}\r\n${framing(exchange)}`
  return lastTail
}

/** The framing field, if one is needed, and the end of the head. */
function framing(exchange: Exchange): string {
  const length = exchange.requestBodyLength
  // A body is expected of some methods: without a length some servers wait for one, or answer 411.
  if (length === 0) return needsLength(exchange.upstreamMethod) ? 'content-length: 0\r\n\r\n' : '\r\n'
  return length > 0 ? `content-length: ${length}\r\n\r\n` : 'transfer-encoding: chunked\r\n\r\n'
}

/** The last request line, and Host: other clients often ask for the same with other fields. */
let lastStart = ''
let lastStartMethod = ''
let lastStartPath = ''
let lastStartQuery = ''
let lastStartHost = ''

function plainStart(exchange: Exchange, upstream: CompiledUpstream, node: CompiledNode): string {
  const { upstreamMethod, upstreamPath, upstreamQuery } = exchange
  const host = hostFor(exchange, upstream, node)
  if (
    upstreamPath === lastStartPath &&
    upstreamQuery === lastStartQuery &&
    host === lastStartHost &&
    upstreamMethod === lastStartMethod &&
    lastStart !== ''
  ) {
    return lastStart
  }
  const target = upstreamQuery === '' ? upstreamPath : `${upstreamPath}?${upstreamQuery}`
  lastStartMethod = upstreamMethod
  lastStartPath = upstreamPath
  lastStartQuery = upstreamQuery
  lastStartHost = host
  lastStart = `${upstreamMethod} ${target} HTTP/1.1\r\nhost: ${host}\r\n`
  return lastStart
}

function checkedStart(exchange: Exchange, upstream: CompiledUpstream, node: CompiledNode): string {
  const { upstreamMethod, upstreamPath, upstreamQuery } = exchange
  const method = token.test(upstreamMethod) ? upstreamMethod : exchange.method
  const target = safeTarget(upstreamQuery === '' ? upstreamPath : `${upstreamPath}?${upstreamQuery}`)
  return `${method} ${target} HTTP/1.1\r\nhost: ${safeValue(hostFor(exchange, upstream, node))}\r\n`
}

/** The target with percent escapes of the UTF-8 bytes of whatever would end it or the request line; it begins with `/`, or is `*`. */
function safeTarget(target: string): string {
  const clean = unsafeInTarget.test(target) ? target.replace(unsafeRuns, percentEncode) : target
  return clean.startsWith('/') || clean === '*' ? clean : `/${clean}`
}

const unsafeRuns = /[^\x21-\x22\x24-\x7e]+/g

/** The value with percent escapes of the UTF-8 bytes of whatever could end it. */
export function safeValue(value: string): string {
  return unsafeInValue.test(value) ? value.replace(unsafeInValueRuns, percentEncode) : value
}

function percentEncode(text: string): string {
  let encoded = ''
  for (const byte of Buffer.from(text, 'utf8')) encoded += `%${byte < 16 ? '0' : ''}${byte.toString(16).toUpperCase()}`
  return encoded
}

function hostFor(exchange: Exchange, upstream: CompiledUpstream, node: CompiledNode): string {
  if (exchange.upstreamHost !== '') return exchange.upstreamHost
  switch (upstream.passHost) {
    case 'pass':
      return exchange.hostHeader
    case 'rewrite':
      return upstream.upstreamHost
    case 'node': {
      const isDefault = node.port === 0 || node.port === (upstream.scheme === 'https' ? 443 : 80)
      const host = node.host.includes(':') && !node.host.startsWith('[') ? `[${node.host}]` : node.host
      return isDefault ? host : `${host}:${node.port}`
    }
  }
}

function needsLength(method: string): boolean {
  return method === 'POST' || method === 'PUT' || method === 'PATCH'
}
