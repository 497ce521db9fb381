/** `sluice health`: asks a running gateway whether it is ready. For container and service health checks. */
import { get } from 'node:http'
import type { SocketAddress } from '../schema/process.js'
import { formatAddress, parseAddress } from './address.js'

const timeoutMs = 3_000

/** Where to ask when no address was given: the first of KONG_STATUS_LISTEN, if that is set. */
export function statusAddress(kongStatusListen: string | undefined): SocketAddress {
  const first = kongStatusListen?.trim().split(/[\s,]+/)[0] ?? ''
  if (first === '' || first === 'off') return { host: '127.0.0.1', port: 9091 }
  const { host, port } = parseAddress(first, 'KONG_STATUS_LISTEN')
  return { host: host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host, port }
}

/** Exit code 0 when `GET /status/ready` answers 200, else 1 with one line on stderr that says why. */
export async function runHealth(metrics: SocketAddress): Promise<number> {
  const problem = await readinessProblem(metrics)
  if (problem === null) {
    process.stdout.write('ready\n')
    return 0
  }
  process.stderr.write(`sluice: not ready: ${problem}\n`)
  return 1
}

function readinessProblem(metrics: SocketAddress): Promise<string | null> {
  return new Promise((resolve) => {
    const url = `http://${formatAddress(metrics)}/status/ready`
    const request = get(url, { timeout: timeoutMs, agent: false }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.once('error', (error) => resolve(`${url}: ${error.message}`))
      response.once('end', () => {
        const text = Buffer.concat(chunks).toString('utf8').trim()
        resolve(response.statusCode === 200 ? null : `${url} answered ${response.statusCode} ${text}`)
      })
    })
    request.once('timeout', () => request.destroy(new Error(`no answer within ${timeoutMs} ms`)))
    request.once('error', (error) => resolve(`${url}: ${error.message}`))
  })
}
