/**
 * The rate-limit contract: what a limit is, what a decision says, what a store must do. Plugins translate configuration into a
 * `LimiterSpec`; stores (shared/limiter-store, cluster) decide. Types and plain records only.
 *
 * Units: times in milliseconds, rates in units per second, costs and limits in whole units. `nowMs` is wall-clock time since the Unix
 * epoch and is handed in by the caller; a store on another machine uses that machine's time instead and says so.
 *
 * One decision is one atomic step over all rules of a spec: either every rule admits and every rule is charged, or nothing is charged
 * (except with `countRefused`). Two requests never see the same state.
 *
 * Clock rules, for every store that is given the time:
 *  - Times of concurrent callers may differ by up to CLOCK_SKEW_MS: state that is so little "in the future" is the present.
 *  - A step back: a window that would lie in the future becomes the current one and keeps its count; a bucket or queue owes at most what
 *    it can owe by its rule. So nothing extra is admitted and no key waits longer than one full window (or full
 *    bucket) of its rule and CLOCK_SKEW_MS; sliding windows weigh that window once more, as always.
 *  - A step forward ends windows early and fills buckets: at most one extra limit per step.
 *  - Cells keep times as 32-bit ticks; they compare modulo 2^32, so the wrap (every 13.6 years) shows nowhere.
 */

/** Largest limit, burst and cost: counters are unsigned 32-bit, and saturate instead of wrapping. */
export const LIMIT_MAX = 2 ** 31 - 1
/** Rules of one spec. More would make the one atomic step long. */
export const RULES_MAX = 16
/** Rules of all specs that are decided in one step. */
export const JOINT_RULES_MAX = 64
/** Longest window, and longest time in which a full bucket drains: a leap year and a day of slack. */
export const WINDOW_MAX_MS = 367 * 86_400_000
/** Windows of `sliding-window` are whole multiples of this. */
export const WINDOW_GRAIN_MS = 100
/** Entries of one sliding log, and so its largest limit: the log keeps a time per admitted unit. */
export const LOG_LIMIT_MAX = 10_000
/** Longest window of a sliding log (12 days): its entries are 32-bit times. */
export const LOG_WINDOW_MAX_MS = 2 ** 30
/** Highest rate of a bucket, units per second. */
export const RATE_MAX = 1_000_000
/** See the clock rules above. */
export const CLOCK_SKEW_MS = 2_000

/**
 * Counts per window; everything is forgotten at its end, so two full windows can touch.
 * `clock`: windows begin at whole multiples of their length since the epoch (UTC); with `calendar`, at the first of each month or year
 * UTC, and `windowMs` is not used. `first-hit`: a window begins with the first request of its key.
 */
export interface FixedWindowRule {
  readonly algorithm: 'fixed-window'
  readonly limit: number
  readonly windowMs: number
  readonly start: 'clock' | 'first-hit' | 'month' | 'year'
}

/**
 * Clock-aligned windows with an estimate: `used = previous × (window − elapsed) / window + current`.
 * `boundary`, the two readings of the reference gateways:
 *  - `estimate-below` (default): refuse if used ≥ limit (with cost c: used + c − 1 ≥ limit); may go over by less than one unit;
 *  - `estimate-within`: previous counts as at most limit; refuse if used + c > limit.
 */
export interface SlidingWindowRule {
  readonly algorithm: 'sliding-window'
  readonly limit: number
  readonly windowMs: number
  readonly boundary?: 'estimate-below' | 'estimate-within'
}

/** Exact: at most `limit` units in any span of `windowMs`. Limit at most LOG_LIMIT_MAX, window at most LOG_WINDOW_MAX_MS. A time leaves the log after exactly `windowMs`. */
export interface SlidingLogRule {
  readonly algorithm: 'sliding-log'
  readonly limit: number
  readonly windowMs: number
}

/** GCRA: `rate` units per second, `burst` more may come early; an idle key admits burst + 1 at once. Nothing waits. */
export interface TokenBucketRule {
  readonly algorithm: 'token-bucket'
  readonly rate: number
  readonly burst: number
}

