/**
 * The upstream of a self-started bench, run as a process of its own so that it does not share a thread with the load generator; with a number
 * as its argument, as so many processes that share a port. Prints its port as one line on stdout and ends with its stdin.
 */
import cluster from 'node:cluster'
import { createServer } from 'node:http'

const answer = JSON.stringify({
  id: 1,
  name: 'widget',
  price: 12.5,
  tags: ['a', 'b', 'c'],
  description: 'a small document, about as large as many answers of an interface are',
})
const head = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(answer) }

function serve(onListening: (port: number) => void): void {
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
    onListening(address.port)
  })
}

/** Prints the port when all processes listen. Port 0 is the same one for all of them: the primary opens it once. */
function share(processes: number): void {
  let listening = 0
  cluster.on('listening', (_worker, { port }) => {
    listening++
    if (listening === processes) process.stdout.write(`${port}\n`)
  })
  for (let count = 0; count < processes; count++) cluster.fork()
}

const processes = Number(process.argv[2] ?? 1)
if (cluster.isWorker) serve(() => {})
else {
  if (processes > 1) share(processes)
  else serve((port) => process.stdout.write(`${port}\n`))
  // The parent holds the other end: when it is gone, however it went, nobody needs this process. Its workers end with it.
  process.stdin.resume()
  process.stdin.on('end', () => process.exit(0))
}
