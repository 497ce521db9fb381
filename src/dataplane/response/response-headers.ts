/**
 * The header fields of an answer under construction, taken apart only when somebody looks.
 *
 * What an upstream or a plugin gave stays the text it came as; fields that are set and not in it are put behind it. Most answers that
 * only get a few fields more (rate limits, request ids) thus never become a list. Any other access fills the list first.
 */
import { HeaderList } from '../../base/headers.js'
import type { NumberFields } from '../../base/number-fields.js'
import { byStatus, reasonPhrase } from '../../base/status.js'
import { fillHeaderList, lacksField, lacksFields, type ResponseHead, textOfHead } from '../upstream/response-head.js'

type Pairs = readonly (readonly [string, string])[]

/** Whatever cannot stand in a line as it is: such fields take the way through the list. */
const unusual = /[^\t\x20-\x7e]/
/** Up to this length a loop is quicker than the expression. */
const SHORT_VALUE = 24
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
/** How a field name looks in the lower-case text of a block; names of plugins are few and constant. */
const needles = new Map<string, string>()
const NEEDLES_MAX = 1000

function isUnusual(value: string): boolean {
  const { length } = value
  if (length > SHORT_VALUE) return unusual.test(value)
  for (let index = 0; index < length; index++) {
    const code = value.charCodeAt(index)
    if ((code < 0x20 && code !== 9) || code > 0x7e) return true
  }
  return false
}

function needleOf(name: string): string {
  let needle = needles.get(name)
  if (needle === undefined) {
    needle = `\r\n${name.toLowerCase()}:`
    if (needles.size < NEEDLES_MAX) needles.set(name, needle)
  }
  return needle
}

/** How the line of a field begins, the end of the line before it included. */
const lineStarts = new Map<string, string>()

function lineStartOf(name: string): string {
  let start = lineStarts.get(name)
  if (start === undefined) {
    start = `\r\n${name}: `
    if (lineStarts.size < NEEDLES_MAX) lineStarts.set(name, start)
  }
  return start
}

/** Fields that the writer and the binding write, whoever else sets them. */
function isFraming(name: string): boolean {
  switch (name.length) {
    case 4:
    case 10:
    case 14:
    case 17: {
      // Most names of these lengths are others: the first letter tells.
      const first = name.charCodeAt(0) | 0x20
      if (first !== 0x63 /* c */ && first !== 0x64 /* d */ && first !== 0x6b /* k */ && first !== 0x74 /* t */) return false
      const key = name.toLowerCase()
      return key === 'date' || key === 'connection' || key === 'keep-alive' || key === 'content-length' || key === 'transfer-encoding'
    }
  }
  return false
}

function isSameName(a: string, b: string): boolean {
  return a === b || (a.length === b.length && a.toLowerCase() === b.toLowerCase())
}

export class ResponseHeaders extends HeaderList {
  private head: ResponseHead | null = null
  private pairs: Pairs | null = null
  /** Content-Type in front of the pairs; empty = none. */
  private contentType = ''
  /** Fields behind those above. A name that is empty stands for a group of fields, whose value are its lines. */
  private readonly addedNames: string[] = []
  private readonly addedValues: string[] = []
  private readonly addedGroups: (NumberFields | null)[] = []
  private addedCount = 0
  /** The numbers of the first group, while it is all that was added: its lines are written only if somebody wants text. */
  private onlyNumbers = new Float64Array(8)
  private hasOnlyNumbers = false

  override reset(): void {
    super.reset()
    this.head = null
    this.pairs = null
    this.addedCount = 0
    this.hasOnlyNumbers = false
  }

  /** Begins with the fields of an upstream's answer. */
  fromHead(head: ResponseHead): void {
    this.reset()
    this.head = head
  }

  /** Begins with the fields of an answer of the gateway. */
  fromPairs(pairs: Pairs, contentType = ''): void {
    this.reset()
    this.pairs = pairs
    this.contentType = contentType
  }

  override get count(): number {
    this.fill()
    return this.size
  }

  override push(key: string, name: string, value: string): void {
    this.fill()
    super.push(key, name, value)
  }

