/**
 * The two forms of an access log line: `common`, the default line of the reference gateway, and `json`, its default log object.
 *
 *   $remote_addr - $remote_user [$time_local] $http_host "$request" $status $body_bytes_sent $request_time "$http_referer"
 *   "$http_user_agent" $upstream_addr $upstream_status $upstream_response_time "$upstream_scheme://$upstream_host$upstream_uri"
 *
 * Whatever a client sends stays inside its field and its line: quotes, backslashes, control bytes and everything outside ASCII are
 * written as \xHH, in unquoted fields also spaces. The JSON form leaves out request headers except Host, Referer and User-Agent,
 * because the others may carry secrets.
 */
import type { CompiledUpstream } from '../schema/compiled.js'

/** What a line needs to know of an exchange; `Exchange` of the plugin contract fits. */
export interface AccessRecord {
  readonly method: string
  readonly scheme: string
  readonly host: string
  readonly hostHeader: string
  readonly serverPort: number
  readonly query: string
  readonly rawTarget: string
  readonly requestHeaders: { get(key: string): string | undefined }
  readonly requestBodyLength: number
  readonly clientAddress: string
  readonly consumerName: string
  readonly credentialId: string
  readonly requestId: string
  readonly route: { readonly id: string; readonly serviceId: string } | null
  readonly upstreamPath: string
  readonly upstreamQuery: string
  readonly upstreamHost: string
  readonly upstreamIndex: number
  readonly upstreamAddress: string
  readonly upstreamStatus: string
  readonly upstreamResponseMs: number
  readonly response: { readonly status: number }
  readonly bodyBytesSent: number
  readonly startedAtMs: number
  elapsedMs(): number
}

/** What a line needs to know of an upstream. */
export type LoggedUpstream = Pick<CompiledUpstream, 'scheme' | 'passHost' | 'upstreamHost'>

export interface FormatOptions {
  readonly wallMs: () => number
  /** The upstream of this index in the configuration that serves, or undefined. */
  readonly upstreamOf: (index: number) => LoggedUpstream | undefined
  /** For the `server` member of the JSON form. */
  readonly server: { readonly hostname: string; readonly version: string }
}

/** Renders one line with its line feed. */
export type LineRenderer = (record: AccessRecord) => string

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'] as const
const unsafeInQuotes = /[^\x20-\x21\x23-\x5b\x5d-\x7e]/g
const unsafeBare = /[^\x21\x23-\x5b\x5d-\x7e]/g

/** Every byte of the UTF-8 form as \xHH. */
function escapeBytes(character: string): string {
  let text = ''
  for (const byte of Buffer.from(character)) text += `\\x${byte.toString(16).toUpperCase().padStart(2, '0')}`
  return text
}

function quoted(value: string | undefined): string {
  return value === undefined || value === '' ? '-' : value.replace(unsafeInQuotes, escapeBytes)
}

function bare(value: string): string {
  return value === '' ? '-' : value.replace(unsafeBare, escapeBytes)
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(3)
}

function two(value: number): string {
  return value < 10 ? `0${value}` : String(value)
}

/** `02/Jan/2026:03:04:05 +0000`, local time. */
function localTime(wallMs: number): string {
  const time = new Date(wallMs)
  const offset = -time.getTimezoneOffset()
  const zone = `${offset < 0 ? '-' : '+'}${two(Math.floor(Math.abs(offset) / 60))}${two(Math.abs(offset) % 60)}`
  const day = `${two(time.getDate())}/${months[time.getMonth()] ?? ''}/${time.getFullYear()}`
  return `${day}:${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())} ${zone}`
}

function hostSent(record: AccessRecord, upstream: LoggedUpstream): string {
  if (record.upstreamHost !== '') return record.upstreamHost
  if (upstream.passHost === 'rewrite') return upstream.upstreamHost
  return upstream.passHost === 'node' ? record.upstreamAddress : record.hostHeader
}

