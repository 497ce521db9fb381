/**
 * Reads the plain part of YAML that programs write and people mostly write: block maps and lists, flow maps and lists on one line,
 * quoted texts without escapes, words, whole numbers. Some twenty times as fast as a whole YAML parser.
 *
 * It never guesses: whatever it does not know for certain (escapes, anchors, tags, several lines of text, tabs, odd numbers, repeated
 * keys, references to the environment, errors) makes it give up with `notSimple`, and a real parser reads that text.
 */

export const notSimple = Symbol('not simple YAML')

/** Longer lines are not looked at: in YAML a key may not stand at any distance from its colon. */
const lineMax = 900
const depthMax = 50

const sticky = (source: string): RegExp => new RegExp(source, 'y')
const doubleQuoted = sticky('"([ !#-\\[\\]-~\\u00a0-\\ud7ff]*)"')
const singleQuoted = sticky("'([ -&(-~\\u00a0-\\ud7ff]*)'")
/** Texts, numbers and addresses without quotes; in a flow collection nothing that could end or extend it. */
const plainInBlock = sticky('[A-Za-z0-9_/$^](?:[\\w/.*$^+=@()~-]|:(?=[\\w/.*])| (?=[\\w/.]))*')
const plainInFlow = sticky('[A-Za-z0-9_/](?:[\\w/.*-]|:(?=[\\w/.*]))*')
const plainKey = sticky('[A-Za-z_][\\w-]*')
const colon = sticky(':(?= |\\n|$)')
const spaces = sticky(' *')
/** What may follow a value on its line. */
const lineEnd = sticky('(?: +#[^\\n]*| *)(?:\\n|$)')

/** Words that stand for something else than themselves, in any case. */
const specialWord = /^(?:true|false|null)$/i
const wholeNumber = /^(?:0|[1-9]\d{0,14})$/
const address = /^\d{1,3}(?:\.\d{1,3}){3}(?:[:/]\d{1,5})?$/

class GiveUp extends Error {}
const giveUp = new GiveUp('not simple YAML')

