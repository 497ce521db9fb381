/** Clients that send one request after another on keep-alive connections until told to stop, and remember what went wrong. */
import { RawConnection, textOf } from '../../src/doctor/raw-connection.js'

export interface LoadOptions {
  readonly port: number
  readonly clients: number
  /** What a right answer has as its body. */
  readonly expectBody: (body: string) => boolean
  readonly target?: string
}

export class ConstantLoad {
  answered = 0
  readonly failures: string[] = []
  private running = true
  private readonly done: Promise<void>[]

  constructor(private readonly options: LoadOptions) {
    this.done = Array.from({ length: options.clients }, (_, index) => this.client(index))
  }

  /** Lets every client finish the request that it is at. */
  async stop(): Promise<void> {
    this.running = false
    await Promise.all(this.done)
  }

  /** A client whose connection ended between two requests takes a new one: only a request that was sent can fail. */
  private async client(index: number): Promise<void> {
    const { port, target = '/load' } = this.options
    let connection: RawConnection | null = null
    for (let number = 0; this.running; number++) {
      const name = `client ${index}, request ${number}`
      try {
        if (connection === null || connection.ended || connection.closed) connection = await RawConnection.open({ port })
        const response = await connection.request(`GET ${target} HTTP/1.1\r\nHost: load.test\r\n\r\n`, 60_000)
        const body = textOf(response)
        if (response.status !== 200 || !this.options.expectBody(body))
          this.failures.push(`${name}: ${response.status} ${body.slice(0, 80)}`)
        else this.answered++
      } catch (error) {
        this.failures.push(`${name}: ${String(error)}`)
        connection?.destroy()
        connection = null
      }
    }
    connection?.destroy()
  }
}
