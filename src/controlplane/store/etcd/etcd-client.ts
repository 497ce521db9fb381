/**
 * etcd's version 3 API over its JSON gateway (`/v3/…`, since etcd 3.4), which every etcd server speaks on its client port. One
 * request at a time goes to one of the hosts; when that cannot be reached, the next one is asked.
 *
 * Numbers of 64 bits are texts in this JSON, bytes are base64. Everything but a watch has a deadline.
 */
import { readFileSync } from 'node:fs'
import { Agent, request } from 'undici'
import type { EtcdConfig } from '../../../schema/process.js'
import { reasonOf } from '../journal.js'
import { StoreAway } from '../store-backend.js'

export type EtcdConnection = Pick<EtcdConfig, 'hosts' | 'timeoutMs' | 'user' | 'password' | 'tls'>

/** Fields of a message; what is zero or empty is not there. */
export type Message = { readonly [name: string]: unknown }

/** gRPC codes in errors of the gateway. */
const OUT_OF_RANGE = 11
const UNAUTHENTICATED = 16
/** One message of a watch: all events of one revision. */
const LINE_MAX = 256 * 1_048_576

/** An error of etcd itself: it was reached, and said no. */
export class EtcdRefusal extends StoreAway {
  constructor(
    message: string,
    readonly code: number,
  ) {
    super(message)
  }

  /** What was asked for is no longer kept. */
  get isCompacted(): boolean {
    return this.code === OUT_OF_RANGE
  }
}

export class EtcdClient {
  private readonly agent: Agent
  /** Index of the host that answered last. */
  private host = 0
  private token: string | null = null

  /** Throws when a file of the TLS settings cannot be read. */
  constructor(private readonly options: EtcdConnection) {
    const { tls, timeoutMs } = options
    const connect = {
      timeout: timeoutMs,
      rejectUnauthorized: tls.verify,
      ...(tls.serverName !== null && { servername: tls.serverName }),
      ...(tls.certFile !== null && { cert: readFileSync(tls.certFile) }),
      ...(tls.keyFile !== null && { key: readFileSync(tls.keyFile) }),
      ...(tls.caFile !== null && { ca: readFileSync(tls.caFile) }),
    }
    this.agent = new Agent({ connect, headersTimeout: timeoutMs, bodyTimeout: timeoutMs })
  }

  /** Rejects with StoreAway. With `isWrite`, only a host that has certainly not got it is followed by another one. */
  async call(path: string, body: Message, isWrite = false): Promise<Message> {
    if (this.options.user !== null && this.token === null) await this.authenticate()
    try {
      return await this.ask(path, body, isWrite)
    } catch (error) {
      if (!(error instanceof EtcdRefusal) || error.code !== UNAUTHENTICATED || this.options.user === null) throw error
      await this.authenticate()
      return this.ask(path, body, isWrite)
    }
  }

  /** Messages as they come, until etcd or `signal` ends it. Rejects with StoreAway when it breaks. */
  async *stream(path: string, body: Message, signal: AbortSignal): AsyncGenerator<Message> {
    if (this.options.user !== null && this.token === null) await this.authenticate()
    let rest = ''
    try {
      const response = await request(this.urlOf(path), { ...this.send(body), bodyTimeout: 0, signal })
      const decoder = new TextDecoder()
      for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
        rest += decoder.decode(chunk, { stream: true })
        const lines = rest.split('\n')
        rest = lines.pop() ?? ''
        if (rest.length > LINE_MAX) throw new StoreAway(`a message of etcd is larger than ${LINE_MAX} bytes`)
        for (const line of lines) if (line !== '') yield this.resultOf(JSON.parse(line), response.statusCode)
      }
    } catch (error) {
      // The next one asks another host, with a new token.
      this.host++
      this.token = null
      throw error instanceof StoreAway ? error : new StoreAway(reasonOf(error))
    }
  }

  /** Ends everything that is under way. */
  close(): void {
    void this.agent.destroy()
  }

  private async authenticate(): Promise<void> {
    const { user, password } = this.options
    this.token = null
    const { token } = await this.ask('auth/authenticate', { name: user, password }, false)
    if (typeof token !== 'string') throw new StoreAway('etcd gave no token for the user')
    this.token = token
  }

  private async ask(path: string, body: Message, isWrite: boolean): Promise<Message> {
    const { hosts } = this.options
    for (let tried = 1; ; tried++) {
      try {
        return await this.askHost(path, body)
      } catch (error) {
        if (error instanceof EtcdRefusal) throw error
        const reason = reasonOf(error)
        const isUnsent = unsent.has(reason)
        this.host++
        if (tried >= hosts.length || (isWrite && !isUnsent)) throw new StoreAway(texts[reason] ?? reason, isWrite && !isUnsent)
      }
    }
  }

  private async askHost(path: string, body: Message): Promise<Message> {
    const signal = AbortSignal.timeout(this.options.timeoutMs)
    const response = await request(this.urlOf(path), { ...this.send(body), signal })
    const text = await response.body.text()
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch {
      throw new StoreAway(`status ${response.statusCode}, and no JSON: this is no etcd with a JSON gateway`)
    }
    return this.resultOf(value, response.statusCode)
  }

  private send(body: Message) {
    return {
      dispatcher: this.agent,
      method: 'POST' as const,
      headers: { 'content-type': 'application/json', ...(this.token !== null && { authorization: this.token }) },
      body: JSON.stringify(body),
    }
  }

  private urlOf(path: string): string {
    const { hosts } = this.options
    return `${hosts[this.host % hosts.length]}/v3/${path}`
  }

  private resultOf(value: unknown, status: number): Message {
    const message = messageIn(value)
    // Errors stand in different places by version, and inside of streams.
    const error = messageIn(message['error'])
    const code = Number(message['code'] ?? error['grpc_code'] ?? error['code'] ?? 0)
    if (status < 400 && code === 0) return 'result' in message ? messageIn(message['result']) : message
    const text = message['message'] ?? error['message'] ?? message['error'] ?? ''
    throw new EtcdRefusal(`etcd says: ${String(text).slice(0, 200)}`, code)
  }
}

export function messageIn(value: unknown): Message {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}

/** The messages of a list field. */
export function messagesIn(value: unknown): Message[] {
  return Array.isArray(value) ? value.map(messageIn) : []
}

/** A number of 64 bits; etcd's revisions stay far below where they would lose digits. */
export function numberIn(value: unknown): number {
  return Number(value ?? 0)
}

export function bytesOf(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64')
}

export function textIn(bytes: unknown): string {
  return typeof bytes === 'string' ? Buffer.from(bytes, 'base64').toString('utf8') : ''
}

/** Failures before anything was sent. */
const unsent = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND', 'EAI_AGAIN', 'UND_ERR_CONNECT_TIMEOUT'])
const texts: { readonly [reason: string]: string } = {
  UND_ERR_CONNECT_TIMEOUT: 'no connection in time',
  UND_ERR_HEADERS_TIMEOUT: 'no answer in time',
  UND_ERR_BODY_TIMEOUT: 'no answer in time',
  UND_ERR_SOCKET: 'the connection broke',
}
