/** One request over any protocol that a listener may speak, with the answer in one shape. */
import { connect as connectHttp2, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http2'
import type { ConnectionOptions } from 'node:tls'
import type { RawConnection } from '../../src/doctor/raw-connection.js'
import { valuesOf } from '../../src/doctor/strict-fields.js'
import type { TestBed } from './test-bed.js'

export interface Answer {
  readonly status: number
  readonly body: Buffer
  /** Values of a field, `name` in lower case. */
  readonly values: (name: string) => readonly string[]
}

export interface Call {
  readonly method?: string
  readonly target: string
  /** Host or :authority. */
  readonly host?: string
  readonly fields?: Readonly<Record<string, string>>
  readonly body?: Buffer
  /** Announce the length of the body; else it is chunked, or has no length. */
  readonly withLength?: boolean
}

export type Caller = (call: Call) => Promise<Answer>

/** HTTP/1.1 on a new connection for each call. */
export function http1Caller(bed: TestBed, port: number, tls?: ConnectionOptions): Caller {
  return async ({ method = 'GET', target, host = 'front.test', fields = {}, body, withLength = true }) => {
    const client = await bed.client({ port, ...(tls === undefined ? {} : { tls }) })
    const lines = [`${method} ${target} HTTP/1.1`, `Host: ${host}`, ...Object.entries(fields).map(([name, value]) => `${name}: ${value}`)]
    if (body !== undefined) lines.push(withLength ? `Content-Length: ${body.length}` : 'Transfer-Encoding: chunked')
    const head = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1')
    client.expectMethodOf(head)
    await client.send(head)
    if (body !== undefined) await sendBody(client, body, withLength)
    const response = await client.response(60_000)
    return { status: response.status, body: Buffer.concat([...response.body]), values: (name) => valuesOf(response.fields, name) }
  }
}

async function sendBody(client: RawConnection, body: Buffer, withLength: boolean): Promise<void> {
  if (withLength) {
    await client.send(body)
    return
  }
  for (let at = 0; at < body.length; at += 30_000) {
    const piece = body.subarray(at, at + 30_000)
    await client.send(`${piece.length.toString(16)}\r\n`)
    await client.send(piece)
    await client.send('\r\n')
  }
  await client.send('0\r\n\r\n')
}

/** HTTP/2 on a new session for each call: TLS, or prior knowledge without. */
export function http2Caller(bed: TestBed, port: number, tls?: ConnectionOptions): Caller {
  return ({ method = 'GET', target, host = 'front.test', fields = {}, body, withLength = true }) => {
    const session = connectHttp2(`${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`, { ...tls })
    bed.later(() => session.destroy())
    return new Promise((resolve, reject) => {
      session.once('error', reject)
      const headers: OutgoingHttpHeaders = { ':method': method, ':path': target, ':authority': host, ...fields }
      if (body !== undefined && withLength) headers['content-length'] = String(body.length)
      const stream = session.request(headers, { endStream: body === undefined })
      let head: IncomingHttpHeaders = {}
      let lines: readonly string[] = []
      const pieces: Buffer[] = []
      stream.once('response', (received: IncomingHttpHeaders, _flags: number, ...rest: unknown[]) => {
        head = received
        lines = Array.isArray(rest[0]) ? rest[0].map(String) : []
      })
      stream.on('data', (piece: Buffer) => pieces.push(piece))
      stream.once('error', reject)
      stream.once('close', () => {
        session.close()
        if (!stream.readableEnded || head[':status'] === undefined) reject(new Error(`the stream ended early with code ${stream.rstCode}`))
        else resolve({ status: Number(head[':status']), body: Buffer.concat(pieces), values: (name) => valuesIn(lines, name) })
      })
      if (body !== undefined) stream.end(body)
    })
  }
}

function valuesIn(lines: readonly string[], name: string): string[] {
  return lines.filter((_, index) => index % 2 === 1 && lines[index - 1] === name)
}
