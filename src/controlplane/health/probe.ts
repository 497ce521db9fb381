/**
 * One active probe: a connection, or a request of which only the status line is read. Ends within its deadline, in every case (once, the
 * time that this thread stood still is added), and reads no more than 8 KiB of an answer.
 */
import { connect, isIP, type Socket } from 'node:net'
import { connect as connectTls, type SecureContext } from 'node:tls'
import { nowMs } from '../../base/clock.js'

export interface ProbeSpec {
  /** IP address, or absolute path of a Unix socket. */
  readonly address: string
  readonly port: number
  /** Null with type `tcp`: connecting is all. */
  readonly request: Buffer | null
  /** Null = no TLS. */
  readonly tls: ProbeTls | null
  readonly timeoutMs: number
}

export interface ProbeTls {
  /** Made once per upstream. */
  readonly context: SecureContext
  readonly serverName: string
  readonly verify: boolean
}

export type ProbeOutcome =
  | { readonly kind: 'connected' }
  | { readonly kind: 'status'; readonly status: number }
  /** An answer that is not HTTP. */
  | { readonly kind: 'no-status' }
  /** Not connected, TLS failed, or closed before the status line. */
  | { readonly kind: 'broken'; readonly reason: string }
  | { readonly kind: 'timeout' }

/** Starts a probe and tells its outcome once, later; the function returned cancels it silently. */
export type Probe = (spec: ProbeSpec, done: (outcome: ProbeOutcome) => void) => () => void

const STATUS_LINE_BYTES_MAX = 8192
/** A timer that is late by more: the thread was busy. */
const STANDSTILL_MS = 20
const LINE_FEED = 0x0a

export const probe: Probe = (spec, done) => {
  const socket = open(spec)
  let timer = setTimeout(expire, spec.timeoutMs)
  let deadlineMs = nowMs() + spec.timeoutMs
  let isExtended = false
  let received: Buffer = Buffer.alloc(0)
  let isOver = false
  const close = (): boolean => {
    if (isOver) return false
    isOver = true
    clearTimeout(timer)
    socket.destroy()
    return true
  }
  const end = (outcome: ProbeOutcome): void => {
    if (close()) done(outcome)
  }
  // Timers run before sockets are read. What came while this thread stood still is read first, and it gets the time back, once: a large
  // configuration that is compiled must not make nodes look slow.
  function expire(): void {
    const lateMs = nowMs() - deadlineMs
    if (lateMs > STANDSTILL_MS && !isExtended) {
      isExtended = true
      deadlineMs += 2 * lateMs
      timer = setTimeout(expire, lateMs)
    } else setImmediate(() => end({ kind: 'timeout' }))
  }
  socket.on(spec.tls === null ? 'connect' : 'secureConnect', () => {
    if (spec.request === null) end({ kind: 'connected' })
    else socket.write(spec.request)
  })
  socket.on('data', (chunk: Buffer) => {
    received = Buffer.concat([received, chunk])
    const lineEnd = received.indexOf(LINE_FEED)
    if (lineEnd >= 0 || received.length > STATUS_LINE_BYTES_MAX) end(readStatusLine(received.toString('latin1', 0, Math.max(0, lineEnd))))
  })
  socket.on('error', (error: NodeJS.ErrnoException) => end({ kind: 'broken', reason: error.code ?? error.message }))
  socket.on('close', () => end({ kind: 'broken', reason: 'closed without an answer' }))
  return () => void close()
}

function open({ address, port, tls }: ProbeSpec): Socket {
  const place = address.startsWith('/') ? { path: address } : { host: address, port }
  if (tls === null) return connect(place)
  const options = { ...place, secureContext: tls.context, rejectUnauthorized: tls.verify, ALPNProtocols: ['http/1.1'] }
  // A server name must not be an address (RFC 6066 §3); a certificate is then verified for the address.
  return connectTls(isIP(tls.serverName) === 0 ? { ...options, servername: tls.serverName } : options)
}

function readStatusLine(line: string): ProbeOutcome {
  const status = /^HTTP\/\d+\.\d+\s+(\d{1,9})/i.exec(line)?.[1]
  return status === undefined ? { kind: 'no-status' } : { kind: 'status', status: Number(status) }
}
