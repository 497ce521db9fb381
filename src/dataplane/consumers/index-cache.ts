/**
 * A bounded cache of objects by whole number: sets of four places each. A set that is full gives up the place that was not used for the
 * longest time. Looking up allocates nothing.
 */
const WAYS = 4

export class IndexCache<T> {
  private readonly numbers: Int32Array
  private readonly values: (T | undefined)[]
  /** Moment of the last use, by place: a counter, not a clock. */
  private readonly uses: Uint32Array
  private readonly setMask: number
  private now = 0

  /** `capacity`: a power of two of at least four. */
  constructor(capacity: number) {
    this.numbers = new Int32Array(capacity).fill(-1)
    this.values = new Array<T | undefined>(capacity)
    this.uses = new Uint32Array(capacity)
    this.setMask = capacity / WAYS - 1
  }

  get(number: number): T | undefined {
    const first = (number & this.setMask) * WAYS
    for (let place = first; place < first + WAYS; place++) {
      if (this.numbers[place] !== number) continue
      this.uses[place] = ++this.now
      return this.values[place]
    }
    return undefined
  }

  set(number: number, value: T): void {
    const first = (number & this.setMask) * WAYS
    let oldest = first
    for (let place = first; place < first + WAYS; place++) {
      if (this.numbers[place] === -1) {
        oldest = place
        break
      }
      if ((this.uses[place] as number) < (this.uses[oldest] as number)) oldest = place
    }
    this.numbers[oldest] = number
    this.values[oldest] = value
    this.uses[oldest] = ++this.now
  }
}
