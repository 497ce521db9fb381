/**
 * An ordered list of header fields, as plugins see and change it.
 *
 * Parallel arrays instead of objects, reused from request to request: `reset()` forgets the fields and keeps the storage.
 * `keys` holds the lower-case name that is compared, `names` the spelling that is sent.
 */
import type { NumberFields } from './number-fields.js'

/** Fields that many requests get in the same words: put together once, as the lines that they are in a head. */
export class HeaderBlock {
  readonly keys: readonly string[]
  /** Each line with its end. */
  readonly lines: string

  /** Names must be tokens, and values must have nothing that would end a line. */
  constructor(
    readonly names: readonly string[],
    readonly values: readonly string[],
  ) {
    this.keys = names.map((name) => name.toLowerCase())
    this.lines = names.map((name, index) => `${name}: ${values[index]}\r\n`).join('')
  }
}

export class HeaderList {
  private readonly ownKeys: string[] = []
  private readonly ownNames: string[] = []
  private readonly ownValues: string[] = []
  readonly keys: readonly string[] = this.ownKeys
  readonly names: readonly string[] = this.ownNames
  readonly values: readonly string[] = this.ownValues
  /** The request whose fields, as they came, these are; null = they are not, or somebody has changed them. It never changes itself. */
  origin: object | null = null
  protected size = 0
  private checked = 0
  /** Fields behind the others that nobody has looked at yet. */
  private whole: HeaderBlock | null = null

  /** Number of fields. */
  get count(): number {
    if (this.whole !== null) this.takeApart(this.whole)
    return this.size
  }

  /** As `count`, without those of the block that still is in one piece. */
  get countBeforeBlock(): number {
    return this.size
  }

  /** The lines of the block that still is in one piece; empty = there is none. */
  get blockLines(): string {
    return this.whole === null ? '' : this.whole.lines
  }

  /** So many fields from the first on are as they were when `allChecked` was called. */
  get checkedCount(): number {
    return this.checked
  }

  /** Whoever filled the list has checked it: names are tokens, values have nothing that would end a line. */
  allChecked(): void {
    this.checked = this.size
  }

  reset(): void {
    this.size = 0
    this.checked = 0
    this.whole = null
    this.origin = null
  }

  /** Becomes what another list is, which nobody has put a block behind. */
  copyFrom(other: HeaderList): void {
    const { ownKeys, ownNames, ownValues } = this
    const { size } = other
    for (let index = 0; index < size; index++) {
      ownKeys[index] = other.ownKeys[index] as string
      ownNames[index] = other.ownNames[index] as string
      ownValues[index] = other.ownValues[index] as string
    }
    this.size = size
    this.checked = other.checked
    this.whole = null
    this.origin = other.origin
  }

  /**
   * Puts fields behind the others, in place of the last such block; null = only takes that away, which only concerns one that still is in
   * one piece. It is taken apart when somebody asks for fields.
   */
  setBlock(block: HeaderBlock | null): void {
    this.whole = block
    this.origin = null
  }

  private takeApart(block: HeaderBlock): void {
    this.whole = null
    for (let index = 0; index < block.keys.length; index++) {
      this.push(block.keys[index] as string, block.names[index] as string, block.values[index] as string)
    }
  }

  /** Appends a field. `key` must be the lower-case form of `name`. */
  push(key: string, name: string, value: string): void {
    if (this.whole !== null) this.takeApart(this.whole)
    this.origin = null
    const index = this.size++
    this.ownKeys[index] = key
    this.ownNames[index] = name
    this.ownValues[index] = value
  }

  /** First value of the field, or undefined. `key` is lower-case. */
  get(key: string): string | undefined {
    if (this.whole !== null) this.takeApart(this.whole)
    const keys = this.keys
    for (let index = 0; index < this.size; index++) if (keys[index] === key) return this.values[index]
    return undefined
  }

  /** All values of the field in order of arrival. `key` is lower-case. */
  getAll(key: string): string[] {
    if (this.whole !== null) this.takeApart(this.whole)
    const found: string[] = []
    for (let index = 0; index < this.size; index++) if (this.keys[index] === key) found.push(this.values[index] as string)
    return found
  }

  has(key: string): boolean {
    return this.get(key) !== undefined
  }

  /** Adds one more line of this field. */
  add(name: string, value: string): void {
    this.push(name.toLowerCase(), name, value)
  }

  /** Replaces all lines of this field by one, in the place of the first; appends when it was absent. */
  set(name: string, value: string): void {
    const key = name.toLowerCase()
    if (this.whole !== null) this.takeApart(this.whole)
    for (let index = 0; index < this.size; index++) {
      if (this.keys[index] !== key) continue
      this.ownNames[index] = name
      this.ownValues[index] = value
      this.origin = null
      if (index < this.checked) this.checked = index
      this.removeFrom(index + 1, key)
      return
    }
    this.push(key, name, value)
  }

  /** As `set` with each of these fields and the number that it has now. */
  setNumbers(fields: NumberFields): void {
    const { names, numbers } = fields
    for (let index = 0; index < names.length; index++) this.set(names[index] as string, fields.text(index, numbers[index] as number))
  }

  /** Removes all lines of this field; true if there was one. `key` is lower-case. */
  remove(key: string): boolean {
    return this.removeFrom(0, key)
  }

  private removeFrom(start: number, key: string): boolean {
    if (this.whole !== null) this.takeApart(this.whole)
    const { checked, ownKeys, ownNames, ownValues } = this
    let write = start
    for (let read = start; read < this.size; read++) {
      if (ownKeys[read] === key) {
        if (read < checked) this.checked--
        continue
      }
      if (write !== read) {
        ownKeys[write] = ownKeys[read] as string
        ownNames[write] = ownNames[read] as string
        ownValues[write] = ownValues[read] as string
      }
      write++
    }
    const removed = write !== this.size
    if (removed) this.origin = null
    this.size = write
    return removed
  }
}