/**
 * A queue that lets `rate` units per second out: admitted requests wait `Decision.delayMs`, at most `burst` units stand before them,
 * more are refused. Cost c occupies c places.
 */
export interface LeakyBucketRule {
  readonly algorithm: 'leaky-bucket'
  readonly rate: number
  readonly burst: number
}

/**
 * At most `limit` units in flight. An admitted decision carries a `hold` that must be released exactly once. `ttlMs`: stores that can
 * lose a holder (Redis, when a node dies) forget its holds after this; the local store returns the holds of a dead worker itself and
 * keeps the others as long as they last.
 */
export interface ConcurrencyRule {
  readonly algorithm: 'concurrency'
  readonly limit: number
  readonly ttlMs: number
}

export type LimitRule = FixedWindowRule | SlidingWindowRule | SlidingLogRule | TokenBucketRule | LeakyBucketRule | ConcurrencyRule
export type Algorithm = LimitRule['algorithm']

/** Where and how the counters of a spec are kept. */
export type StoreSpec =
  | { readonly kind: 'local' }
  | {
      readonly kind: 'redis' | 'redis-cluster' | 'redis-sentinel'
      /** `exact`: every decision is one script call. `lease`: batches are taken before they are spent. */
      readonly mode: 'exact' | 'lease'
      readonly connection: RedisConnection
      /** When Redis does not answer: refuse, let pass, or decide in the local store with limits divided by the live nodes. */
      readonly onFailure: 'refuse' | 'allow' | 'local'
    }

export interface RedisConnection {
  /** One server, the known nodes of a cluster, or the sentinels. */
  readonly nodes: readonly { readonly host: string; readonly port: number }[]
  readonly username: string | null
  readonly password: string | null
  readonly database: number
  readonly tls: { readonly verify: boolean; readonly serverName: string | null } | null
  /** Deadline of each call. */
  readonly timeoutMs: number
  /** Only for redis-sentinel. */
  readonly sentinel: {
    readonly masterName: string
    readonly role: 'master' | 'slave'
    readonly username: string | null
    readonly password: string | null
  } | null
}

/** All limits that one plugin binding decides on one request. Plain JSON: `prepare` may return it. */
export interface LimiterSpec {
  /**
   * Whose counters: the same scope with the same rule and key is the same counter, on all workers, across reloads, and (in Redis) on all
   * nodes. A changed limit, rate or burst keeps the counter, another algorithm or window is another counter.
   */
  readonly scope: string
  /** 1 to RULES_MAX. The first refusing rule, in this order, is the one reported. */
  readonly rules: readonly LimitRule[]
  /** Charge refused requests too, in every rule. Only for fixed-window, sliding-window and sliding-log. */
  readonly countRefused: boolean
  /** Decide and charge as usual, but never refuse: `allowed` is true, `refusedBy` says what would have refused; nothing is delayed. */
  readonly dryRun: boolean
  readonly store: StoreSpec
  /** Every request has the same key. A Redis Cluster then spreads such limits over its masters, else it spreads the keys. Absent = false. */
  readonly isOneForAll?: boolean
}

/** One key for all rules, or one per rule in the order of the rules. */
export type LimitKeys = string | readonly string[]

/** Values resolved per request that replace the configured ones, by index of the rule; absent or undefined = as configured. */
export interface LimitOverrides {
  /** Replaces `limit` (window and concurrency rules) or `burst` (buckets). */
  readonly limits?: readonly (number | undefined)[]
  /** Replaces `windowMs`; each length is a counter of its own. */
  readonly windowsMs?: readonly (number | undefined)[]
}

/** What one rule says after a decision. */
export class RuleOutcome {
  /** The limit that applied; for buckets burst + 1; for token and leaky buckets see also `LimitRule.rate`. */
  limit = 0
  /** Whole units left after this request; 0 on refusal by this rule. */
  remaining = 0
  /** Units used after this request: count, estimate (may be fractional), queue length or in flight. */
  used = 0
  /** Time until the rule is as if never used (bucket, log, in-flight) or its window ends. */
  resetMs = 0
  /** 0 unless this rule refuses; else time until this request could be admitted by this rule. −1 = never (cost above the limit) or unknown (concurrency). */
  retryAfterMs = 0
  /** Names what was charged (a window, a moment) to the store that charged it: `giveBack` takes back that and nothing else. */
  mark = 0
}

