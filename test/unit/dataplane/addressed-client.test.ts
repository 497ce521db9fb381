/** The client's address is asked for when somebody reads it, at most once, and never is it that of an earlier client. */
import { describe, expect, test } from 'vitest'
import { AddressBook } from '../../../src/dataplane/listener/client-address.js'
import { joinChains, linkChain, noChain } from '../../../src/dataplane/phases/chain.js'
import { type AnyPlugin, definePlugin, type Json, type PluginInstance, Type } from '../../../src/plugins/plugin.js'
import { linkKit } from '../../support/link-kit.js'
import { exchangeOf, RecordingClient } from './parts.js'

const book = new AddressBook()

class AskedClient extends RecordingClient {
  asked = 0

  constructor(private readonly address: readonly number[]) {
    super()
  }

  override getRemoteAddress(): ArrayBuffer {
    this.asked++
    // The binding refuses what is asked of an answer that is over.
    if (this.isEnded) throw new Error('the response is over')
    return Uint8Array.from(this.address).buffer
  }
}

function received(client: AskedClient, exchange = exchangeOf({}, client)) {
  exchange.begin(client)
  exchange.addresses = book
  return exchange
}

describe('the address of a client', () => {
  test('is asked for once, and only if somebody reads it', () => {
    const client = new AskedClient([192, 0, 2, 7])
    const exchange = received(client)
    expect(client.asked).toBe(0)
    expect([exchange.clientAddress, exchange.peerAddress, exchange.clientAddress]).toEqual(['192.0.2.7', '192.0.2.7', '192.0.2.7'])
    expect(client.asked).toBe(1)
  })

  test('of the peer stays when a plugin names another client first', () => {
    const exchange = received(new AskedClient([192, 0, 2, 7]))
    exchange.clientAddress = '203.0.113.9'
    expect([exchange.clientAddress, exchange.peerAddress]).toEqual(['203.0.113.9', '192.0.2.7'])
  })

  test('that nobody asked for in time is empty, not that of the request before on the same record', () => {
    const first = new AskedClient([192, 0, 2, 7])
    const exchange = received(first)
    expect(exchange.clientAddress).toBe('192.0.2.7')
    exchange.endAddress()
    expect(exchange.clientAddress).toBe('192.0.2.7')
    const second = new AskedClient([192, 0, 2, 8])
    received(second, exchange)
    second.end()
    exchange.endAddress()
    expect([exchange.clientAddress, exchange.peerAddress, second.asked]).toEqual(['', '', 0])
    const third = new AskedClient([192, 0, 2, 9])
    expect(received(third, exchange).clientAddress).toBe('192.0.2.9')
  })

  test('is empty for a client that has gone', () => {
    const exchange = received(new AskedClient([192, 0, 2, 7]))
    exchange.client = null
    expect(exchange.clientAddress).toBe('')
  })
})

describe('a chain', () => {
  function chainOf(instance: PluginInstance, filter: Json = null) {
    const plugin: AnyPlugin = definePlugin({
      name: 'one',
      priority: 1,
      description: 'For tests.',
      schema: Type.Object({}),
      prepare: () => ({}),
      link: () => instance,
    })
    const compiled = { name: 'one', priority: 1, prepared: {}, filter, errorResponse: null, owner: 'routes/1' }
    return linkChain([compiled], new Map([['one', plugin]]), linkKit())
  }
  const log = () => undefined

  test('needs the address behind the answer when a plugin or its filter may read it there', () => {
    expect(noChain.logsAddress).toBe(false)
    expect(chainOf({ access: () => undefined }).logsAddress).toBe(false)
    expect(chainOf({ log }).logsAddress).toBe(true)
    expect(chainOf({ log, logsNoAddress: true }).logsAddress).toBe(false)
    expect(chainOf({ log, logsNoAddress: true }, [['remote_addr', '==', '192.0.2.7']]).logsAddress).toBe(true)
    expect(joinChains(chainOf({ log, logsNoAddress: true }), chainOf({ log })).logsAddress).toBe(true)
  })
})
