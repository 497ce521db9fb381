/** What tests of the life of a gateway share: an upstream that holds answers back, requests, faults. */
import { type Agent, createServer, request as httpRequest, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect } from 'vitest'
import { ADMIN_KEY, type Gateway } from './gateway.js'

/** Longest wait for anything; no test waits for it to pass. */
export const waitMs = 60_000

/** Answers at once, except below /held, where the test decides. */
export class HeldUpstream {
  readonly held: ServerResponse[] = []
  private readonly server: Server

  constructor() {
    this.server = createServer((request: IncomingMessage, response: ServerResponse) => {
      request.resume()
      if (request.url?.startsWith('/held')) this.held.push(response)
      else response.end('fine')
    })
  }
  async start(): Promise<number> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve))
    return (this.server.address() as AddressInfo).port
  }
  stop(): void {
    this.server.close()
    this.server.closeAllConnections()
  }

  /** Starts a request to the gateway that is held here, and resolves once it has arrived. */
  async hold(gateway: Gateway): Promise<{ readonly answer: Promise<Answer | Error> }> {
    const before = this.held.length
    const answer = ask(`${gateway.url}/held`).catch((error: Error) => error)
    await expect.poll(() => this.held.length, { timeout: waitMs }).toBeGreaterThan(before)
    return { answer }
  }

  /** Answers everything that is held. */
  release(body: string): void {
    for (const response of this.held.splice(0)) response.end(body)
  }
}

export interface Answer {
  readonly status: number
  readonly body: string
}

/** One request, on a connection of its own unless an agent keeps some. */
export function ask(url: string, agent: Agent | false = false): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { agent, timeout: waitMs }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (text: string) => {
        body += text
      })
      response.once('end', () => resolve({ status: response.statusCode ?? 0, body }))
      response.once('error', reject)
    })
    request.once('timeout', () => request.destroy(new Error(`no answer within ${waitMs} ms`)))
    request.once('error', reject)
    request.end()
  })
}

export const codeOf = (error: NodeJS.ErrnoException) => error.code

/** Makes a worker fail; the gateway needs `admin: true` and SLUICE_FAULTS=1. Returns the status of the admin server. */
export async function fault(gateway: Gateway, worker: number, kind: string): Promise<number> {
  const response = await fetch(`${gateway.adminUrl}/v1/faults`, {
    method: 'POST',
    headers: { 'x-api-key': ADMIN_KEY },
    body: JSON.stringify({ worker, kind }),
  })
  return response.status
}

export const exited = (gateway: Gateway) =>
  gateway.process.signal.until(() => gateway.process.exit !== null, waitMs, 'the end of the gateway')
export const logged = (gateway: Gateway, text: string) =>
  gateway.process.signal.until(() => gateway.stderr.includes(text), waitMs, `"${text}" in the log`)
