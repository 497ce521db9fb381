/** `Binding` on the TCP handles of Node: what a listener of `kind: tcp` runs on. */
import { type RawSockets, rawSockets } from '../tcp/handle.js'
import { canSharePorts } from '../tcp/shared-port.js'
import type { Binding } from './binding.js'
import type { NodeLimits } from './node-app.js'
import { shareAmongListeners, TcpApp } from './tcp-app.js'

/** Null = this machine, or this Node, has not what it takes: listeners run on uWebSockets.js. */
export function tcpBinding(limits: NodeLimits, sockets: RawSockets | null = rawSockets()): Binding | null {
  if (sockets === null || !canSharePorts()) return null
  const shared = shareAmongListeners(sockets)
  return {
    name: 'tcp',
    version: process.versions.node,
    features: { childApps: false, connectionEvents: false },
    createApp: (tls) => {
      if (tls !== null) throw new Error('a listener of kind tcp has no TLS')
      return new TcpApp(shared, limits)
    },
    closeListenSocket: (socket) => appOf(socket).stopListening(),
    localPort: (socket) => appOf(socket).port,
    forEachHeader: (request, callback) => request.forEachHeader?.(callback),
  }
}

function appOf(socket: object): TcpApp {
  if (socket instanceof TcpApp) return socket
  throw new Error('this listen socket belongs to another binding')
}
