/**
 * Sockets that listen on a port which other threads and processes listen on too (SO_REUSEPORT): the kernel spreads connections among
 * them. libuv has had an option for this since 1.49, Node 20 has 1.46: so the three system calls are made here, once per listener.
 * Linux only, as the numbers are.
 */
import { createRequire } from 'node:module'
import { isIPv4, isIPv6 } from 'node:net'
import ipaddr from 'ipaddr.js'

const AF_INET = 2
const AF_INET6 = 10
const SOCK_STREAM = 1
const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_REUSEADDR = 2
const SO_REUSEPORT = 15
const IPPROTO_IPV6 = 41
const IPV6_V6ONLY = 26

interface SystemCalls {
  socket(domain: number, type: number, protocol: number): number
  setsockopt(descriptor: number, level: number, name: number, value: Buffer, length: number): number
  bind(descriptor: number, address: Buffer, length: number): number
  close(descriptor: number): number
  errno(): number
}

let found: SystemCalls | null | undefined

/** Whether this machine can share ports; the first call looks. */
export function canSharePorts(): boolean {
  found ??= findSystemCalls()
  return found !== null
}

/** Whether `bindSharedPort` understands this host: IP addresses only. */
export function isBindable(host: string): boolean {
  return isIPv4(host) || isIPv6(host)
}

/**
 * A TCP socket that is bound to host (an IP address) and port, 0 = any free one: its file descriptor, or a negative error number
 * as libuv has them. `::` takes IPv4 too.
 */
export function bindSharedPort(host: string, port: number): number {
  found ??= findSystemCalls()
  const calls = found
  if (calls === null) throw new Error('this machine cannot share ports')
  const isIpv6 = host.includes(':')
  const descriptor = calls.socket(isIpv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
  if (descriptor < 0) return -calls.errno()
  const set = (level: number, name: number, value: number): boolean => {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32LE(value)
    return calls.setsockopt(descriptor, level, name, bytes, 4) === 0
  }
  const address = socketAddress(host, port)
  const isBound =
    set(SOL_SOCKET, SO_REUSEADDR, 1) &&
    set(SOL_SOCKET, SO_REUSEPORT, 1) &&
    (!isIpv6 || set(IPPROTO_IPV6, IPV6_V6ONLY, 0)) &&
    calls.bind(descriptor, address, address.length) === 0
  if (isBound) return descriptor
  const error = calls.errno()
  calls.close(descriptor)
  return -error
}

/** `struct sockaddr_in`, or `sockaddr_in6`, of a little-endian Linux. */
function socketAddress(host: string, port: number): Buffer {
  const parsed = ipaddr.parse(host)
  const bytes = parsed.toByteArray()
  const address = Buffer.alloc(bytes.length === 4 ? 16 : 28)
  address.writeUInt16LE(bytes.length === 4 ? AF_INET : AF_INET6, 0)
  address.writeUInt16BE(port, 2)
  address.set(bytes, bytes.length === 4 ? 4 : 8)
  return address
}

function findSystemCalls(): SystemCalls | null {
  if (process.platform !== 'linux' || (process.arch !== 'x64' && process.arch !== 'arm64')) return null
  try {
    // An optional dependency: there are platforms without a build of it.
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
    const libc = koffi.load(null)
    return {
      socket: libc.func('int socket(int domain, int type, int protocol)'),
      setsockopt: libc.func('int setsockopt(int descriptor, int level, int name, const void *value, uint32_t length)'),
      bind: libc.func('int bind(int descriptor, const void *address, uint32_t length)'),
      close: libc.func('int close(int descriptor)'),
      errno: () => koffi.errno(),
    }
  } catch {
    return null
  }
}
