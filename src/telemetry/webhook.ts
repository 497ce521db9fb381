/**
 * Events to a URL of the operator: one POST of a JSON object each, in order. Runs in the primary. Nothing waits for it: the queue is
 * bounded (the oldest go), every try has a deadline, and an event that is not taken after some tries is given up and counted.
 */
import type { Clock } from '../base/clock.js'
import type { WebhookConfig } from '../schema/process.js'

const QUEUE_MAX = 256
const TRIES = 3
const PAUSE_MS = 500

export interface EventWebhookOptions {
  readonly config: WebhookConfig
  readonly clock: Clock
  /** Told when events begin to be lost. Texts hold no secrets. */
  readonly log: (message: string) => void
}

export class EventWebhook {
  private readonly queue: string[] = []
  private readonly ending = new AbortController()
  private isSending = false
  private lostCount = 0
  private isTroubled = false

  constructor(private readonly options: EventWebhookOptions) {}

  /** Events that were given up. */
  get lost(): number {
    return this.lostCount
  }

  push(event: object): void {
    if (this.ending.signal.aborted) return
    this.queue.push(JSON.stringify(event))
    if (this.queue.length > QUEUE_MAX) {
      this.queue.shift()
      this.lose('the queue is full')
    }
    if (!this.isSending) void this.send()
  }

  close(): void {
    this.ending.abort()
    this.queue.length = 0
  }

  private async send(): Promise<void> {
    this.isSending = true
    for (let event = this.queue.shift(); event !== undefined; event = this.queue.shift()) await this.deliver(event)
    this.isSending = false
  }

  private async deliver(event: string): Promise<void> {
    let reason = ''
    for (let attempt = 0; attempt < TRIES && !this.ending.signal.aborted; attempt++) {
      if (attempt > 0) await new Promise<void>((resolve) => this.options.clock.after(PAUSE_MS * attempt, resolve))
      reason = await this.post(event)
      if (reason === '') {
        this.isTroubled = false
        return
      }
    }
    if (!this.ending.signal.aborted) this.lose(reason)
  }

  /** Why it was not taken, or empty. */
  private async post(body: string): Promise<string> {
    const { url, timeoutMs, headers } = this.options.config
    try {
      const response = await fetch(url, {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json' },
        body,
        redirect: 'error',
        signal: AbortSignal.any([this.ending.signal, AbortSignal.timeout(timeoutMs)]),
      })
      await response.body?.cancel()
      return response.ok ? '' : `it answered ${response.status}`
    } catch (error) {
      const isTimeout = error instanceof Error && error.name === 'TimeoutError'
      return isTimeout ? `no answer in ${timeoutMs} ms` : 'it could not be reached'
    }
  }

  private lose(reason: string): void {
    this.lostCount++
    if (!this.isTroubled) this.options.log(`events are not taken by the webhook: ${reason}`)
    this.isTroubled = true
  }
}
