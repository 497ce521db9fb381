/**
 * What bad tokens may cost one worker. Tokens that are remembered are never asked about here, so whatever is sent, those go on being
 * served and verified again; the question is which of the tokens that nobody knows are worth reading and verifying (about 30 µs each).
 *
 *   bad tokens within a slice of 100 ms    a token that is not remembered is looked at
 *   up to FREE                             always
 *   up to ALL                              when its client has sent no bad one in this slice or the one before
 *   more                                   not before the next slice
 *
 * So one client that sends nothing but bad tokens takes 3 % of a core from a worker, and many clients together 15 %, while new
 * tokens of everybody else are verified. Lives in one thread.
 */
const SLICE_MS = 100
/** Bad tokens per slice. */
const FREE = 100
const ALL = 500

export class BadTokenBudget {
  private slice = 0
  private bad = 0
  /** Clients with bad tokens, in this slice and the one before: at most ALL and some that were under way. */
  private now = new Set<string>()
  private before = new Set<string>()

  constructor(private readonly nowMs: () => number) {}

  /** Whether an unknown token of this client is looked at. */
  admits(client: string): boolean {
    this.turn()
    if (this.bad < FREE) return true
    return this.bad < ALL && !this.now.has(client) && !this.before.has(client)
  }

  /** A token of this client was bad. */
  charge(client: string): void {
    this.turn()
    this.bad++
    if (this.now.size < ALL) this.now.add(client)
  }

  private turn(): void {
    const slice = Math.floor(this.nowMs() / SLICE_MS)
    if (slice === this.slice) return
    const emptied = this.before
    emptied.clear()
    this.before = slice === this.slice + 1 ? this.now : emptied
    this.now = slice === this.slice + 1 ? emptied : new Set()
    this.slice = slice
    this.bad = 0
  }
}
