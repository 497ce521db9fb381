/**
 * Why a worker could not listen. The binding only says "no"; the operating system says why when Node tries the same address once more.
 */
import { createServer } from 'node:net'
import { UsageError } from '../base/errors.js'

/** The error to show for an address (`host:port`) on which listening failed for `reason`. */
export async function explainListenFailure(address: string, reason: string): Promise<UsageError> {
  const [, host, port] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? []
  const code = host === undefined ? undefined : await probe(host, Number(port))
  switch (code) {
    case 'EADDRINUSE':
      return new UsageError(
        `cannot listen on ${address}: the port is in use by another process; stop it, or choose another with --listen`,
        1,
      )
    case 'EACCES':
      return new UsageError(
        `cannot listen on ${address}: no permission; ports below 1024 need root or CAP_NET_BIND_SERVICE, or choose another with --listen`,
      )
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return new UsageError(`cannot listen on ${address}: this machine has no such address; choose one of its own, or 0.0.0.0`)
    default:
      return new UsageError(`cannot listen on ${address}: ${code ?? reason}`, 1)
  }
}

/** Tries to listen and closes again at once; the error code, or undefined when it went well. */
function probe(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)))
  })
}
