/**
 * Reads a pattern in the spelling of users (PCRE, as nginx and APISIX take it) into a small tree, and writes it back in a spelling
 * that means the same to JavaScript's RegExp and to RE2. What neither can do is refused here by name.
 */

/** Bits 0…127: ASCII characters; bit 128: any other character. Over-approximation is allowed, under-approximation never. */
export type CharMask = bigint

export type PatternNode =
  | { readonly kind: 'set'; readonly source: string; readonly mask: CharMask }
  | { readonly kind: 'start' }
  | { readonly kind: 'end' }
  | { readonly kind: 'boundary'; readonly source: string }
  | { readonly kind: 'group'; readonly open: string; readonly body: PatternTree }
  | { readonly kind: 'look'; readonly open: string; readonly body: PatternTree }
  | { readonly kind: 'repeat'; readonly node: PatternNode; readonly min: number; readonly max: number; readonly lazy: boolean }

/** Alternatives, each a sequence. */
export type PatternTree = readonly (readonly PatternNode[])[]

export interface ParsedPattern {
  readonly tree: PatternTree
  readonly ignoreCase: boolean
  readonly dotAll: boolean
  readonly multiline: boolean
  /** Uses `\p{…}` or characters beyond U+FFFF: only RE2 reads these alike. */
  readonly unicode: boolean
  readonly lookaround: boolean
}

export const allMask: CharMask = (1n << 129n) - 1n
export const newlineMask: CharMask = 1n << 10n
export const digitMask = rangeMask(48, 57)
export const wordMask = digitMask | rangeMask(65, 90) | rangeMask(97, 122) | rangeMask(95, 95)
const spaceMask = rangeMask(9, 13) | rangeMask(32, 32) | (1n << 128n)
const blankMask = rangeMask(9, 9) | rangeMask(32, 32)

const maxDepth = 50
const maxRepeat = 1000

/** Names of POSIX classes with what they stand for inside brackets. */
const posixClasses: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  blank: '\\t ',
  cntrl: '\\x00-\\x1f\\x7f',
  digit: '0-9',
  graph: '!-~',
  lower: 'a-z',
  print: ' -~',
  punct: '!-\\/:-@\\[-`{-~',
  space: '\\t\\n\\v\\f\\r ',
  upper: 'A-Z',
  word: '0-9A-Za-z_',
  xdigit: '0-9A-Fa-f',
}

/** Inclusive range of character codes. */
export function rangeMask(from: number, to: number): CharMask {
  let mask = to > 127 ? 1n << 128n : 0n
  const last = Math.min(to, 127)
  if (from <= last) mask |= ((1n << BigInt(last - from + 1)) - 1n) << BigInt(from)
  return mask
}

/** Writes a literal character so that both engines read it as itself. */
function literal(char: string): string {
  const code = char.charCodeAt(0)
  if (code < 32 || code === 127) return `\\x${code.toString(16).padStart(2, '0')}`
  return /[\\^$.*+?()[\]{}|/-]/.test(char) ? `\\${char}` : char
}

/** Parses a pattern. Throws Error naming what is wrong, where, and what would be right. */
export function parsePatternSyntax(source: string, ignoreCase: boolean): ParsedPattern {
  return new Parser(source, ignoreCase).parse()
}

class Parser {
  private position = 0
  private depth = 0
  private dotAll = false
  private multiline = false
  private unicode = false
  private lookaround = false

  constructor(
    private readonly source: string,
    private ignoreCase: boolean,
  ) {}

  parse(): ParsedPattern {
    this.leadingFlags()
    const tree = this.alternatives()
    if (this.position < this.source.length) this.fail('unmatched )', 'escape it as \\)')
    const { ignoreCase, dotAll, multiline, unicode, lookaround } = this
    return { tree, ignoreCase, dotAll, multiline, unicode, lookaround }
  }

  private fail(what: string, instead: string): never {
    throw new Error(`invalid pattern ${JSON.stringify(this.source)}: ${what} at character ${this.position + 1}; ${instead}`)
  }

  private peek(text: string): boolean {
    return this.source.startsWith(text, this.position)
  }

