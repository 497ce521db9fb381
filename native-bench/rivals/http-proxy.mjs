// http-proxy as a plain reverse proxy: one process. With --no-agent it is what its documentation shows: a connection to the upstream per request.
import { Agent, createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import httpProxy from 'http-proxy'
import { addClient, hasAgent, keepAliveMs, poolSize, port, tls, upstreamUrl } from './front.mjs'

const agent = hasAgent ? { agent: new Agent({ keepAlive: true, maxFreeSockets: poolSize }) } : {}
const proxy = httpProxy.createProxyServer({ target: upstreamUrl, ...agent })
proxy.on('error', (error, _request, response) => {
  if ('writeHead' in response && !response.headersSent) response.writeHead(502)
  response.end(error.message)
})
function handle(request, response) {
  addClient(request.headers, request.socket.remoteAddress)
  proxy.web(request, response)
}
const server = tls === null ? createServer(handle) : createTlsServer(tls, handle)
server.keepAliveTimeout = keepAliveMs
server.listen(port, '127.0.0.1', 4096)
