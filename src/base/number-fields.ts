/**
 * Header fields with numbers that are always set together, as rate limits do: limit, remaining, reset.
 *
 * Their lines are kept as one piece per field and only those whose number changed are written anew. One record serves all answers of a
 * binding: fill it in, then hand it to `HeaderList.setNumbers`, which copies what stands in it.
 */
import { fieldNameProblem } from './field.js'

export class NumberFields {
  /** They can go out as the lines they are: distinct names, none of which the gateway writes itself. */
  readonly isPlain: boolean
  private readonly starts: readonly string[]
  private readonly lowerNames: readonly string[]
  private readonly numbers: number[]
  private readonly pieces: string[]

  constructor(readonly names: readonly string[]) {
    this.starts = names.map((name) => `\r\n${name}: `)
    this.lowerNames = names.map((name) => name.toLowerCase())
    this.numbers = names.map(() => Number.NaN)
    this.pieces = names.map(() => '')
    this.isPlain =
      new Set(this.lowerNames).size === names.length &&
      names.every((name) => fieldNameProblem(name) === null) &&
      !this.lowerNames.some((name) => name === 'date' || name === 'content-type')
  }

  /** A whole number, or one that prints as it should be sent. */
  number(index: number, value: number): void {
    if (this.numbers[index] === value) return
    this.numbers[index] = value
    this.pieces[index] = `${this.starts[index]}${value}`
  }

  /** So many hundredths (whole, ≥ 0) as a decimal number without trailing zeros: `57.12`, `0.5`, `60`. A field has one kind of number. */
  hundredths(index: number, value: number): void {
    if (this.numbers[index] === value) return
    this.numbers[index] = value
    const rest = value % 100
    // From whole numbers, because writing out a fraction costs more than deciding.
    const text = `${this.starts[index]}${(value - rest) / 100}`
    this.pieces[index] = rest === 0 ? text : rest % 10 === 0 ? `${text}.${rest / 10}` : rest < 10 ? `${text}.0${rest}` : `${text}.${rest}`
  }

  /** CRLF and line for each field. */
  lines(): string {
    const { pieces } = this
    let lines = pieces[0] ?? ''
    for (let index = 1; index < pieces.length; index++) lines += pieces[index]
    return lines
  }

  value(index: number): string {
    return this.pieces[index]?.slice(this.starts[index]?.length) ?? ''
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
