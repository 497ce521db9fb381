import { connect, createServer } from 'node:tls'
import { expect, test } from 'vitest'
import { TestAuthority } from '../support/tls-certificates.js'

test('a certificate of the test authority is believed by those who trust it, for its names only', async () => {
  const authority = await TestAuthority.create()
  const pair = await authority.issue('gateway.test', '127.0.0.1')
  const server = createServer(pair, (socket) => socket.end('hello'))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const attempt = (servername: string, ca?: string): Promise<string> =>
    new Promise((resolve) => {
      const socket = connect({ port, host: '127.0.0.1', servername, ...(ca === undefined ? {} : { ca }) })
      socket.on('data', (bytes) => resolve(bytes.toString()))
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    })
  try {
    expect(await attempt('gateway.test', authority.cert)).toBe('hello')
    expect(await attempt('other.test', authority.cert)).toBe('ERR_TLS_CERT_ALTNAME_INVALID')
    expect(await attempt('gateway.test')).toBe('UNABLE_TO_VERIFY_LEAF_SIGNATURE')
  } finally {
    server.close()
  }
})
