// http-proxy as a plain reverse proxy: one process. Usage: node http-proxy.mjs PORT UPSTREAM_PORT keep-alive|default
// `default` is what its documentation shows: no agent, so a connection to the upstream per request.
import { Agent, createServer } from 'node:http'
import httpProxy from 'http-proxy'

const [port, upstreamPort] = process.argv.slice(2).map(Number)
const agent = process.argv[4] === 'default' ? undefined : new Agent({ keepAlive: true, maxFreeSockets: 320 })
const proxy = httpProxy.createProxyServer({ target: `http://127.0.0.1:${upstreamPort}`, ...(agent === undefined ? {} : { agent }) })
proxy.on('error', (error, _request, response) => {
  if ('writeHead' in response && !response.headersSent) response.writeHead(502)
  response.end(error.message)
})
const server = createServer((request, response) => {
  const address = request.socket.remoteAddress
  const before = request.headers['x-forwarded-for']
  request.headers['x-forwarded-for'] = before === undefined ? address : `${before}, ${address}`
  request.headers['x-real-ip'] = address
  proxy.web(request, response)
})
server.keepAliveTimeout = 120_000
server.listen(port, '127.0.0.1', 4096)