  private take(text: string): boolean {
    if (!this.peek(text)) return false
    this.position += text.length
    return true
  }

  /** `(?i)`, `(?s)`, `(?m)` or several letters, only at the very start. */
  private leadingFlags(): void {
    for (;;) {
      const found = /^\(\?([a-z]+)\)/.exec(this.source.slice(this.position))
      if (found === null) return
      for (const flag of found[1] as string) {
        if (flag === 'i') this.ignoreCase = true
        else if (flag === 's') this.dotAll = true
        else if (flag === 'm') this.multiline = true
        else if (flag !== 'u') this.fail(`flag (?${flag}) is not supported`, 'use i, s or m')
      }
      this.position += found[0].length
    }
  }

  private alternatives(): PatternTree {
    if (++this.depth > maxDepth) this.fail(`groups are nested deeper than ${maxDepth}`, 'simplify the pattern')
    const tree: PatternNode[][] = []
    let sequence: PatternNode[] = []
    while (this.position < this.source.length && !this.peek(')')) {
      if (this.take('|')) {
        tree.push(sequence)
        sequence = []
      } else if (this.take('\\Q')) {
        const end = this.source.indexOf('\\E', this.position)
        const stop = end < 0 ? this.source.length : end
        while (this.position < stop) sequence.push(this.char())
        this.take('\\E')
      } else {
        sequence.push(this.repeated(this.atom()))
      }
    }
    tree.push(sequence)
    this.depth--
    return tree
  }

  private repeated(node: PatternNode): PatternNode {
    const found = /^(?:[*+?]|\{(\d+)(,?)(\d*)\})/.exec(this.source.slice(this.position, this.position + 20))
    if (found === null) return node
    if (node.kind === 'start' || node.kind === 'end' || node.kind === 'boundary' || node.kind === 'look') {
      this.fail('a quantifier after something that has no width', 'remove it')
    }
    const sign = found[0]
    let min = sign === '+' ? 1 : 0
    let max = sign === '?' ? 1 : Number.POSITIVE_INFINITY
    if (found[1] !== undefined) {
      min = Number(found[1])
      max = found[2] === '' ? min : found[3] === '' ? Number.POSITIVE_INFINITY : Number(found[3])
      if (max < min) this.fail(`quantifier ${sign} counts down`, 'write the smaller number first')
      if (min > maxRepeat || (max !== Number.POSITIVE_INFINITY && max > maxRepeat)) {
        this.fail(`quantifier ${sign} is too large`, `use at most ${maxRepeat}`)
      }
    }
    this.position += sign.length
    if (this.peek('+')) this.fail(`possessive quantifier ${sign}+ is not supported`, `use ${sign}: matching takes linear time anyway`)
    const lazy = this.take('?')
    if (/^[*+?]/.test(this.source.slice(this.position))) this.fail('a quantifier after a quantifier', 'put the first into a group')
    return { kind: 'repeat', node, min, max, lazy }
  }

  private char(): PatternNode {
    const point = this.source.codePointAt(this.position) as number
    const char = String.fromCodePoint(point)
    if (point > 0xffff) this.unicode = true
    this.position += char.length
    return { kind: 'set', source: char.length > 1 ? char : literal(char), mask: rangeMask(point, point) }
  }

  private atom(): PatternNode {
    if (this.take('^')) return { kind: 'start' }
    if (this.take('$')) return { kind: 'end' }
    if (this.take('.')) return { kind: 'set', source: '.', mask: this.dotAll ? allMask : allMask & ~newlineMask }
    if (this.peek('(')) return this.group()
    if (this.peek('[')) return this.charClass()
    if (this.peek('\\')) return this.escape()
    if (/^[*+?]/.test(this.source.slice(this.position))) this.fail('a quantifier with nothing before it', 'escape it with \\')
    return this.char()
  }

