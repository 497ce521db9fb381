/**
 * A bounded cache with the S3-FIFO rule (Yang et al., SOSP 2023): what is seen once passes through a small queue and out again, so a
 * flood of keys that never come back cannot push out those that do. A hit is one map lookup and one addition.
 *
 *   insert → small (a tenth of the weight) ── asked for again ──► main ⟲ (goes round while it is asked for)
 *                        └── never again ──► ghost (keys only): a key that comes back from there enters main
 *
 * Values are weighed, so that few large ones do not take more memory than many small ones. Lives in one thread.
 */

export interface FifoEntry<Value> {
  readonly key: string
  value: Value
  weight: number
  /** Times asked for since it was last looked at by an eviction, at most HITS_MAX. */
  hits: number
  isInMain: boolean
  isRemoved: boolean
}

/** What finds entries: a Map, or a DigestMap. */
export interface FifoIndex<Value> {
  readonly size: number
  get(key: string): FifoEntry<Value> | undefined
  set(key: string, entry: FifoEntry<Value>): unknown
  delete(key: string): boolean
  values(): IterableIterator<FifoEntry<Value>>
}

const HITS_MAX = 3
const SMALL_SHARE = 0.1
/** Places of deleted entries that are left in the queues. */
const QUEUE_SLACK = 256

/** First in, first out, without moving what is left. */
class Queue<Item> {
  private items: (Item | undefined)[] = []
  private first = 0

  get length(): number {
    return this.items.length - this.first
  }

  push(item: Item): void {
    this.items.push(item)
  }

  keep(isKept: (item: Item) => boolean): void {
    this.items = this.items.filter((item): item is Item => item !== undefined && isKept(item))
    this.first = 0
  }

  shift(): Item | undefined {
    if (this.first === this.items.length) return undefined
    const item = this.items[this.first]
    this.items[this.first++] = undefined
    if (this.first > 1024 && this.first * 2 > this.items.length) {
      this.items = this.items.slice(this.first)
      this.first = 0
    }
    return item
  }
}

export class S3Fifo<Value> {
  private readonly small = new Queue<FifoEntry<Value>>()
  private readonly main = new Queue<FifoEntry<Value>>()
  /** In order of insertion. */
  private readonly ghost = new Set<string>()
  private smallWeight = 0
  private mainWeight = 0

  /**
   * `weightMax`: sum of the weights of all values; a single value above a tenth of it is not kept. `entries`: finds them by key; a
   * DigestMap where keys are digests.
   */
  constructor(
    private readonly weightMax: number,
    private readonly entries: FifoIndex<Value> = new Map<string, FifoEntry<Value>>(),
  ) {
    if (!(weightMax > 0)) throw new RangeError(`a cache for the weight ${weightMax}; it must be positive`)
  }

  get size(): number {
    return this.entries.size
  }

  get weight(): number {
    return this.smallWeight + this.mainWeight
  }

  get(key: string): Value | undefined {
    const entry = this.entries.get(key)
    if (entry === undefined) return undefined
    if (entry.hits < HITS_MAX) entry.hits++
    return entry.value
  }

  /** Keeps a value; one with the same key is replaced in its place. */
  set(key: string, value: Value, weight = 1): void {
    if (weight > this.weightMax * SMALL_SHARE) {
      this.delete(key)
      return
    }
    const known = this.entries.get(key)
    if (known !== undefined) {
      if (known.isInMain) this.mainWeight += weight - known.weight
      else this.smallWeight += weight - known.weight
      known.value = value
      known.weight = weight
    } else {
      const isInMain = this.ghost.delete(key)
      const entry: FifoEntry<Value> = { key, value, weight, hits: 0, isInMain, isRemoved: false }
      this.entries.set(key, entry)
      this.enqueue(entry)
    }
    while (this.weight > this.weightMax) this.evict()
  }

  delete(key: string): void {
    const entry = this.entries.get(key)
    if (entry === undefined) return
    this.remove(entry)
    // Queues are cleaned by evictions; where nothing is evicted, by this.
    if (this.small.length + this.main.length <= 2 * this.entries.size + QUEUE_SLACK) return
    this.small.keep((one) => !one.isRemoved)
    this.main.keep((one) => !one.isRemoved)
  }

  forEach(visit: (value: Value) => void): void {
    for (const entry of this.entries.values()) visit(entry.value)
  }

  private enqueue(entry: FifoEntry<Value>): void {
    if (entry.isInMain) {
      this.main.push(entry)
      this.mainWeight += entry.weight
    } else {
      this.small.push(entry)
      this.smallWeight += entry.weight
    }
  }

  /** Its place in the queue is given up when an eviction comes by. */
  private remove(entry: FifoEntry<Value>): void {
    this.entries.delete(entry.key)
    entry.isRemoved = true
    if (entry.isInMain) this.mainWeight -= entry.weight
    else this.smallWeight -= entry.weight
  }

  private evict(): void {
    if (this.smallWeight > this.weightMax * SMALL_SHARE || this.mainWeight === 0) this.evictSmall()
    else this.evictMain()
  }

  private evictSmall(): void {
    for (;;) {
      const entry = this.small.shift()
      if (entry === undefined) return
      if (entry.isRemoved) continue
      if (entry.hits > 0) {
        this.smallWeight -= entry.weight
        entry.isInMain = true
        entry.hits = 0
        this.enqueue(entry)
        return
      }
      this.remove(entry)
      this.remember(entry.key)
      return
    }
  }

  private evictMain(): void {
    for (;;) {
      const entry = this.main.shift()
      if (entry === undefined) return
      if (entry.isRemoved) continue
      if (entry.hits > 0) {
        entry.hits--
        this.main.push(entry)
        continue
      }
      this.remove(entry)
      return
    }
  }

  private remember(key: string): void {
    this.ghost.add(key)
    if (this.ghost.size <= this.entries.size + 1) return
    for (const oldest of this.ghost) {
      this.ghost.delete(oldest)
      break
    }
  }
}
