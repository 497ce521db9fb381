/**
 * The upstreams of `--demo`: small HTTP servers inside the process, so that a first look needs nothing else.
 *
 *   echo     answers 200 with the request as JSON: what the gateway really sent
 *   slow     answers 200 after 2 s
 *   failing  answers 500
 */
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface DemoUpstreams {
  /** Ports by the variable that a configuration names them with: `${{SLUICE_DEMO_ECHO}}`, … */
  readonly environment: { readonly [name: string]: string }
  close(): Promise<void>
}

const maxEchoBytes = 1_048_576
const slowDelayMs = 2_000

const services: readonly { readonly variable: string; readonly listener: RequestListener }[] = [
  {
    variable: 'SLUICE_DEMO_ECHO',
    listener: (request, response) => {
      void readText(request).then((body) => {
        const { method, url, httpVersion, headers } = request
        response.setHeader('content-type', 'application/json')
        response.end(`${JSON.stringify({ service: 'echo', method, url, httpVersion, headers, body }, null, 2)}\n`)
      })
    },
  },
  {
    variable: 'SLUICE_DEMO_SLOW',
    listener: (request, response) => {
      request.resume()
      const timer = setTimeout(() => {
        response.setHeader('content-type', 'application/json')
        response.end(`${JSON.stringify({ service: 'slow', waitedMs: slowDelayMs })}\n`)
      }, slowDelayMs)
      response.once('close', () => clearTimeout(timer))
    },
  },
  {
    variable: 'SLUICE_DEMO_FAILING',
    listener: (request, response) => {
      request.resume()
      response.writeHead(500, { 'content-type': 'application/json' })
      response.end(`${JSON.stringify({ service: 'failing', error: 'this service always fails' })}\n`)
    },
  },
]

/** Starts all three on free loopback ports. */
export async function startDemoUpstreams(): Promise<DemoUpstreams> {
  const servers: Server[] = []
  const environment: { [name: string]: string } = {}
  for (const { variable, listener } of services) {
    const server = createServer({ keepAliveTimeout: 75_000 }, listener)
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(0, '127.0.0.1', resolve)
    })
    servers.push(server)
    environment[variable] = String((server.address() as AddressInfo).port)
  }
  return { environment, close: async () => void (await Promise.all(servers.map(closeServer))) }
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}

/** The body as text, cut at 1 MiB. An aborted upload gives what came. */
async function readText(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      if (size < maxEchoBytes) chunks.push(chunk)
      size += chunk.length
    }
  } catch {
    // The client went away; the answer then goes nowhere.
  }
  return Buffer.concat(chunks).subarray(0, maxEchoBytes).toString('utf8')
}
