/**
 * Requests to identity providers: bounded in time and size, no redirects, answers are JSON. The client library is loaded at the first
 * request. Used in the primary (keys) and in workers (introspection).
 */
import type { Agent } from 'undici'

export interface JsonRequest {
  readonly url: string
  readonly method: 'GET' | 'POST'
  readonly headers: { readonly [name: string]: string }
  readonly body?: string
  readonly timeoutMs: number
  readonly bytesMax: number
}

/** Connections per origin; more requests wait for one, within their deadline. */
const CONNECTIONS_MAX = 16

export class JsonClient {
  private agent: Promise<Agent> | null = null
  private isClosed = false

  /** `verifyTls`: certificates must be good. */
  constructor(private readonly verifyTls: boolean) {}

  /** The JSON of an answer with status 200. Rejects with an Error whose text says what went wrong, without secrets. */
  async fetch(request: JsonRequest): Promise<unknown> {
    if (this.isClosed) throw new Error('the client was closed')
    this.agent ??= open(this.verifyTls)
    const dispatcher = await this.agent
    const signal = AbortSignal.timeout(request.timeoutMs)
    try {
      const { url, method, headers, body } = request
      const answer = await dispatcher.request({
        ...splitUrl(url),
        method,
        headers: { accept: 'application/json', ...headers },
        body: body ?? null,
        signal,
        headersTimeout: request.timeoutMs,
        bodyTimeout: request.timeoutMs,
      })
      const chunks: Buffer[] = []
      let size = 0
      for await (const chunk of answer.body as AsyncIterable<Buffer>) {
        size += chunk.length
        // Leaving the loop closes the connection.
        if (size > request.bytesMax) throw new Error(`the answer is larger than ${request.bytesMax} bytes`)
        chunks.push(chunk)
      }
      if (answer.statusCode !== 200) throw new Error(`it answered with status ${answer.statusCode}`)
      return parse(Buffer.concat(chunks).toString('utf8'))
    } catch (error) {
      if (signal.aborted) throw new Error(`it did not answer within ${request.timeoutMs} ms`)
      throw error instanceof Error ? error : new Error(String(error))
    }
  }

  async close(): Promise<void> {
    this.isClosed = true
    await (await this.agent)?.destroy()
  }
}

async function open(verifyTls: boolean): Promise<Agent> {
  const { Agent } = await import('undici')
  return new Agent({ connections: CONNECTIONS_MAX, pipelining: 1, connect: { rejectUnauthorized: verifyTls } })
}

function splitUrl(url: string): { readonly origin: string; readonly path: string } {
  const { origin, pathname, search } = new URL(url)
  return { origin, path: `${pathname}${search}` }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Error('its answer is not JSON')
  }
}

/** Why a URL cannot be asked, or null. */
export function endpointProblem(url: string): string | null {
  if (!URL.canParse(url)) return `"${url}" is not a URL`
  const { protocol, username, password } = new URL(url)
  if (protocol !== 'https:' && protocol !== 'http:') return `"${url}" must begin with https:// or http://`
  return username === '' && password === '' ? null : 'the URL must not hold a user name or password'
}
