/**
 * The corpus of upstream answers: text files with `\r`, `\n`, `\t`, `\xHH` and `\\` escapes whose line ends mean nothing. Comments in
 * front say why an answer is kept and what must become of it: see `outcomeOf`.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { UpstreamConnection } from '../../src/dataplane/upstream/connection.js'
import { NodePool } from '../../src/dataplane/upstream/pool.js'
import { exchangeOf, nodeOf, silentTally } from '../unit/dataplane/parts.js'

export interface CorpusEntry {
  readonly name: string
  readonly expected: string
  readonly bytes: Buffer
}

export function responseCorpus(): CorpusEntry[] {
  const folder = new URL('corpus/responses/', import.meta.url)
  return readdirSync(folder)
    .sort()
    .map((name) => {
      const lines = readFileSync(new URL(name, folder), 'latin1').split('\n')
      const expected = lines.find((line) => line.startsWith('# expect: '))?.slice('# expect: '.length)
      if (expected === undefined) throw new Error(`${name} does not say what to expect`)
      const text = lines.filter((line) => !line.startsWith('# ')).join('')
      return { name, expected, bytes: Buffer.from(unescapeText(text), 'latin1') }
    })
}

function unescapeText(text: string): string {
  const known: { readonly [letter: string]: string } = { r: '\r', n: '\n', t: '\t', '\\': '\\' }
  return text.replace(/\\(?:x([0-9a-f]{2})|(.))/g, (whole, hex?: string, letter = '') => {
    if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex, 16))
    const meant = known[letter]
    if (meant === undefined) throw new Error(`unknown escape ${whole}`)
    return meant
  })
}

export interface Outcome {
  /**
   * `<status> <body bytes> kept|closed` = complete, and what became of the connection; `<status> cut` = failed behind the head;
   * `<status> waiting` or `waiting` = more must come; `refused` = nothing of it was handed on.
   */
  readonly summary: string
  readonly block: string
  readonly body: string
}

/** Feeds an answer to one GET through a real connection, in these pieces. A pool that is shared remembers heads. */
export function outcomeOf(pieces: readonly Buffer[], shared: NodePool | null = null): Outcome {
  let status = ''
  let block = ''
  let body = ''
  let isDone = false
  let failed = ''
  const record = (bytes: Buffer, start: number, end: number) => {
    if (isDone) throw new Error('a body went on behind its end')
    body += bytes.toString('latin1', start, end)
  }
  const takeHead = (head: { readonly status: number; readonly block: Uint8Array }) => {
    if (status !== '') throw new Error('one request was answered twice')
    status = `${head.status}`
    block = Buffer.from(head.block).toString('latin1')
  }
  const pool = new NodePool(
    {
      node: nodeOf(),
      tls: null,
      keepalive: { size: 1, idleTimeoutMs: 1000, requests: 1000, pipelining: 1 },
      maxResponseHeaderBytes: 1024,
      tally: silentTally(),
    },
    shared?.readBuffer ?? Buffer.alloc(65536),
    {
      connected: () => {},
      whole: (_, head, bytes, start, end) => {
        takeHead(head)
        record(bytes, start, end)
        isDone = true
      },
      head: (_, head) => takeHead(head),
      body: (_, bytes, start, end, isLast) => {
        record(bytes, start, end)
        isDone = isLast
      },
      failed: (_exchange, _connection, failure) => {
        failed = failure.code
      },
      drained: () => {},
      turnEnded: () => {},
    },
  )
  if (shared !== null) pool.memo = shared.memo
  const connection = new UpstreamConnection(pool)
  connection.send(exchangeOf(), 'GET / HTTP/1.1\r\nhost: a\r\n\r\n', false, false)
  connection.onConnected()
  for (const piece of pieces) {
    piece.copy(pool.readBuffer)
    connection.onBytes(pool.readBuffer, piece.length)
  }
  if (shared !== null) shared.memo = pool.memo
  if (pool.idleCount > 0 && connection.isClosed) throw new Error('a closed connection rests in the pool')
  const state = isDone ? `${body.length} ${connection.isClosed ? 'closed' : 'kept'}` : failed !== '' ? 'cut' : 'waiting'
  const summary = status !== '' ? `${status} ${state}` : failed !== '' ? 'refused' : 'waiting'
  // How much of a body came before its fault depends on the pieces.
  return { summary, block, body: state === 'cut' ? '' : body }
}