function upstreamUrl(record: AccessRecord, upstream: LoggedUpstream | undefined): string {
  if (upstream === undefined) return ''
  const query = record.upstreamQuery === '' ? '' : `?${record.upstreamQuery}`
  return `${upstream.scheme}://${hostSent(record, upstream)}${record.upstreamPath}${query}`
}

/** The `common` form. */
export function commonLine(options: FormatOptions): LineRenderer {
  let second = -1
  let timeText = ''
  return (record) => {
    const now = options.wallMs()
    const nowSecond = Math.floor(now / 1000)
    if (nowSecond !== second) {
      second = nowSecond
      timeText = localTime(now)
    }
    const headers = record.requestHeaders
    const wasProxied = record.upstreamAddress !== ''
    const upstream = wasProxied ? options.upstreamOf(record.upstreamIndex) : undefined
    const client = `${bare(record.clientAddress)} - ${bare(record.consumerName)} [${timeText}] ${bare(record.hostHeader)}`
    const request = `"${quoted(record.method)} ${quoted(record.rawTarget)} HTTP/1.1"`
    const answer = `${record.response.status} ${record.bodyBytesSent} ${seconds(record.elapsedMs())}`
    const agent = `"${quoted(headers.get('referer'))}" "${quoted(headers.get('user-agent'))}"`
    // Several tries are listed as "502, 200": the spaces are ours and stay, as in the line of the reference gateway.
    const tries = record.upstreamStatus === '' ? '-' : record.upstreamStatus
    const upstreamTime = record.upstreamResponseMs < 0 ? '-' : seconds(record.upstreamResponseMs)
    const proxied = `${bare(record.upstreamAddress)} ${tries} ${upstreamTime} "${quoted(upstreamUrl(record, upstream))}"`
    return `${client} ${request} ${answer} ${agent} ${proxied}\n`
  }
}

/** Absent members are left out by JSON.stringify. */
function present(value: string | undefined): string | undefined {
  return value === '' ? undefined : value
}

function round(ms: number): number {
  return Math.round(ms * 1000) / 1000
}

/** A name that comes several times has a list, as in the reference gateway. */
function queryObject(query: string): Record<string, string | string[]> {
  const found: Record<string, string | string[]> = Object.create(null)
  if (query === '') return found
  for (const [name, value] of new URLSearchParams(query)) {
    const known = found[name]
    if (known === undefined) found[name] = value
    else if (typeof known === 'string') found[name] = [known, value]
    else known.push(value)
  }
  return found
}

/** The `json` form. */
export function jsonLine(options: FormatOptions): LineRenderer {
  return (record) => {
    const latency = record.elapsedMs()
    const upstreamLatency = record.upstreamResponseMs < 0 ? undefined : record.upstreamResponseMs
    const headers = record.requestHeaders
    const line = {
      request: {
        id: present(record.requestId),
        method: record.method,
        uri: record.rawTarget,
        url: `${record.scheme}://${record.host}:${record.serverPort}${record.rawTarget}`,
        querystring: queryObject(record.query),
        headers: { host: present(record.hostHeader), referer: headers.get('referer'), 'user-agent': headers.get('user-agent') },
        size: record.requestBodyLength < 0 ? undefined : record.requestBodyLength,
      },
      response: { status: record.response.status, size: record.bodyBytesSent },
      server: options.server,
      upstream: present(record.upstreamAddress),
      upstream_status: present(record.upstreamStatus),
      service_id: record.route === null ? record.host : present(record.route.serviceId),
      route_id: record.route?.id,
      consumer: record.consumerName === '' ? undefined : { username: record.consumerName },
      credential_id: present(record.credentialId),
      client_ip: record.clientAddress,
      start_time: record.startedAtMs,
      latency: round(latency),
      upstream_latency: upstreamLatency === undefined ? undefined : round(upstreamLatency),
      apisix_latency: round(Math.max(0, latency - (upstreamLatency ?? 0))),
    }
    return `${JSON.stringify(line)}\n`
  }
}
