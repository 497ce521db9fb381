/**
 * The upstream of a self-started bench, run as a process of its own so that it does not share a thread with the load generator.
 * Prints its port as one line on stdout and ends with its stdin.
 */
import { createServer } from 'node:http'

const answer = JSON.stringify({
  id: 1,
  name: 'widget',
  price: 12.5,
  tags: ['a', 'b', 'c'],
  description: 'a small document, about as large as many answers of an interface are',
})
const head = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(answer) }

const server = createServer((request, response) => {
  request.resume()
  request.on('end', () => {
    response.writeHead(200, head)
    response.end(answer)
  })
})
server.keepAliveTimeout = 120_000
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the bench upstream listens on no TCP port')
  process.stdout.write(`${address.port}\n`)
})
// The parent holds the other end: when it is gone, however it went, nobody needs this process.
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
