/** Many clients at once against limits: what tests of exactness send and count. */
import { fieldOf, type RawConnection, textOf } from '../../src/doctor/raw-connection.js'
import type { StrictResponse } from '../../src/doctor/strict-response.js'
import type { Gateway } from './gateway.js'
import type { TestBed } from './test-bed.js'

export interface Answer {
  readonly status: number
  readonly body: string
  field(name: string): string | undefined
}

function answerOf(response: StrictResponse): Answer {
  return { status: response.status, body: textOf(response), field: (name) => fieldOf(response, name) }
}

export function requestText(target: string, headers: Readonly<Record<string, string>> = {}): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  return `GET ${target} HTTP/1.1\r\nHost: a.test\r\n${lines.join('')}\r\n`
}

/** One request on a connection of its own. */
export async function ask(bed: TestBed, gateway: Gateway, target: string, headers?: Readonly<Record<string, string>>): Promise<Answer> {
  const client = await bed.client({ port: gateway.port })
  return answerOf(await client.request(requestText(target, headers)))
}

/**
 * Statuses of `count` requests, sent by `clients` connections to each gateway, all at once. Each gateway is sent the same number of
 * them however fast it answers. Connections are open before the first request, so that all workers have some.
 */
export async function hammer(
  bed: TestBed,
  gateways: readonly Gateway[],
  target: string,
  count: number,
  { clients = 16, headers = {} }: { readonly clients?: number; readonly headers?: Readonly<Record<string, string>> } = {},
): Promise<Map<number, number>> {
  if (count % gateways.length !== 0) throw new Error(`${count} requests cannot be shared evenly by ${gateways.length} gateways`)
  const connections: { readonly connection: RawConnection; readonly share: { left: number } }[] = []
  for (const gateway of gateways) {
    const share = { left: count / gateways.length }
    for (let index = 0; index < clients; index++) connections.push({ connection: await bed.client({ port: gateway.port }), share })
  }
  const statuses = new Map<number, number>()
  await Promise.all(
    connections.map(async ({ connection, share }) => {
      while (share.left-- > 0) {
        const { status } = await connection.request(requestText(target, headers), 60_000)
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
      }
    }),
  )
  return statuses
}