  override get(key: string): string | undefined {
    this.fill()
    return super.get(key)
  }

  override has(key: string): boolean {
    const { head, pairs } = this
    if (head === null && pairs === null) return super.has(key)
    for (let index = 0; index < this.addedCount; index++) if (this.isAdded(index, key)) return true
    if (head !== null) {
      if (lacksField(head, key, needleOf)) return false
    } else if (!this.isGiven(key)) return false
    this.fill()
    return super.has(key)
  }

  override getAll(key: string): string[] {
    this.fill()
    return super.getAll(key)
  }

  override remove(key: string): boolean {
    this.fill()
    return super.remove(key)
  }

  override set(name: string, value: string): void {
    if (this.canAppend(name, value)) {
      if (this.hasOnlyNumbers) this.writeNumbers()
      this.addedNames[this.addedCount] = name
      this.addedGroups[this.addedCount] = null
      this.addedValues[this.addedCount++] = value
      return
    }
    this.fill()
    super.set(name, value)
  }

  override setNumbers(fields: NumberFields): void {
    if (this.canAppendGroup(fields)) {
      if (this.hasOnlyNumbers) this.writeNumbers()
      this.addedNames[this.addedCount] = ''
      this.addedGroups[this.addedCount] = fields
      if (this.addedCount++ === 0) this.keepNumbers(fields)
      else this.addedValues[this.addedCount - 1] = fields.lines(fields.numbers)
      return
    }
    this.fill()
    super.setNumbers(fields)
  }

  private keepNumbers(fields: NumberFields): void {
    const { numbers } = fields
    if (this.onlyNumbers.length < numbers.length) this.onlyNumbers = new Float64Array(numbers.length)
    for (let index = 0; index < numbers.length; index++) this.onlyNumbers[index] = numbers[index] as number
    this.hasOnlyNumbers = true
  }

  private writeNumbers(): void {
    this.hasOnlyNumbers = false
    const [fields] = this.addedGroups
    if (fields !== null && fields !== undefined) this.addedValues[0] = fields.lines(this.onlyNumbers)
  }

  /** Status line and fields for `writeStatus`, if nobody took the fields apart and the status is still theirs; null otherwise. */
  block(status: number): string | null {
    const { head, pairs } = this
    if (this.hasOnlyNumbers) this.writeNumbers()
    let text: string | null = null
    if (head !== null) text = head.status === status ? textOfHead(head) : null
    else if (pairs !== null)
      text = this.addedCount === 0 ? blockOf(status, this.contentType, pairs) : linesOf(startOf(status, this.contentType), pairs)
    if (text === null) return null
    for (let index = 0; index < this.addedCount; index++) {
      const name = this.addedNames[index] as string
      if (name !== '') text += lineStartOf(name)
      text += this.addedValues[index] as string
    }
    return text
  }

  /**
   * The same as bytes, if the head of an upstream got nothing but one group of numbers; null otherwise. Valid until the next answer with
   * that group.
   */
  bytes(status: number): Uint8Array | null {
    const { head } = this
    if (head === null || !this.hasOnlyNumbers || head.status !== status) return null
    return this.addedGroups[0]?.behind(head.block, this.onlyNumbers) ?? null
  }

  private canAppend(name: string, value: string): boolean {
    if ((this.head === null && this.pairs === null) || isUnusual(value) || isFraming(name)) return false
    for (let index = 0; index < this.addedCount; index++) if (this.isAdded(index, name)) return false
    if (this.head !== null) return lacksField(this.head, name, needleOf)
    return !this.isGiven(name)
  }

  /** Whether an answer of the gateway begins with a field of this name. */
  private isGiven(name: string): boolean {
    if (this.contentType !== '' && name.length === 12 && name.toLowerCase() === 'content-type') return true
    const key = needleOf(name)
    for (const [given] of this.pairs ?? []) if (given.length === name.length && needleOf(given) === key) return true
    return false
  }

