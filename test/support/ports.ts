/**
 * Ports for those who must know one before they listen, or want one on which nobody does. The kernel gives none of them away: they lie
 * below the range from which it takes ports for `port 0` and for outgoing connections.
 */
import { randomInt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'

const FIRST = 10_240
const given = new Set<number>()

/** A port of 127.0.0.1 that is free, and that this function gave to nobody else in this process. */
export async function ownPort(): Promise<number> {
  const [end = 32_768] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'latin1').trim().split(/\s+/).map(Number)
  if (end <= FIRST) throw new Error(`the kernel gives away ports from ${end} on: none is left below`)
  for (let attempt = 0; attempt < 1000; attempt++) {
    const port = randomInt(FIRST, end)
    if (given.has(port) || !(await isFree(port))) continue
    given.add(port)
    return port
  }
  throw new Error('no free port was found')
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ host: '127.0.0.1', port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}
