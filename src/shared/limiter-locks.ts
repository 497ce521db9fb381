/**
 * How several threads change several cells in one step that a dying thread cannot tear.
 *
 * A lock is one word: 0 = free, else the token of its member (index + 1), with WAITERS set if somebody sleeps on it. Each member has a
 * journal that only it writes:
 *
 *   word 0  committed (0 / 1)     1  locks    2  writes    3  newest new hold + 1
 *   8 …     addresses of the locks that it holds or is about to take, in ascending order: two per rule, and the overflow
 *   160 …   writes: [cell, key high, key low, expiry, a, b] each
 *
 *   step                                              if the thread dies or throws right after it, `recover` …
 *   1 begin     everything is 0                       finds nothing to do
 *   2 lock      note the address, then take it        frees what carries its token; cells are untouched
 *   3 stage     note new words in the journal         the same; new holds are cleared
 *   4 commit    committed = 1                         writes the noted words to cells whose lock still carries its token, then
 *                                                     frees the locks
 *   5 apply     words to cells                        the same: writing twice changes nothing
 *   6 unlock    free the locks                        skips cells whose lock it no longer has: others may have changed them
 *
 * So a request is charged in all its cells or in none, at one instant (4). No step needs an atomic store for that: a thread ends between
 * two statements of ours (at a call or a turn of a loop, where the engine looks for it), and who reads its journal then does so after it
 * has ended, which orders everything. Deadlock: addresses only ascend. Dead owners: the
 * primary calls `recover` when the thread has ended, and
 * whoever waits for such a lock sleeps until then. A lock is otherwise held for well under a microsecond; a waiter spins briefly, then
 * sleeps, so that an owner without a core gets one.
 *
 * A transaction with one lock and one cell (`lockOnly` … `commitOnly`, `commitHold`, `commitRelease`, `unlockOnly`) stages nothing: its
 * stores follow each other without a call or a loop, so no thread ends between them.
 *
 * Between lock and unlock plain reads and writes are enough: taking and freeing are atomic and order them.
 */
import type { CellReading } from '../limits/cell.js'
import { HOLD_WORDS, HOLDS_PER_MEMBER, JOURNAL_WORDS, type LimiterLayout, SEGMENT_WORDS, Stat } from './limiter-layout.js'

const WAITERS = 1 << 30
const TOKEN_MASK = WAITERS - 1

const COMMITTED = 0
const LOCKS = 1
const WRITES = 2
const NEW_HOLD = 3
const LOCK_LIST = 8
const WRITE_LIST = 160
const WRITE_WORDS = 6

const SPINS = 200
/** A waiter looks again after this long although it is woken: what it missed costs no more. */
const NAP_MS = 2

/** One member's transactions. Not reentrant: begin … end without anything in between that could call in again. */
export class LimiterLocks {
  private readonly journal: number
  private readonly token: number
  /** First word of this member's holds. */
  readonly ledger: number

  constructor(
    private readonly words: Int32Array,
    private readonly layout: LimiterLayout,
    member: number,
  ) {
    if (!Number.isInteger(member) || member < 0 || member >= layout.members) {
      throw new RangeError(`limiter member ${member} does not exist; members are 0 to ${layout.members - 1}`)
    }
    this.journal = layout.journals + member * JOURNAL_WORDS
    this.ledger = layout.ledgers + member * HOLDS_PER_MEMBER * HOLD_WORDS
    this.token = member + 1
  }

  begin(): void {
    // Left over only if this very thread threw in the middle: put right before anything else.
    if (this.words[this.journal + LOCKS] !== 0) this.recover()
  }

  /** Takes a lock. Addresses must ascend within a transaction; the same one twice in a row is taken once. */
  lock(address: number): void {
    const { words, journal } = this
    const count = words[journal + LOCKS] as number
    if (count > 0 && words[journal + LOCK_LIST + count - 1] === address) return
    words[journal + LOCK_LIST + count] = address
    words[journal + LOCKS] = count + 1
    if (Atomics.compareExchange(words, address, 0, this.token) !== 0) this.lockSlowly(address)
  }

  private lockSlowly(address: number): void {
    const { words, token } = this
    for (let spin = 0; spin < SPINS; spin++) {
      if (Atomics.load(words, address) === 0 && Atomics.compareExchange(words, address, 0, token) === 0) return
    }
    Atomics.add(words, Stat.lockWaits, 1)
    for (;;) {
      const seen = Atomics.load(words, address)
      if (seen === 0) {
        // Others may sleep behind this one: keeping the mark wakes them in turn.
        if (Atomics.compareExchange(words, address, 0, token | WAITERS) === 0) return
      } else if ((seen & WAITERS) !== 0 || Atomics.compareExchange(words, address, seen, seen | WAITERS) === seen) {
        Atomics.wait(words, address, seen | WAITERS, NAP_MS)
      }
    }
  }

  /** Notes the new words of a cell in a locked segment. */
  stage(cell: number, high: number, low: number, expiry: number, a: number, b: number): void {
    const { words, journal } = this
    const count = words[journal + WRITES] as number
    const at = journal + WRITE_LIST + count * WRITE_WORDS
    words[at] = cell
    words[at + 1] = high
    words[at + 2] = low
    words[at + 3] = expiry
    words[at + 4] = a
    words[at + 5] = b
    words[journal + WRITES] = count + 1
  }

  /** Names a hold that becomes valid with the commit; several are chained in their ledger entries. */
  noteNewHold(hold: number): void {
    this.words[this.ledger + hold * HOLD_WORDS + 3] = this.words[this.journal + NEW_HOLD] as number
    this.words[this.journal + NEW_HOLD] = hold + 1
  }