  private group(): PatternNode {
    this.position++
    let open = '('
    let look = false
    if (this.take('?')) {
      const name = /^P?<([A-Za-z_]\w*)>/.exec(this.source.slice(this.position))
      const sign = /^(?:<?[=!])/.exec(this.source.slice(this.position))
      if (name !== null) {
        open = `(?<${name[1]}>`
        this.position += name[0].length
      } else if (sign !== null) {
        open = `(?${sign[0]}`
        look = true
        this.lookaround = true
        this.position += sign[0].length
      } else if (this.take(':')) open = '(?:'
      else if (this.peek('>')) this.fail('atomic group (?>…) is not supported', 'use (?:…)')
      else if (this.peek('#')) this.fail('comment (?#…) is not supported', 'remove it')
      else if (/^[a-z-]+[:)]/.test(this.source.slice(this.position))) {
        this.fail('flags in the middle are not supported', 'put (?i) at the start of the pattern')
      } else this.fail('this kind of group (recursion, condition or back-reference) is not supported', 'use (…) or (?:…)')
    } else if (this.peek('*')) this.fail('verbs (*…) are not supported', 'remove it')
    const body = this.alternatives()
    if (!this.take(')')) this.fail('unclosed (', 'add )')
    return look ? { kind: 'look', open, body } : { kind: 'group', open, body }
  }

  private escape(): PatternNode {
    const char = this.source[this.position + 1]
    if (char === undefined) this.fail('a single \\ at the end', 'write \\\\ for a backslash')
    if (char === 'A' || char === 'z' || char === 'Z') {
      this.position += 2
      if (this.multiline) this.fail(`\\${char} together with (?m) is not supported`, 'use one of them')
      return { kind: char === 'A' ? 'start' : 'end' }
    }
    if (char === 'b' || char === 'B') {
      this.position += 2
      return { kind: 'boundary', source: `\\${char}` }
    }
    if (/[1-9]/.test(char) || char === 'k' || char === 'g') {
      this.fail(`back-reference \\${char} is not supported`, 'it cannot be matched in linear time; write the alternatives out')
    }
    if (char === 'N') {
      this.position += 2
      return { kind: 'set', source: '[^\\n]', mask: allMask & ~newlineMask }
    }
    const item = this.escapedItem()
    return { kind: 'set', source: item.bare, mask: item.mask }
  }

  /** An escape that stands for characters, valid inside and outside of brackets. `code` is -1 for a whole set. */
  private escapedItem(): { bare: string; inside: string; mask: CharMask; code: number } {
    const rest = this.source.slice(this.position, this.position + 40)
    const one = (code: number, length: number) => {
      this.position += length
      if (code > 0xffff) this.unicode = true
      const text = code > 0xffff ? String.fromCodePoint(code) : literal(String.fromCharCode(code))
      return { bare: text, inside: text, mask: rangeMask(code, code), code }
    }
    const many = (bare: string, inside: string, mask: CharMask, length: number) => {
      this.position += length
      return { bare, inside, mask, code: -1 }
    }
    const hex = /^\\(?:x([0-9a-fA-F]{2})|x\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4}))/.exec(rest)
    if (hex !== null) {
      const code = Number.parseInt(hex[1] ?? hex[2] ?? hex[3] ?? '', 16)
      if (code > 0x10ffff) this.fail(`${hex[0]} is beyond Unicode`, 'use at most \\x{10FFFF}')
      return one(code, hex[0].length)
    }
    const property = /^\\[pP](?:\{\^?[A-Za-z_]+\}|[A-Z])/.exec(rest)
    if (property !== null) {
      this.unicode = true
      return many(property[0], property[0], allMask, property[0].length)
    }
    const char = this.source[this.position + 1] ?? ''
    const controls: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, f: 12, v: 11, a: 7, e: 27, '0': 0 }
    const control = controls[char]
    if (control !== undefined) {
      if (char === '0' && /[0-9]/.test(this.source[this.position + 2] ?? '')) this.fail('octal escapes are not supported', 'use \\xHH')
      return one(control, 2)
    }
    if (char === 'd') return many('\\d', '\\d', digitMask, 2)
    if (char === 'D') return many('\\D', '\\D', allMask & ~digitMask, 2)
    if (char === 'w') return many('\\w', '\\w', wordMask, 2)
    if (char === 'W') return many('\\W', '\\W', allMask & ~wordMask, 2)
    if (char === 's') return many('\\s', '\\s', spaceMask, 2)
    if (char === 'S') return many('\\S', '\\S', allMask & ~(spaceMask & ((1n << 128n) - 1n)), 2)
    if (char === 'h') return many('[\\t ]', '\\t ', blankMask, 2)
    if (/[A-Za-z0-9]/.test(char)) this.fail(`\\${char} is not supported`, `write ${char} without \\, or spell the characters out`)
    const point = this.source.codePointAt(this.position + 1)
    if (point === undefined) this.fail('a single \\ at the end', 'write \\\\ for a backslash')
    return one(point, 1 + String.fromCodePoint(point).length)
  }

  private charClass(): PatternNode {
    this.position++
    const negated = this.take('^')
    let inside = ''
    let mask: CharMask = 0n
    for (let first = true; ; first = false) {
      if (this.position >= this.source.length) this.fail('unclosed [', 'add ]')
      if (this.peek(']') && !first) break
      const posix = /^\[:(\^?)([a-z]+):\]/.exec(this.source.slice(this.position, this.position + 12))
      if (posix !== null) {
        const spelled = posixClasses[posix[2] as string]
        if (spelled === undefined || posix[1] !== '') this.fail(`class ${posix[0]} is not supported`, 'spell the characters out')
        inside += spelled
        mask |= rangeMask(0, 127)
        this.position += posix[0].length
        continue
      }
      if (this.peek('[.') || this.peek('[=')) this.fail('collating elements are not supported', 'escape the bracket as \\[')
      const from = this.classItem()
      if (this.peek('-') && !this.peek('-]') && from.code >= 0) {
        this.position++
        const to = this.classItem()
        if (to.code < 0) this.fail('a range that ends in a class', 'escape the - as \\-')
        if (to.code < from.code) this.fail('a range that counts down', 'write the smaller character first')
        inside += `${from.inside}-${to.inside}`
        mask |= rangeMask(from.code, to.code)
      } else {
        inside += from.inside
        mask |= from.mask
      }
    }
    this.position++
    if (!negated) return { kind: 'set', source: `[${inside}]`, mask }
    // Which characters beyond ASCII remain is not tracked: all may. POSIX classes are over-approximated, so nothing is taken away.
    const certain = inside === '' ? 0n : this.exactAscii(inside)
    return { kind: 'set', source: `[^${inside}]`, mask: allMask & ~certain }
  }

  /** The ASCII characters that a class certainly contains, asked from RegExp itself. */
  private exactAscii(inside: string): CharMask {
    if (/\\[pP]/.test(inside)) return 0n
    const probe = new RegExp(`[${inside}]`, 'u')
    let mask = 0n
    for (let code = 0; code < 128; code++) if (probe.test(String.fromCharCode(code))) mask |= 1n << BigInt(code)
    return mask
  }

  private classItem(): { inside: string; mask: CharMask; code: number } {
    if (this.peek('\\b')) {
      this.position += 2
      return { inside: '\\x08', mask: rangeMask(8, 8), code: 8 }
    }
    if (this.peek('\\')) return this.escapedItem()
    const point = this.source.codePointAt(this.position)
    if (point === undefined) this.fail('unclosed [', 'add ]')
    const char = String.fromCodePoint(point)
    if (point > 0xffff) this.unicode = true
    this.position += char.length
    return { inside: char.length > 1 ? char : literal(char), mask: rangeMask(point, point), code: point }
  }
}

/** The pattern's text for both engines; flags are passed beside it. */
export function writePattern(tree: PatternTree): string {
  return tree.map((sequence) => sequence.map(writeNode).join('')).join('|')
}

function writeNode(node: PatternNode): string {
  if (node.kind === 'start') return '^'
  if (node.kind === 'end') return '$'
  if (node.kind === 'set' || node.kind === 'boundary') return node.source
  if (node.kind === 'group' || node.kind === 'look') return `${node.open}${writePattern(node.body)})`
  const { min, max } = node
  const inner = writeNode(node.node)
  const unbounded = max === Number.POSITIVE_INFINITY
  const sign = unbounded ? (min === 0 ? '*' : min === 1 ? '+' : `{${min},}`) : min === 0 && max === 1 ? '?' : `{${min},${max}}`
  return `${inner}${sign}${node.lazy ? '?' : ''}`
}
