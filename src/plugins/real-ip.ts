/**
 * real-ip: takes the address of the client from a header or query parameter that a trusted proxy has set.
 *
 * Runs on workers, rewrite phase, before all other plugins; sets `clientAddress` and `clientPort` (0 when the source has none).
 * State: none. Failure: when the TCP peer is not trusted nothing happens; when the value is missing or no address, a warning is
 * logged and the address stays as it is. Never refuses.
 */
import { isIP, SocketAddress } from 'node:net'
import {
  addressProblem,
  definePlugin,
  type Exchange,
  itemProblems,
  type LinkKit,
  type PluginInstance,
  type PluginProblem,
  type Static,
  Type,
} from './plugin.js'

const schema = Type.Object({
  source: Type.String({
    minLength: 1,
    description:
      'Variable that holds the address: `http_x_forwarded_for`, `http_x_real_ip` or any other `http_<header>` or `arg_<parameter>`.',
  }),
  trusted_addresses: Type.Optional(
    Type.Array(Type.String({ minLength: 1 }), {
      minItems: 1,
      description: 'Addresses and CIDR blocks of the proxies that are believed. Unset: every peer is believed.',
    }),
  ),
  recursive: Type.Boolean({
    default: false,
    description: 'With `http_x_forwarded_for` and `trusted_addresses`: take the last address that is not trusted, instead of the last one.',
  }),
})
type Conf = Static<typeof schema>

/** An address as a proxy wrote it, with its port or 0. */
interface Endpoint {
  readonly address: string
  readonly port: number
}

type TrustedSet = ReturnType<LinkKit['addressSet']>

const FORWARDED_FOR = 'http_x_forwarded_for'
/** A client may write anything into the header: a log line shows so many characters of it. */
const LOGGED_CHARS = 64

export const realIp = definePlugin<Conf, Conf>({
  name: 'real-ip',
  priority: 23000,
  description: 'Takes the client address from what a trusted proxy says.',
  schema,
  check,
  prepare: (conf) => conf,
  link,
})

function check(conf: Conf): PluginProblem[] {
  const problems = itemProblems('trusted_addresses', conf.trusted_addresses, addressProblem)
  if (conf.source.startsWith('proxy_protocol_')) {
    problems.push({
      path: 'source',
      message: `source "${conf.source}" is not supported by this listener: it does not read the PROXY protocol`,
    })
  } else if (!/^(?:http|arg)_.+$/.test(conf.source)) {
    problems.push({ path: 'source', message: `source "${conf.source}" is not supported; expected http_<header> or arg_<parameter>` })
  }
  return problems
}

function link(conf: Conf, kit: LinkKit): PluginInstance {
  const trusted = conf.trusted_addresses === undefined ? null : kit.addressSet(conf.trusted_addresses)
  const walkThrough = conf.recursive ? trusted : null
  const named = kit.variable(conf.source)
  const isForwardedFor = conf.source.toLowerCase() === FORWARDED_FOR
  return {
    rewrite(exchange: Exchange): void {
      if (trusted !== null && !trusted.has(exchange.peerAddress)) return
      const value = isForwardedFor ? forwardedFor(exchange) : named(exchange)
      if (value === undefined || value.trim() === '') {
        kit.log('warn', `real-ip: missing real address in ${conf.source}`)
        return
      }
      const client = isForwardedFor ? lastHop(value, walkThrough) : parseEndpoint(value)
      if (client === null) {
        kit.log('warn', `real-ip: bad address in ${conf.source}: ${JSON.stringify(value.slice(0, LOGGED_CHARS))}`)
        return
      }
      exchange.clientAddress = client.address
      exchange.clientPort = client.port
    },
  }
}

/** Several lines of the field are one list, in order of arrival. */
function forwardedFor(exchange: Exchange): string | undefined {
  const lines = exchange.requestHeaders.getAll('x-forwarded-for')
  return lines.length < 2 ? lines[0] : lines.join(',')
}

/**
 * The last element of the list; with `walkThrough`, trusted ones are passed over from right to left, and the leftmost is taken when
 * all are trusted. Null when the element to be believed, or one passed on the way to it, is no address.
 */
function lastHop(list: string, walkThrough: TrustedSet | null): Endpoint | null {
  let end = list.length
  for (;;) {
    const comma = list.lastIndexOf(',', end - 1)
    const hop = end === 0 ? null : parseEndpoint(list.slice(comma + 1, end))
    if (hop === null || walkThrough === null || comma < 0 || !walkThrough.has(hop.address)) return hop
    end = comma
  }
}

/** Reads `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]`, `[::1]:80`; IPv6 in its shortest form, IPv4 inside IPv6 as IPv4. Null for all else. */
function parseEndpoint(text: string): Endpoint | null {
  const trimmed = text.trim()
  const bare = canonicalAddress(trimmed)
  if (bare !== null) return { address: bare, port: 0 }
  const parts = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(trimmed)
  if (parts === null) return null
  const [, bracketed, plain, digits] = parts
  if (bracketed !== undefined && isIP(bracketed) !== 6) return null
  const address = canonicalAddress(bracketed ?? plain ?? '')
  if (address === null) return null
  if (digits === undefined) return { address, port: 0 }
  const port = Number(digits)
  return port >= 1 && port <= 65535 ? { address, port } : null
}

/** One spelling per address, so that limits and logs keyed by it cannot be split. Zones (`%eth0`) mean nothing here: refused. */
function canonicalAddress(text: string): string | null {
  const version = text.includes('%') ? 0 : isIP(text)
  if (version === 0) return null
  if (version === 4) return text
  const { address } = new SocketAddress({ address: text, family: 'ipv6' })
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(address)?.[1] ?? address
}