/** The list that is the whole of `text`, or `notSimple`. */
export function readSimpleList(text: string): unknown[] | typeof notSimple {
  if (/[\t\r]|\$\{\{/.test(text)) return notSimple
  try {
    return new SimpleReader(text).wholeList()
  } catch (error) {
    if (error === giveUp) return notSimple
    throw error
  }
}

type SimpleMap = { [key: string]: unknown }

class SimpleReader {
  /** Where the next line begins, and how far it is indented; -1 = there is none. */
  private at = 0
  private indent = 0

  constructor(private readonly text: string) {
    this.nextLine(0)
  }

  wholeList(): unknown[] {
    if (this.indent < 0 || !this.isItem()) throw giveUp
    const list = this.list(this.indent, 0)
    if (this.indent >= 0) throw giveUp
    return list
  }

  /** Goes to the first character of the next line that holds more than a comment. */
  private nextLine(from: number): void {
    const { text } = this
    let line = from
    while (line < text.length) {
      let at = line
      while (text.charCodeAt(at) === 32) at++
      const code = text.charCodeAt(at)
      if (at < text.length && code !== 10 && code !== 35 /* # */) {
        const end = text.indexOf('\n', at)
        if ((end === -1 ? text.length : end) - line > lineMax) throw giveUp
        this.at = at
        this.indent = at - line
        return
      }
      const end = text.indexOf('\n', at)
      line = end === -1 ? text.length : end + 1
    }
    this.at = text.length
    this.indent = -1
  }

  private isItem(): boolean {
    return this.text.charCodeAt(this.at) === 45 /* - */ && this.text.charCodeAt(this.at + 1) === 32
  }

  private list(indent: number, depth: number): unknown[] {
    if (depth > depthMax) throw giveUp
    const items: unknown[] = []
    while (this.indent === indent && this.isItem()) {
      const start = this.take(spaces, this.at + 1)
      const column = indent + start - this.at
      this.at = start
      if (this.startsKey()) {
        this.indent = column
        items.push(this.map(column, depth + 1))
      } else items.push(this.scalarLine())
    }
    if (this.indent > indent) throw giveUp
    return items
  }

  /** Whether a key and its colon are next; nothing is consumed. */
  private startsKey(): boolean {
    const code = this.text.charCodeAt(this.at)
    const pattern = code === 34 ? doubleQuoted : code === 39 ? singleQuoted : plainKey
    const end = this.tryTake(pattern, this.at)
    return end !== -1 && this.tryTake(colon, end) !== -1
  }

  private map(indent: number, depth: number): SimpleMap {
    if (depth > depthMax) throw giveUp
    const map: SimpleMap = {}
    while (this.indent === indent && !this.isItem()) {
      const key = this.key()
      if (Object.hasOwn(map, key)) throw giveUp
      const start = this.take(spaces, this.at)
      const end = this.tryTake(lineEnd, this.at)
      if (end === -1) {
        this.at = start
        map[key] = this.scalarLine()
        continue
      }
      this.nextLine(end)
      if (this.indent > indent) map[key] = this.isItem() ? this.list(this.indent, depth + 1) : this.map(this.indent, depth + 1)
      else if (this.indent === indent && this.isItem()) map[key] = this.list(indent, depth + 1)
      else map[key] = null
    }
    if (this.indent > indent) throw giveUp
    return map
  }

  private key(): string {
    const start = this.at
    const code = this.text.charCodeAt(start)
    const quoted = code === 34 || code === 39
    const end = this.take(code === 34 ? doubleQuoted : code === 39 ? singleQuoted : plainKey, start)
    const key = quoted ? this.text.slice(start + 1, end - 1) : this.text.slice(start, end)
    if (specialWord.test(key) || key === '__proto__') throw giveUp
    this.at = this.take(colon, end)
    return key
  }

  /** A value that ends with its line. A deeper line after it would continue it: whoever called sees that and gives up. */
  private scalarLine(): unknown {
    const value = this.value(plainInBlock, 0)
    this.nextLine(this.take(lineEnd, this.at))
    return value
  }

  private value(plain: RegExp, depth: number): unknown {
    const { text, at } = this
    switch (text.charCodeAt(at)) {
      case 34 /* " */:
        this.at = this.take(doubleQuoted, at)
        return text.slice(at + 1, this.at - 1)
      case 39 /* ' */:
        this.at = this.take(singleQuoted, at)
        return text.slice(at + 1, this.at - 1)
      case 91 /* [ */:
        return this.flowList(depth + 1)
      case 123 /* { */:
        return this.flowMap(depth + 1)
    }
    this.at = this.take(plain, at)
    return plainValue(text.slice(at, this.at))
  }

  private flowList(depth: number): unknown[] {
    if (depth > depthMax) throw giveUp
    const items: unknown[] = []
    this.at = this.take(spaces, this.at + 1)
    while (!this.closes(93 /* ] */)) {
      items.push(this.value(plainInFlow, depth))
      this.comma(93)
    }
    return items
  }

  private flowMap(depth: number): SimpleMap {
    if (depth > depthMax) throw giveUp
    const map: SimpleMap = {}
    this.at = this.take(spaces, this.at + 1)
    while (!this.closes(125 /* } */)) {
      const key = this.key()
      if (Object.hasOwn(map, key)) throw giveUp
      this.at = this.take(spaces, this.at)
      map[key] = this.value(plainInFlow, depth)
      this.comma(125)
    }
    return map
  }

  private closes(bracket: number): boolean {
    if (this.text.charCodeAt(this.at) !== bracket) return false
    this.at++
    return true
  }

  /** A comma with something behind it, or the closing bracket, which is left for the caller. */
  private comma(bracket: number): void {
    this.at = this.take(spaces, this.at)
    if (this.text.charCodeAt(this.at) === bracket) return
    if (this.text.charCodeAt(this.at) !== 44 /* , */) throw giveUp
    this.at = this.take(spaces, this.at + 1)
  }

  private take(pattern: RegExp, from: number): number {
    const end = this.tryTake(pattern, from)
    if (end === -1) throw giveUp
    return end
  }

  private tryTake(pattern: RegExp, from: number): number {
    pattern.lastIndex = from
    return pattern.test(this.text) ? pattern.lastIndex : -1
  }
}

function plainValue(word: string): unknown {
  const code = word.charCodeAt(0)
  if (code >= 48 && code <= 57) {
    if (wholeNumber.test(word)) return Number(word)
    if (address.test(word)) return word
    throw giveUp
  }
  if (!specialWord.test(word)) return word
  if (word === 'true') return true
  if (word === 'false') return false
  if (word === 'null') return null
  throw giveUp
}
