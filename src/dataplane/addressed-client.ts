/**
 * The client of an exchange and its address, which is asked for when somebody first reads it: in the binding that is a system call and
 * an ArrayBuffer with memory of its own, more than a tenth of the whole cost of a refusal, and many refusals need no address.
 * Runs on workers.
 */
import type { ClientResponse } from './listener/binding.js'

/** Addresses as text: see `AddressBook`. */
export interface AddressTexts {
  text(address: ArrayBuffer): string
}

export class AddressedClient {
  client: ClientResponse | null = null
  /** Gives the text of the peer's address, which nobody has asked for yet; null = it is known. */
  addresses: AddressTexts | null = null
  private knownClient = ''
  private knownPeer = ''

  get clientAddress(): string {
    if (this.addresses !== null) this.readAddress()
    return this.knownClient
  }

  set clientAddress(address: string) {
    if (this.addresses !== null) this.readAddress()
    this.knownClient = address
  }

  get peerAddress(): string {
    if (this.addresses !== null) this.readAddress()
    return this.knownPeer
  }

  set peerAddress(address: string) {
    if (this.addresses !== null) this.readAddress()
    this.knownPeer = address
  }

  /**
   * Asks the binding for the address, unless it is known: a system call and some memory, a good tenth of what a refusal costs. Only
   * possible until the answer has been handed over or the client has gone; who may want it behind that has to ask before.
   */
  readAddress(): void {
    const { addresses, client } = this
    if (addresses === null) return
    this.addresses = null
    const address =
      client === null ? '' : client.peerAddress === undefined ? addresses.text(client.getRemoteAddress()) : client.peerAddress()
    this.knownPeer = address
    this.knownClient = address
  }

  /** The client cannot be asked any more: what is not known stays empty. */
  endAddress(): void {
    if (this.addresses === null) return
    this.addresses = null
    this.knownPeer = ''
    this.knownClient = ''
  }
}
