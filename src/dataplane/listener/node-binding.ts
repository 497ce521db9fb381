/** `Binding` on node:http and node:http2: what a listener of `kind: node` runs on. */
import type { Binding } from './binding.js'
import { NodeApp, type NodeLimits } from './node-app.js'

export interface NodeBindingOptions {
  readonly limits: NodeLimits
  /** HTTP/2: by ALPN on TLS listeners, by its preface on plain ones. */
  readonly http2: boolean
}

export function nodeBinding(options: NodeBindingOptions): Binding {
  return {
    name: 'node',
    version: process.versions.node,
    features: { childApps: false, connectionEvents: false },
    createApp: (tls) => new NodeApp({ ...options, tls }),
    closeListenSocket: (socket) => appOf(socket).stopListening(),
    localPort: (socket) => appOf(socket).port,
    forEachHeader: (request, callback) => request.forEachHeader?.(callback),
  }
}

function appOf(socket: object): NodeApp {
  if (socket instanceof NodeApp) return socket
  throw new Error('this listen socket belongs to another binding')
}
