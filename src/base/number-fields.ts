/**
 * Header fields with numbers that are always set together, as rate limits do: limit, remaining, reset.
 *
 * One record serves all answers of a binding: fill `numbers` in, hand it to `HeaderList.setNumbers`, which copies them. Upstreams repeat
 * their heads and most of the numbers stay, so `behind` keeps the bytes of the last answer and only writes the digits that changed.
 */
import { fieldNameProblem } from './field.js'

const ZERO = 48
/** Numbers up to here are written digit by digit, in integer arithmetic. */
const SMALL_MAX = 2 ** 31 - 1
/** Room for the digits of a number, its point included. */
const DIGITS_MAX = 24

export class NumberFields {
  /** Whole numbers ≥ 0, one per field. */
  readonly numbers: Float64Array
  /** They can go out as the lines they are: distinct names, none of which the gateway writes itself. */
  readonly isPlain: boolean
  private readonly starts: readonly string[]
  private readonly lowerNames: readonly string[]
  private block: Uint8Array | null = null
  private bytes = new Uint8Array(0)
  private view = this.bytes
  /** What stands in `view`: the numbers, and where their digits begin and end. */
  private readonly shown: Float64Array
  private readonly from: Int32Array
  private readonly to: Int32Array

  /** `inHundredths`: fields whose number is so many hundredths of what is shown, without trailing zeros: `57.12`, `0.5`, `60`. */
  constructor(
    readonly names: readonly string[],
    private readonly inHundredths: readonly boolean[] = [],
  ) {
    this.numbers = new Float64Array(names.length)
    this.shown = new Float64Array(names.length)
    this.from = new Int32Array(names.length)
    this.to = new Int32Array(names.length)
    this.starts = names.map((name) => `\r\n${name}: `)
    this.lowerNames = names.map((name) => name.toLowerCase())
    this.isPlain =
      new Set(this.lowerNames).size === names.length &&
      names.every((name) => fieldNameProblem(name) === null) &&
      !this.lowerNames.some((name) => name === 'date' || name === 'content-type')
  }

  /** How a number is shown in this field. */
  text(index: number, value: number): string {
    if (this.inHundredths[index] !== true) return `${value}`
    // From whole numbers, because writing out a fraction costs more than deciding.
    const rest = value % 100
    const whole = (value - rest) / 100
    return rest === 0 ? `${whole}` : rest % 10 === 0 ? `${whole}.${rest / 10}` : rest < 10 ? `${whole}.0${rest}` : `${whole}.${rest}`
  }

  /** CRLF and line for each field, with these numbers. */
  lines(numbers: Float64Array): string {
    const { starts } = this
    let lines = ''
    for (let index = 0; index < starts.length; index++) lines += (starts[index] as string) + this.text(index, numbers[index] as number)
    return lines
  }

  /** `block` and the lines behind it. The bytes are valid until the next call. */
  behind(block: Uint8Array, numbers: Float64Array): Uint8Array {
    if (this.block !== block) return this.build(block, numbers)
    const { shown } = this
    for (let index = 0; index < shown.length; index++) {
      const number = numbers[index] as number
      if (shown[index] === number) continue
      if (!this.rewrite(index, number)) return this.build(block, numbers)
      shown[index] = number
    }
    return this.view
  }

  /** Writes other digits in the place of those there; false if they do not fit it. */
  private rewrite(index: number, number: number): boolean {
    const from = this.from[index] as number
    const to = this.to[index] as number
    if (number > SMALL_MAX || this.inHundredths[index] === true) {
      const text = this.text(index, number)
      if (text.length !== to - from) return false
      for (let at = from; at < to; at++) this.bytes[at] = text.charCodeAt(at - from)
      return true
    }
    let rest = number | 0
    for (let at = to - 1; at >= from; at--) {
      const next = (rest / 10) | 0
      this.bytes[at] = ZERO + rest - next * 10
      rest = next
    }
    return rest === 0 && (to - from === 1 || this.bytes[from] !== ZERO)
  }

  private build(block: Uint8Array, numbers: Float64Array): Uint8Array {
    const { starts, shown, from, to } = this
    let size = block.length
    for (const start of starts) size += start.length + DIGITS_MAX
    if (this.bytes.length < size) this.bytes = new Uint8Array(size)
    this.bytes.set(block)
    let at = block.length
    for (let index = 0; index < starts.length; index++) {
      const number = numbers[index] as number
      at = this.append(starts[index] as string, at)
      from[index] = at
      at = this.append(this.text(index, number), at)
      to[index] = at
      shown[index] = number
    }
    this.block = block
    this.view = this.bytes.subarray(0, at)
    return this.view
  }

  private append(text: string, at: number): number {
    for (let index = 0; index < text.length; index++) this.bytes[at + index] = text.charCodeAt(index)
    return at + text.length
  }

  /** Whether a field is one of these, whatever its case. */
  has(name: string): boolean {
    for (let index = 0; index < this.names.length; index++) {
      const own = this.names[index] as string
      if (own === name || (own.length === name.length && this.lowerNames[index] === name.toLowerCase())) return true
    }
    return false
  }
}
