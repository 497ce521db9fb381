/** A service over HTTP that answers what the test says, and keeps what it was asked. */
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Question {
  readonly method: string
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

export interface DecisionServer {
  readonly origin: string
  readonly questions: Question[]
  answer: (question: Question, response: ServerResponse) => void
  close(): Promise<void>
}

export async function decisionServer(): Promise<DecisionServer> {
  const questions: Question[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { method = '', url = '', headers } = request
      const question = { method, url, headers, body: Buffer.concat(chunks).toString('utf8') }
      questions.push(question)
      made.answer(question, response)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const made: DecisionServer = {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    questions,
    answer: (_question, response) => response.end(),
    close() {
      server.closeAllConnections()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
  return made
}
