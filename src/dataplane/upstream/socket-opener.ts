/** Opens the sockets of one pool: raw where that is possible, else streams (TLS, addresses that are no IP addresses, other Nodes). */
import { connect as connectTcp, isIP } from 'node:net'
import { connect as connectTls, createSecureContext, type SecureContext } from 'node:tls'
import type { CompiledNode, CompiledUpstreamTls } from '../../schema/compiled.js'
import type { RawSockets } from '../tcp/handle.js'
import { RawSocket } from './raw-socket.js'
import { StreamSocket } from './stream-socket.js'
import type { SocketEvents, UpstreamSocket } from './upstream-socket.js'

export class SocketOpener {
  private readonly isPath: boolean
  private readonly isAddress: boolean
  private secureContext: SecureContext | null = null
  /** Lets later connections resume the TLS session. */
  private tlsSession: Buffer | null = null

  constructor(
    private readonly node: CompiledNode,
    private readonly tls: CompiledUpstreamTls | null,
    private readonly readBuffer: Buffer,
    private readonly raw: RawSockets | null,
  ) {
    this.isPath = node.address.startsWith('/')
    this.isAddress = isIP(node.address) !== 0
  }

  /** A socket that is connecting. */
  open(events: SocketEvents): UpstreamSocket {
    const { node, tls, raw, readBuffer } = this
    if (tls !== null) return this.openTls(tls, events)
    if (raw !== null && this.isAddress) return RawSocket.connect(raw, node.address, node.port, readBuffer, events)
    if (raw !== null && this.isPath) return RawSocket.connectPath(raw, node.address, readBuffer, events)
    const socket = connectTcp({
      ...this.where,
      noDelay: true,
      onread: { buffer: readBuffer, callback: (length, buffer) => events.onBytes(buffer as Buffer, length) },
    })
    return new StreamSocket(socket, false, events)
  }

  private get where(): { readonly path: string } | { readonly host: string; readonly port: number } {
    const { address, port } = this.node
    return this.isPath ? { path: address } : { host: address, port }
  }

  private openTls(tls: CompiledUpstreamTls, events: SocketEvents): UpstreamSocket {
    this.secureContext ??= createSecureContext({
      ...(tls.ca === '' ? {} : { ca: tls.ca }),
      ...(tls.clientCert === '' ? {} : { cert: tls.clientCert, key: tls.clientKey }),
    })
    const serverName = tls.serverName === '' ? this.node.host : tls.serverName
    const isName = !/^[\d.]+$|:/.test(serverName)
    const socket = connectTls({
      ...this.where,
      secureContext: this.secureContext,
      rejectUnauthorized: tls.verify,
      ...(isName ? { servername: serverName } : {}),
      ...(this.tlsSession === null ? {} : { session: this.tlsSession }),
      ALPNProtocols: ['http/1.1'],
    })
    socket.setNoDelay(true)
    socket.on('session', (session) => {
      this.tlsSession = session
    })
    socket.on('data', (chunk: Buffer) => events.onBytes(chunk, chunk.length))
    return new StreamSocket(socket, true, events)
  }
}
