// A uWebSockets.js handler that does nothing but refuse: the floor of any refusal.
import uws from 'uWebSockets.js'
import { port } from './front.mjs'

uws
  .App()
  .any('/*', (response) => {
    response.writeStatus('429 Too Many Requests').end('')
  })
  .listen('127.0.0.1', port, (socket) => {
    if (socket === false) {
      process.stderr.write(`cannot listen on port ${port}\n`)
      process.exit(1)
    }
  })
