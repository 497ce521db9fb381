/**
 * A build of uWebSockets.js that offers child applications, for `--accept primary`: the official names over the build that is
 * installed. An app that listens is a plain TCP server that passes each connection on to a child in turn, byte by byte; a child is a
 * real app on a port of its own, and that port is its descriptor. As with the real thing, where descriptors are raw pointers, handing
 * a connection to a child that is gone ends the process, and so does accepting without children.
 */
const net = require('node:net')
const uws = require('uWebSockets.js')

const EXCLUSIVE = 1

class FakeApp {
  #real
  #server = null
  #connections = new Set()
  #children = []
  #turn = 0
  #ownSocket = null

  constructor(real) {
    this.#real = real
  }

  any(pattern, handler) {
    this.#real.any(pattern, handler)
    return this
  }
  addServerName(hostname, options) {
    this.#real.addServerName(hostname, options)
    return this
  }
  domain(hostname) {
    this.#real.domain(hostname)
    return this
  }

  listen(host, port, _options, callback) {
    const server = net.createServer({ pauseOnConnect: true }, (client) => this.#handOver(client))
    server.once('error', () => callback(false))
    server.listen({ host, port, exclusive: true }, () => callback(server))
    this.#server = server
    return this
  }

  getDescriptor() {
    if (this.#ownSocket === null) {
      this.#real.listen('127.0.0.1', 0, EXCLUSIVE, (socket) => {
        this.#ownSocket = socket
      })
    }
    return uws.getSocketPort(this.#ownSocket)
  }
  addChildAppDescriptor(descriptor) {
    this.#children.push(descriptor)
    return this
  }
  removeChildAppDescriptor(descriptor) {
    this.#children = this.#children.filter((child) => child !== descriptor)
    this.#turn = 0
    return this
  }

  close() {
    this.#server?.close()
    for (const connection of this.#connections) connection.destroy()
    if (this.#ownSocket !== null) uws.closeSocket(this.#ownSocket)
    this.#ownSocket = null
    this.#real.close()
    return this
  }

  #handOver(client) {
    if (this.#children.length === 0) die('accepted a connection without children')
    const port = this.#children[this.#turn++ % this.#children.length]
    const child = net.connect(port, '127.0.0.1')
    this.#connections.add(client).add(child)
    child.once('error', (error) => {
      if (error.code === 'ECONNREFUSED') die('handed a connection to a child that is gone')
      client.destroy()
    })
    client.once('error', () => child.destroy())
    for (const socket of [client, child]) socket.once('close', () => this.#connections.delete(socket))
    client.once('close', () => child.destroy())
    child.once('close', () => client.destroy())
    client.pipe(child).pipe(client)
  }
}

function die(what) {
  process.stderr.write(`fake-child-apps: ${what}\n`, () => process.abort())
}

module.exports = {
  App: () => new FakeApp(uws.App()),
  SSLApp: (options) => new FakeApp(uws.SSLApp(options)),
  us_listen_socket_close: (server) => server.close(),
  us_socket_local_port: (server) => server.address().port,
}