/**
 * The answer of a store, written into a record that the caller owns and reuses: deciding allocates nothing. Valid until the caller uses
 * the record again.
 */
export class Decision {
  allowed = true
  /** Index of the first refusing rule; −1 = none. With dryRun it may be ≥ 0 although `allowed`. */
  refusedBy = -1
  /** Wait so long before going on (leaky-bucket); 0 otherwise. */
  delayMs = 0
  /** Names what is to be released; −1 = nothing (no concurrency rule, or refused). Valid on the thread that was given it. */
  hold = -1
  /**
   * `exact` = decided as the spec says. `shared` = the table was full and the key was counted together with other such keys.
   * `full` = refused because no cell was left. `local` = decided by the local store in place of Redis. `allowed`, `refused` = the store
   * failed and the failure policy decided; outcomes are then not filled in.
   */
  basis: 'exact' | 'shared' | 'full' | 'local' | 'allowed' | 'refused' = 'exact'
  /** The rules were charged; `giveBack` can undo it. */
  isCharged = false
  /** One per rule of the spec. */
  readonly rules: readonly RuleOutcome[]

  constructor(ruleCount: number) {
    this.rules = Array.from({ length: ruleCount }, () => new RuleOutcome())
  }
}

/** What a limiter is asked about one request, with the record for its answer. */
export interface LimitAsk {
  readonly limiter: BoundLimiter
  readonly keys: LimitKeys
  readonly cost: number
  readonly overrides: LimitOverrides | undefined
  readonly out: Decision
}

/**
 * Decides several limiters about one request in one atomic step: every one that refuses nothing is charged if none refuses, else none is.
 * A dry run refuses nobody, and is not charged if it would have refused. `countRefused` is charged unless an earlier limiter refused.
 */
export interface JointDecider {
  /** Answers at once. */
  readonly isImmediate: boolean
  /** Asks for which it gives different texts cannot be decided together (they lie on different machines); null = all can. */
  readonly placeOf: ((ask: LimitAsk) => string) | null
  /**
   * Decides `asks`, in their order; all of limiters with this decider and of one place. Fills in every `out`. A promise never rejects and has a deadline.
   * When the store fails, each ask is decided by the policy of its spec. RangeError as `BoundLimiter.check`.
   */
  decide(asks: readonly LimitAsk[], isPeek: boolean): void | Promise<void>
}

/** A spec bound to its store: what a plugin asks, by way of the gateway. */
export interface BoundLimiter {
  readonly spec: LimiterSpec
  /** Limiters with the same decider can be decided together; null = only by `check`. */
  readonly joint: JointDecider | null
  /** A record for `check`, of the right size. */
  decision(): Decision
  /**
   * Decides and charges `cost` (whole, ≥ 1) and returns `out`, at once where the store allows. A promise never rejects and has a
   * deadline. RangeError on a cost, key count or override that no rule allows.
   */
  check(keys: LimitKeys, cost: number, out: Decision, overrides?: LimitOverrides): Decision | Promise<Decision>
  /** As `check` with this cost would decide, without charging anything. */
  peek(keys: LimitKeys, cost: number, out: Decision, overrides?: LimitOverrides): Decision | Promise<Decision>
  /** Ends a hold. −1 is ignored. Never throws. */
  release(hold: number): void
  /**
   * Undoes a decision of this limiter that charged, as if it had not been made: in the windows in which it was charged, as long as they
   * run. A place in a queue (leaky bucket) is given back only if nobody stands behind it. The hold is released. At most once. Never throws.
   */
  giveBack(ask: LimitAsk): void
}

/** A place where counters are kept. */
export interface LimiterStore {
  /** Throws RangeError with what is wrong when this store cannot do the spec (see `specProblem` for what no store can). */
  bind(spec: LimiterSpec): BoundLimiter
}
