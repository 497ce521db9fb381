// @fastify/http-proxy as a plain reverse proxy: one process, its usual client (a pool of undici), no log.
import httpProxy from '@fastify/http-proxy'
import fastify from 'fastify'
import { addClient, keepAliveMs, poolSize, port, tls, upstreamUrl } from './front.mjs'

const app = fastify({ logger: false, keepAliveTimeout: keepAliveMs, ...(tls === null ? {} : { https: tls }) })
app.register(httpProxy, {
  upstream: upstreamUrl,
  undici: { connections: poolSize, pipelining: 1, keepAliveTimeout: keepAliveMs, keepAliveMaxTimeout: keepAliveMs },
  replyOptions: {
    // It sends the host of the upstream unless told otherwise.
    rewriteRequestHeaders: (request, headers) => {
      headers.host = request.headers.host
      addClient(headers, request.socket.remoteAddress)
      return headers
    },
  },
})
await app.listen({ port, host: '127.0.0.1', backlog: 4096 })
