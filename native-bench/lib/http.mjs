/** One request at a time, for checks. */
import { request } from 'node:http'
import { request as tlsRequest } from 'node:https'
import { connect } from 'node:net'

const timeoutMs = 10_000

/** @returns status, headers (lower-case names) and body; with `isTls`, also the protocol that was agreed on. */
export function fetchOnce(port, { method = 'GET', path, headers = {}, upload = '', isTls = false }) {
  return new Promise((resolve, reject) => {
    const fields = { host: 'bench.example', ...(upload === '' ? {} : { 'content-length': upload.length }), ...headers }
    const target = { host: '127.0.0.1', port, method, path, headers: fields, agent: false, timeout: timeoutMs }
    const start = isTls ? (receive) => tlsRequest({ ...target, rejectUnauthorized: false }, receive) : (receive) => request(target, receive)
    const sent = start((response) => {
      const chunks = []
      const protocol = isTls ? response.socket.getProtocol() : ''
      response.on('data', (chunk) => chunks.push(chunk))
      response.on('end', () =>
        resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString(), protocol }),
      )
      response.on('error', reject)
    })
    sent.once('timeout', () => sent.destroy(new Error(`no answer to ${method} ${path} within ${timeoutMs / 1000} s`)))
    sent.once('error', reject)
    sent.end(upload)
  })
}

/** Sends a GET for each of `paths` in one write, and returns the bodies in the order of their answers, which have to name their length. */
export function fetchTogether(port, paths) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.write(paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: bench.example\r\n\r\n`).join(''))
    })
    let received = ''
    socket.setEncoding('latin1')
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`no ${paths.length} answers within ${timeoutMs / 1000} s`)))
    socket.on('data', (chunk) => {
      received += chunk
      const bodies = bodiesOf(received)
      if (bodies === null) socket.destroy(new Error(`an answer names no length: ${JSON.stringify(received.slice(0, 200))}`))
      if (bodies === null || bodies.length < paths.length) return
      resolve(bodies)
      socket.destroy()
    })
    socket.once('error', reject)
    socket.once('close', () => reject(new Error(`closed behind ${bodiesOf(received)?.length} of ${paths.length} answers`)))
  })
}

/** The bodies of all answers that are complete; null when one names no length. */
function bodiesOf(text) {
  const bodies = []
  for (let start = 0; ; ) {
    const end = text.indexOf('\r\n\r\n', start)
    if (end < 0) return bodies
    const length = /^content-length: *(\d+)\s*$/im.exec(text.slice(start, end))?.[1]
    if (length === undefined) return null
    start = end + 4 + Number(length)
    if (start > text.length) return bodies
    bodies.push(text.slice(end + 4, start))
  }
}
