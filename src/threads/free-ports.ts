/**
 * Real ports for listeners that are configured with port 0.
 *
 * The binding shares a port between workers (SO_REUSEPORT) only when it is told the number: a socket that got its number from the
 * kernel refuses company. So a free number is found with a socket of Node, which is closed again right before the workers listen. In
 * between somebody else could take the number; the kernel hands out random ones, which makes that unlikely, and what then happens is
 * a clear "port in use".
 */
import { type AddressInfo, createServer, type Server } from 'node:net'
import { UsageError } from '../base/errors.js'

/** The configured ports, with a free one in place of each 0. Rejects with UsageError when an address cannot be used at all. */
export async function findFreePorts(listeners: readonly { readonly host: string; readonly port: number }[]): Promise<number[]> {
  const held: Server[] = []
  try {
    const ports: number[] = []
    // All are held until all are found: no number is given twice.
    for (const { host, port } of listeners) ports.push(port !== 0 ? port : await hold(host, held))
    return ports
  } finally {
    await Promise.all(held.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))))
  }
}

function hold(host: string, held: Server[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (error) => reject(new UsageError(`cannot listen on ${host}:0: ${error.message}`)))
    server.listen({ host, port: 0, exclusive: true }, () => {
      held.push(server)
      resolve((server.address() as AddressInfo).port)
    })
  })
}
