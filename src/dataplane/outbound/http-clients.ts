/**
 * HTTP to other services on behalf of plugins. Pools of connections belong to the worker and to their settings, not to a snapshot, so
 * that a reload keeps them warm. Everything is bounded: connections, questions that wait, time, size of an answer, number of pools.
 */
import { errors, Pool } from 'undici'
import { type HttpAnswer, type HttpClient, HttpClientError, type HttpQuestion, type HttpSettings } from '../../base/http-client.js'

/** Questions under way to one origin; more are refused at once instead of waiting in vain. */
const PENDING_MAX = 1024
/** Pools kept; the one that was used longest ago is closed when there are more. */
const POOLS_MAX = 128
/** A header section of an answer beyond this is an error. */
const ANSWER_HEADER_BYTES_MAX = 65536

interface OpenPool {
  readonly pool: Pool
  pending: number
}

export class HttpClients {
  private readonly pools = new Map<string, OpenPool>()

  /** A client with these settings; connections are opened when it is first used. */
  client(settings: HttpSettings): HttpClient {
    const key = JSON.stringify(settings)
    return { ask: (question) => this.ask(key, settings, question) }
  }

  /** Cuts all connections. */
  async close(): Promise<void> {
    const pools = [...this.pools.values()]
    this.pools.clear()
    await Promise.allSettled(pools.map(({ pool }) => pool.destroy()))
  }

  private async ask(key: string, settings: HttpSettings, question: HttpQuestion): Promise<HttpAnswer> {
    const open = this.open(key, settings)
    if (open.pending >= PENDING_MAX) throw new HttpClientError('busy', `${PENDING_MAX} requests to ${settings.origin} wait already`)
    open.pending++
    try {
      const response = await open.pool.request({
        method: question.method as 'GET',
        path: question.path,
        headers: question.headers.map(wireText),
        body: question.body ?? null,
        signal: AbortSignal.timeout(settings.timeoutMs),
      })
      const body = Buffer.from(await response.body.arrayBuffer())
      const headers = response.headers
      const headerLines = (name: string): readonly string[] => {
        const value = Object.hasOwn(headers, name) ? headers[name] : undefined
        return value === undefined ? [] : typeof value === 'string' ? [value] : value
      }
      return {
        status: response.statusCode,
        body,
        headerLines,
        header(name) {
          const lines = headerLines(name)
          return lines.length === 0 ? undefined : lines.join(', ')
        },
      }
    } catch (error) {
      throw failureOf(error, settings)
    } finally {
      open.pending--
    }
  }

  private open(key: string, settings: HttpSettings): OpenPool {
    let open = this.pools.get(key)
    if (open === undefined) {
      open = { pool: createPool(settings), pending: 0 }
      if (this.pools.size >= POOLS_MAX) this.closeOldest()
    } else this.pools.delete(key)
    // A Map keeps the order of insertion: the first is the one that was used longest ago.
    this.pools.set(key, open)
    return open
  }

  private closeOldest(): void {
    for (const [key, { pool }] of this.pools) {
      this.pools.delete(key)
      void pool.close().catch(() => undefined)
      return
    }
  }
}

function createPool(settings: HttpSettings): Pool {
  const isKept = settings.keepaliveMs > 0
  return new Pool(settings.origin, {
    connections: settings.connections,
    // Without pipelining undici closes the connection behind each answer.
    pipelining: isKept ? 1 : 0,
    ...(isKept ? { keepAliveTimeout: settings.keepaliveMs, keepAliveMaxTimeout: settings.keepaliveMs } : {}),
    connect: { rejectUnauthorized: settings.verifyTls, timeout: settings.timeoutMs },
    headersTimeout: settings.timeoutMs,
    bodyTimeout: settings.timeoutMs,
    maxHeaderSize: ANSWER_HEADER_BYTES_MAX,
    maxResponseSize: settings.maxResponseBytes,
  })
}

/** Values beyond ASCII go out as the UTF-8 bytes that the client sent; the library takes one character per byte. */
function wireText(text: string): string {
  for (let index = 0; index < text.length; index++) {
    if (text.charCodeAt(index) > 127) return Buffer.from(text, 'utf8').toString('latin1')
  }
  return text
}

function failureOf(error: unknown, { origin, timeoutMs, maxResponseBytes }: HttpSettings): HttpClientError {
  if (error instanceof HttpClientError) return error
  const isTimeout =
    error instanceof errors.HeadersTimeoutError ||
    error instanceof errors.BodyTimeoutError ||
    error instanceof errors.ConnectTimeoutError ||
    (error instanceof Error && error.name === 'TimeoutError')
  if (isTimeout) return new HttpClientError('timeout', `${origin} did not answer within ${timeoutMs} ms`)
  if (error instanceof errors.ResponseExceededMaxSizeError) {
    return new HttpClientError('too-large', `the answer of ${origin} is longer than ${maxResponseBytes} bytes`)
  }
  if (error instanceof errors.InvalidArgumentError) return new HttpClientError('invalid', `the request to ${origin} cannot be sent`)
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? ` (${error.code})` : ''
  return new HttpClientError('unreachable', `${origin} could not be asked${code}`)
}
