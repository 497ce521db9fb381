/** A `tcp` listener on fake sockets, with a handler that keeps what it is asked and answers what it is told to. */
import { setImmediate as turn } from 'node:timers/promises'
import type { ClientResponse } from '../../src/dataplane/listener/binding.js'
import { shareAmongListeners, TcpApp, type TcpShared } from '../../src/dataplane/listener/tcp-app.js'
import type { TcpConnection } from '../../src/dataplane/listener/tcp-connection.js'
import type { RawSockets } from '../../src/dataplane/tcp/handle.js'
import { FakeTcp, fakeSockets } from './fake-natives.js'

export class Asked {
  body = ''
  isComplete = false
  isAborted = false

  constructor(
    readonly method: string,
    readonly target: string,
    readonly failure: string,
    readonly client: ClientResponse,
  ) {}

  /** How much of its body an aborted request got does not count. */
  get said(): string {
    return `${this.method} ${this.target} ${this.failure} ${this.isAborted ? 'aborted' : this.body}${this.isComplete ? '.' : ''}`
  }
}

export type Answer = (asked: Asked) => void

/** Answers at once. */
export const ok: Answer = ({ client, target }) => void client.writeStatus('200 OK').end(target)

export class FakeListener {
  readonly asked: Asked[] = []
  readonly app: TcpApp
  readonly shared: TcpShared
  answer: Answer

  constructor(answer: Answer = ok, shared?: TcpShared, maxHeaderBytes = 65_536) {
    this.answer = answer
    this.shared = shared ?? shareAmongListeners(fakeSockets())
    const limits = { maxHeaderBytes, maxHeaderCount: 48, maxTargetBytes: 16_384, maxConnections: 1000 }
    this.app = new TcpApp(this.shared, { ...limits, bodyTimeoutMs: 60_000, sendTimeoutMs: 60_000 })
    this.app.any('/*', (client, request) => {
      const query = request.getQuery()
      const target = query === '' ? request.getUrl() : `${request.getUrl()}?${query}`
      const asked = new Asked(request.getCaseSensitiveMethod(), target, request.refusal?.()?.code ?? '', client)
      this.asked.push(asked)
      client.onAborted(() => {
        asked.isAborted = true
      })
      this.answer(asked)
    })
  }

  get sockets(): RawSockets {
    return this.shared.sockets
  }

  /** A client that has connected. */
  connect(handle = new FakeTcp()): FakeTcp {
    this.app.accepted(handle)
    return handle
  }

  last(): Asked {
    const asked = this.asked.at(-1)
    if (asked === undefined) throw new Error('nothing was asked')
    return asked
  }
}

/** Reads the body of a request. */
export function readBody(asked: Asked, whenComplete: Answer = () => undefined): void {
  asked.client.onData((chunk, isLast) => {
    asked.body += Buffer.from(new Uint8Array(chunk)).toString('latin1')
    asked.isComplete = isLast
    if (isLast) whenComplete(asked)
  })
}

export function connectionOf(handle: FakeTcp): TcpConnection {
  return handle.reader as TcpConnection
}

/** Lets what was put off to a later turn of the loop run. */
export async function turns(count = 3): Promise<void> {
  for (let done = 0; done < count; done++) await turn()
}
