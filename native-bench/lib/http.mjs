/** One request at a time, for checks. */
import { request } from 'node:http'
import { request as tlsRequest } from 'node:https'

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
