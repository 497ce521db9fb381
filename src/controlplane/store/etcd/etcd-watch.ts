/** What changes below a prefix of etcd, from one revision on, over as many streams as it takes. */
import type { Clock } from '../../../base/clock.js'
import { StoreAway } from '../store-backend.js'
import { bytesOf, type EtcdClient, type Message, messageIn, messagesIn, numberIn, textIn } from './etcd-client.js'
import type { EtcdRecord } from './etcd-layout.js'

/** Between the end of a stream and the next one. */
const AGAIN_MS = 250
/** Events that wait to be read; with more of them everything is read anew. */
const WAITING_MAX = 100_000

export interface EtcdEvent {
  readonly key: string
  readonly revision: number
  /** Null = deleted. */
  readonly record: EtcdRecord | null
}

export class EtcdWatch {
  /** In their order, not read yet. */
  private waiting: EtcdEvent[] = []
  /** Events that were missed: everything must be read anew. */
  private isTorn = false
  private next: number
  private readonly ending = new AbortController()
  private cancelAgain: () => void = () => {}

  /** Begins at once. `heard` is called when there is something to take. */
  constructor(
    private readonly client: EtcdClient,
    private readonly range: { readonly key: string; readonly rangeEnd: string },
    from: number,
    private readonly clock: Clock,
    private readonly heard: () => void,
  ) {
    this.next = from
    void this.run()
  }

  /** What has happened since the last call; null = some of it is not known any more. */
  take(): EtcdEvent[] | null {
    const events = this.waiting
    this.waiting = []
    return this.isTorn ? null : events
  }

  close(): void {
    this.ending.abort()
    this.cancelAgain()
  }

  private async run(): Promise<void> {
    const create = { key: bytesOf(this.range.key), range_end: bytesOf(this.range.rangeEnd), start_revision: String(this.next) }
    try {
      for await (const message of this.client.stream('watch', { create_request: create }, this.ending.signal)) {
        if (!this.receive(message)) break
      }
    } catch (error) {
      if (!(error instanceof StoreAway)) this.tear()
    }
    if (this.ending.signal.aborted || this.isTorn) return
    this.cancelAgain = this.clock.after(AGAIN_MS, () => void this.run())
  }

  /** False: the stream is over. */
  private receive(message: Message): boolean {
    if (message['canceled'] === true) {
      // Without a compaction it is a matter of this stream alone.
      if (numberIn(message['compact_revision']) > 0) this.tear()
      return false
    }
    for (const event of messagesIn(message['events'])) {
      const found = eventIn(event)
      this.next = Math.max(this.next, found.revision + 1)
      this.waiting.push(found)
    }
    if (this.waiting.length > WAITING_MAX) this.tear()
    if (this.waiting.length > 0) this.heard()
    return !this.isTorn
  }

  private tear(): void {
    this.isTorn = true
    this.waiting = []
    this.heard()
  }
}

function eventIn(event: Message): EtcdEvent {
  const record = recordIn(messageIn(event['kv']))
  return { key: record.key, revision: record.modRevision, record: event['type'] === 'DELETE' ? null : record }
}

export function recordIn(kv: Message): EtcdRecord {
  return {
    key: textIn(kv['key']),
    value: textIn(kv['value']),
    createRevision: numberIn(kv['create_revision']),
    modRevision: numberIn(kv['mod_revision']),
  }
}
