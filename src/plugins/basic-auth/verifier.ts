/**
 * Verification of hashed passwords in one worker: few at a time, off the event loop, and remembered for a short time.
 *
 * A flood of wrong passwords costs at most about half of one core per worker, because a failure is followed by a pause as long as it took.
 * It does not delay those who signed in lately (what was right is remembered for a minute), and hardly those who sign in: what waits is
 * bounded per user and per client address, and nobody waits longer than five seconds.
 */
import { createHmac, randomBytes } from 'node:crypto'
import { type StoredPassword, verifyHashed } from './stored-password.js'

export type Verdict = 'right' | 'wrong' | 'busy'

/** Who asks, and the moments of the asking. */
export interface Attempt {
  readonly username: string
  readonly address: string
  /** Wall clock, milliseconds. */
  readonly nowMs: number
  /** Milliseconds since any fixed moment. */
  readonly elapsedMs: () => number
}

type Hashed = Exclude<StoredPassword, { kind: 'plain' }>

interface Waiting {
  readonly attempt: Attempt
  readonly sinceMs: number
  readonly run: () => void
  readonly drop: () => void
}

const RIGHT_TTL_MS = 60_000
const RIGHT_MAX = 10_000
/** For clients that repeat one wrong password. */
const WRONG_TTL_MS = 1_000
const WRONG_MAX = 1_000
const WAITING_MAX = 64
const WAITING_PER_USER_MAX = 2
const WAITING_PER_ADDRESS_MAX = 8
const WAIT_MS_MAX = 5_000

export class PasswordVerifier {
  /** What was found out, by a keyed digest: neither a password nor anything to guess it from is kept. */
  private readonly right = new Map<string, number>()
  private readonly wrong = new Map<string, number>()
  private readonly underWay = new Map<string, Promise<Verdict>>()
  private readonly digestKey = randomBytes(32)
  private readonly waiting: Waiting[] = []
  private isRunning = false
  /** How long the last verification took: what an unknown user name must not be quicker than. 0 = there was none. */
  lastMs = 0

  constructor(
    private readonly delay: (ms: number) => Promise<void>,
    private readonly verify: (stored: Hashed, password: string) => Promise<boolean> = verifyHashed,
  ) {}

  /** At once when it is known already. Rejects when the password cannot be verified at all. */
  check(stored: Hashed, password: string, attempt: Attempt): Verdict | Promise<Verdict> {
    const key = this.digest(stored, password, attempt.username)
    if (isFresh(this.right.get(key), attempt.nowMs, RIGHT_TTL_MS)) return 'right'
    if (isFresh(this.wrong.get(key), attempt.nowMs, WRONG_TTL_MS)) return 'wrong'
    const same = this.underWay.get(key)
    if (same !== undefined) return same
    const turn = this.turn(attempt)
    if (turn === null) return 'busy'
    const verdict = turn
      .then((isOurs) => (isOurs ? this.run(key, stored, password, attempt) : 'busy'))
      .finally(() => this.underWay.delete(key))
    this.underWay.set(key, verdict)
    return verdict
  }

  private digest(stored: Hashed, password: string, username: string): string {
    // Neither a name nor a hash can hold a NUL that would move the border between them: names are JSON, hashes are base64.
    return createHmac('sha256', this.digestKey)
      .update(`${stored.text}\0${JSON.stringify(username)}\0${password}`)
      .digest('base64')
  }

  /** Waits until it is this attempt's turn; false = it took too long. Null = too many wait already. */
  private turn(attempt: Attempt): Promise<boolean> | null {
    if (!this.isRunning) {
      this.isRunning = true
      return Promise.resolve(true)
    }
    let users = 0
    let addresses = 0
    for (const { attempt: other } of this.waiting) {
      if (other.username === attempt.username) users++
      if (other.address === attempt.address) addresses++
    }
    const isFull = this.waiting.length >= WAITING_MAX || users >= WAITING_PER_USER_MAX || addresses >= WAITING_PER_ADDRESS_MAX
    if (isFull) return null
    return new Promise((resolve) => {
      this.waiting.push({ attempt, sinceMs: attempt.elapsedMs(), run: () => resolve(true), drop: () => resolve(false) })
    })
  }

  private async run(key: string, stored: Hashed, password: string, attempt: Attempt): Promise<Verdict> {
    const start = attempt.elapsedMs()
    let isRight = false
    try {
      isRight = await this.verify(stored, password)
    } finally {
      const tookMs = attempt.elapsedMs() - start
      this.lastMs = tookMs
      if (isRight) this.next()
      else void this.delay(tookMs).then(() => this.next())
    }
    if (isRight) remember(this.right, key, attempt.nowMs, RIGHT_MAX)
    else remember(this.wrong, key, attempt.nowMs, WRONG_MAX)
    return isRight ? 'right' : 'wrong'
  }

  private next(): void {
    let waiting = this.waiting.shift()
    while (waiting !== undefined && waiting.attempt.elapsedMs() - waiting.sinceMs > WAIT_MS_MAX) {
      waiting.drop()
      waiting = this.waiting.shift()
    }
    if (waiting === undefined) this.isRunning = false
    else waiting.run()
  }
}

/** A wall clock may jump: what seems to be of the future is old. */
function isFresh(sinceMs: number | undefined, nowMs: number, ttlMs: number): boolean {
  return sinceMs !== undefined && nowMs >= sinceMs && nowMs - sinceMs < ttlMs
}

function remember(results: Map<string, number>, key: string, nowMs: number, max: number): void {
  results.delete(key)
  if (results.size >= max) {
    const oldest = results.keys().next()
    if (oldest.done !== true) results.delete(oldest.value)
  }
  results.set(key, nowMs)
}
