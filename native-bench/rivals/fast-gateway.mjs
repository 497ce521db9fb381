// fast-gateway as a plain reverse proxy: one process, its usual client (the agent of Node).
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import gateway from 'fast-gateway'
import { addClient, keepAliveMs, poolSize, port, tls, upstreamUrl } from './front.mjs'

const server = tls === null ? createServer() : createTlsServer(tls)
server.keepAliveTimeout = keepAliveMs
gateway({
  restana: { server },
  routes: [
    {
      prefix: '',
      target: upstreamUrl,
      proxyConfig: { maxSockets: poolSize, maxFreeSockets: poolSize },
      hooks: {
        // It sends the host of the upstream unless told otherwise.
        rewriteRequestHeaders: (request, headers) => {
          headers.host = request.headers.host
          addClient(headers, request.socket.remoteAddress)
          return headers
        },
      },
    },
  ],
})
server.listen(port, '127.0.0.1', 4096)
