/** Nodes of an upstream: both notations of the file (map and list) to one compiled form. */
import { isIPv4, isIPv6 } from 'node:net'
import type { CompiledNode } from '../schema/compiled.js'
import type { UpstreamResource } from '../schema/upstream.js'

export interface NodeProblem {
  /** Below `nodes`. */
  readonly path: readonly (string | number)[]
  readonly message: string
  readonly expected: string
}

export interface ReadNodes {
  readonly nodes: CompiledNode[]
  readonly problems: NodeProblem[]
}

const hostForm = 'host:port, IPv4:port, [IPv6]:port or unix:/path'

/** Reads `nodes`; ports that are not given are those of the scheme. Problems come back instead of an exception, all of them. */
export function readNodes(value: UpstreamResource['nodes'], scheme: 'http' | 'https'): ReadNodes {
  const nodes: CompiledNode[] = []
  const problems: NodeProblem[] = []
  const fallbackPort = scheme === 'https' ? 443 : 80
  const add = (path: readonly (string | number)[], read: CompiledNode | string): void => {
    if (typeof read === 'string') problems.push({ path, message: read, expected: hostForm })
    else nodes.push(read)
  }
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) {
      const priority = item.priority ?? 0
      if (item.host.startsWith('unix:') && item.port !== undefined) {
        add([index, 'port'], 'a node on a Unix socket has no port')
      } else {
        const read = readNode(item.host, item.port ?? fallbackPort, item.weight, priority)
        const labels = labelsOf(item.metadata)
        add([index, 'host'], typeof read === 'string' || labels === null ? read : { ...read, labels })
      }
    }
  } else {
    for (const [key, weight] of Object.entries(value ?? {})) add([key], readMapNode(key, fallbackPort, weight))
  }
  return { nodes, problems }
}

/** Metadata that a subset can match: text, numbers and booleans, as text. Null = there is none. */
function labelsOf(metadata: Record<string, unknown> | undefined): Record<string, string> | null {
  const plain = Object.entries(metadata ?? {}).filter(([, value]) => ['string', 'number', 'boolean'].includes(typeof value))
  return plain.length === 0 ? null : Object.fromEntries(plain.map(([name, value]) => [name, String(value)]))
}

function readMapNode(key: string, fallbackPort: number, weight: number): CompiledNode | string {
  if (key.startsWith('unix:')) return readNode(key, 0, weight, 0)
  if (isIPv6(key)) return "IPv6 address must be enclosed with '[' and ']'"
  const split = /^(.*?)(?::(\d+))?$/s.exec(key)
  const port = split?.[2] === undefined ? fallbackPort : Number(split[2])
  return readNode(split?.[1] ?? '', port, weight, 0)
}

/** One node, or what is wrong with it. */
function readNode(host: string, port: number, weight: number, priority: number): CompiledNode | string {
  if (host.startsWith('unix:')) {
    const path = host.slice('unix:'.length)
    if (!path.startsWith('/') || path.includes('\0') || Buffer.byteLength(path) > 107)
      return 'the path of a Unix socket is not absolute or longer than 107 bytes'
    return { host: 'localhost', address: path, port: 0, weight, priority }
  }
  if (port < 1 || port > 65_535) return `expected port ${port} to be from 1 to 65535`
  if (isIPv6(host)) return "IPv6 address must be enclosed with '[' and ']'"
  const bare = /^\[(.*)\]$/.exec(host)?.[1]
  if (bare !== undefined) return isIPv6(bare) ? { host: bare, address: bare, port, weight, priority } : `"${host}" is not an IPv6 address`
  if (isIPv4(host)) return { host, address: host, port, weight, priority }
  if (/^[0-9.]+$/.test(host)) return `"${host}" is not an IPv4 address`
  if (!/^[0-9a-zA-Z_]([0-9a-zA-Z_.-]{0,253})$/.test(host) || host.includes('..')) return `"${host.slice(0, 80)}" is not a host name`
  return { host, address: '', port, weight, priority }
}