  private canAppendGroup(fields: NumberFields): boolean {
    const { head, pairs } = this
    if ((head === null && pairs === null) || !fields.isPlain) return false
    for (let index = 0; index < this.addedCount; index++) {
      for (const name of fields.names) if (this.isAdded(index, name)) return false
    }
    if (head !== null) return lacksFields(head, fields, needleOf)
    for (const [given] of pairs ?? []) if (fields.has(given)) return false
    return true
  }

  private isAdded(index: number, name: string): boolean {
    const group = this.addedGroups[index]
    return group === null || group === undefined ? isSameName(this.addedNames[index] as string, name) : group.has(name)
  }

  private fill(): void {
    const { head, pairs } = this
    if (head === null && pairs === null) return
    this.head = null
    this.pairs = null
    if (this.hasOnlyNumbers) this.writeNumbers()
    if (head !== null) fillHeaderList(head, this)
    if (pairs !== null && this.contentType !== '') super.add('Content-Type', this.contentType)
    for (const [name, value] of pairs ?? []) super.add(name, value)
    for (let index = 0; index < this.addedCount; index++)
      this.fillAdded(this.addedNames[index] as string, this.addedValues[index] as string)
    this.addedCount = 0
  }

  private fillAdded(name: string, value: string): void {
    if (name !== '') {
      super.set(name, value)
      return
    }
    for (const line of value.split('\r\n')) {
      const colon = line.indexOf(': ')
      if (colon > 0) super.set(line.slice(0, colon), line.slice(colon + 2))
    }
  }
}

const statusLines = byStatus<string>()

/** `200 OK` */
export function statusLine(status: number): string {
  let line = statusLines[status]
  if (line === undefined) {
    line = `${status} ${reasonPhrase(status)}`
    statusLines[status] = line
  }
  return line
}

/** Status lines with a Content-Type behind them, by type and status: answers of the gateway are few. */
const starts = new Map<string, (string | undefined)[]>()

function startOf(status: number, contentType: string): string {
  if (contentType === '') return statusLine(status)
  let ofType = starts.get(contentType)
  if (ofType === undefined) {
    ofType = byStatus()
    starts.set(contentType, ofType)
  }
  let start = ofType[status]
  if (start === undefined) {
    start = `${statusLine(status)}\r\nContent-Type: ${contentType}`
    ofType[status] = start
  }
  return start
}

/** Whether a name may stand in a line as it is: a token, and not framing. Names of plugins are few and constant. */
const usableNames = new Map<string, boolean>()

function isUsable(name: string): boolean {
  let usable = usableNames.get(name)
  if (usable === undefined) {
    usable = token.test(name) && !isFraming(name)
    if (usableNames.size < NEEDLES_MAX) usableNames.set(name, usable)
  }
  return usable
}

const KEPT_BLOCK_MAX = 1024
/** The last short answer of the gateway with each status: most are the same again. */
const lastBlocks = byStatus<{ readonly contentType: string; readonly names: string[]; readonly values: string[]; readonly text: string }>()

function blockOf(status: number, contentType: string, pairs: Pairs): string | null {
  const last = lastBlocks[status]
  if (last !== undefined && last.contentType === contentType && isSame(pairs, last.names, last.values)) return last.text
  const text = linesOf(startOf(status, contentType), pairs)
  if (text !== null && text.length <= KEPT_BLOCK_MAX) {
    lastBlocks[status] = { contentType, names: pairs.map((pair) => pair[0]), values: pairs.map((pair) => pair[1]), text }
  }
  return text
}

function isSame(pairs: Pairs, names: readonly string[], values: readonly string[]): boolean {
  if (pairs.length !== names.length) return false
  for (let index = 0; index < names.length; index++) {
    const pair = pairs[index]
    if (pair === undefined || pair[0] !== names[index] || pair[1] !== values[index]) return false
  }
  return true
}

function linesOf(start: string, pairs: Pairs): string | null {
  let lines = start
  for (const pair of pairs) {
    const name = pair[0]
    const value = pair[1]
    // What cannot go out like this is dropped or cleaned on the way through the list.
    if (!isUsable(name) || isUnusual(value)) return null
    lines += `\r\n${name}: ${value}`
  }
  return lines
}