  /** Makes everything noted true at one instant, and frees the locks. */
  commit(): void {
    const { words, journal } = this
    words[journal + COMMITTED] = 1
    const count = words[journal + WRITES] as number
    for (let index = 0; index < count; index++) applyWrite(words, journal + WRITE_LIST + index * WRITE_WORDS)
    this.unlockEach()
    this.reset()
  }

  /** Begins a transaction that takes this one lock and no other. */
  lockOnly(address: number): void {
    const { words, journal } = this
    if (words[journal + LOCKS] !== 0) this.recover()
    words[journal + LOCK_LIST] = address
    words[journal + LOCKS] = 1
    if (Atomics.compareExchange(words, address, 0, this.token) !== 0) this.lockSlowly(address)
  }

  /**
   * Commits the only write of a transaction with one lock and no hold. Needs no journal: nothing can come between these stores, which
   * contain no call and no loop.
   */
  commitOnly(address: number, cell: number, high: number, low: number, reading: CellReading): void {
    const { words } = this
    const { expiry, a, b } = reading
    words[cell] = high
    words[cell + 1] = low
    words[cell + 2] = expiry
    words[cell + 3] = a
    words[cell + 4] = b
    this.unlock(address)
    words[this.journal + LOCKS] = 0
  }

  /** The same together with a new hold, whose entry lies at `hold`. */
  commitHold(address: number, cell: number, high: number, low: number, reading: CellReading, hold: number, cost: number): void {
    const { words } = this
    const { expiry, a, b } = reading
    words[hold] = cell
    words[hold + 2] = 0
    words[hold + 1] = cost
    words[cell] = high
    words[cell + 1] = low
    words[cell + 2] = expiry
    words[cell + 3] = a
    words[cell + 4] = b
    this.unlock(address)
    words[this.journal + LOCKS] = 0
  }

  /** Ends a hold at `hold`: the cell keeps `left` units, or becomes free. */
  commitRelease(address: number, cell: number, left: number, hold: number): void {
    const { words } = this
    words[hold + 1] = 0
    words[cell + 3] = left
    if (left === 0) words[cell + 1] = 0
    this.unlock(address)
    words[this.journal + LOCKS] = 0
  }

  /** Ends a transaction with one lock; nothing has happened. */
  unlockOnly(address: number): void {
    this.unlock(address)
    this.words[this.journal + LOCKS] = 0
  }

  /** Frees the locks; nothing has happened. */
  abort(): void {
    const { words, journal } = this
    if ((words[journal + NEW_HOLD] as number) !== 0) this.dropNewHolds()
    this.unlockEach()
    if ((words[journal + WRITES] as number) !== 0) this.reset()
    else words[journal + LOCKS] = 0
  }

  /** The journal says "nothing going on" again. Last of all LOCKS; and no new hold may be named once COMMITTED is 0. */
  private reset(): void {
    const { words, journal } = this
    words[journal + NEW_HOLD] = 0
    words[journal + WRITES] = 0
    words[journal + COMMITTED] = 0
    words[journal + LOCKS] = 0
  }

  private unlockEach(): void {
    const { words, journal } = this
    const count = words[journal + LOCKS] as number
    for (let index = 0; index < count; index++) this.unlock(words[journal + LOCK_LIST + index] as number)
  }

  private unlock(address: number): void {
    if ((Atomics.exchange(this.words, address, 0) & WAITERS) !== 0) Atomics.notify(this.words, address)
  }

  /**
   * Finishes or undoes what this member was doing when it threw or died. By the member itself, or by the primary after its thread has
   * ended. Returns whether there was anything to do.
   */
  recover(): boolean {
    const { words, journal } = this
    const locks = words[journal + LOCKS] as number
    if (locks === 0) return false
    if (Atomics.load(words, journal + COMMITTED) === 1) this.reapply()
    else if ((words[journal + NEW_HOLD] as number) !== 0) this.dropNewHolds()
    for (let index = 0; index < locks; index++) {
      const address = words[journal + LOCK_LIST + index] as number
      if (this.owns(address)) this.unlock(address)
    }
    this.reset()
    Atomics.add(words, Stat.recoveredLocks, 1)
    return true
  }

  private owns(address: number): boolean {
    return (Atomics.load(this.words, address) & TOKEN_MASK) === this.token
  }

  private reapply(): void {
    const { words, journal, layout } = this
    const count = words[journal + WRITES] as number
    for (let index = 0; index < count; index++) {
      const at = journal + WRITE_LIST + index * WRITE_WORDS
      if (this.owns(segmentOf(layout, words[at] as number))) applyWrite(words, at)
    }
  }

  private dropNewHolds(): void {
    const { words, journal, ledger } = this
    let next = words[journal + NEW_HOLD] as number
    while (next !== 0) {
      const at = ledger + (next - 1) * HOLD_WORDS
      words[at + 1] = 0
      next = words[at + 3] as number
    }
    words[journal + NEW_HOLD] = 0
  }
}

function applyWrite(words: Int32Array, at: number): void {
  const cell = words[at] as number
  words[cell] = words[at + 1] as number
  words[cell + 1] = words[at + 2] as number
  words[cell + 2] = words[at + 3] as number
  words[cell + 3] = words[at + 4] as number
  words[cell + 4] = words[at + 5] as number
}

/** Address of the segment, which is its lock, that a cell lies in. */
export function segmentOf(layout: LimiterLayout, cell: number): number {
  if (cell >= layout.overflow) return layout.overflow
  return cell - ((cell - layout.cells) % SEGMENT_WORDS)
}
