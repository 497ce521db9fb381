/**
 * Patterns that meet hostile input: linear time, or refused when they are compiled.
 *
 * A pattern runs on JavaScript's own RegExp when `isLinear` proves that safe, else on RE2. Look-around exists only in the former,
 * so a pattern that needs it and is not provably safe is refused.
 */
import { RE2JS } from 're2js'
import { isLinear } from './pattern-safety.js'
import { parsePatternSyntax, writePattern } from './pattern-syntax.js'

/** Full match at 0, groups after it. */
export type RegExpLikeMatch = readonly (string | undefined)[]

export interface Pattern {
  test(input: string): boolean
  exec(input: string): RegExpLikeMatch | null
  /** Replaces the first match, or all; `$1`…`$9` and `$0` in the replacement, `$$` for a dollar. */
  replace(input: string, replacement: string, all: boolean): string
}

const maxPatternLength = 4096

/** Compiles a pattern (PCRE spelling). Throws Error with a text that names what is not supported. */
export function compilePattern(source: string, options: { readonly ignoreCase?: boolean } = {}): Pattern {
  if (source.length > maxPatternLength) throw new Error(`invalid pattern: ${source.length} characters; use at most ${maxPatternLength}`)
  const parsed = parsePatternSyntax(source, options.ignoreCase === true)
  const text = writePattern(parsed.tree)
  if (!parsed.unicode && isLinear(parsed)) {
    const flags = (parsed.ignoreCase ? 'i' : '') + (parsed.dotAll ? 's' : '') + (parsed.multiline ? 'm' : '')
    return new NativePattern(new RegExp(text, flags), new RegExp(text, `g${flags}`))
  }
  if (parsed.lookaround) {
    throw new Error(
      `pattern ${JSON.stringify(source)} cannot be matched in linear time: look-around ((?=, (?!, (?<=, (?<!) is supported only ` +
        'without unbounded repetition around it; anchor the pattern with ^ or write it without look-around',
    )
  }
  let flags = 0
  if (parsed.ignoreCase) flags |= RE2JS.CASE_INSENSITIVE
  if (parsed.dotAll) flags |= RE2JS.DOTALL
  if (parsed.multiline) flags |= RE2JS.MULTILINE
  try {
    return new LinearPattern(RE2JS.compile(text, flags))
  } catch (error) {
    throw new Error(`invalid pattern ${JSON.stringify(source)}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** The text of what is wrong with a pattern, or null. */
export function patternProblem(source: string): string | null {
  try {
    compilePattern(source)
    return null
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

class NativePattern implements Pattern {
  constructor(
    private readonly first: RegExp,
    private readonly every: RegExp,
  ) {}

  test(input: string): boolean {
    return this.first.test(input)
  }

  exec(input: string): RegExpLikeMatch | null {
    return this.first.exec(input)
  }

  replace(input: string, replacement: string, all: boolean): string {
    return input.replace(all ? this.every : this.first, (...found: unknown[]) => expandReplacement(replacement, found))
  }
}

class LinearPattern implements Pattern {
  constructor(private readonly compiled: RE2JS) {}

  test(input: string): boolean {
    return this.compiled.test(input)
  }

  exec(input: string): RegExpLikeMatch | null {
    const matcher = this.compiled.matcher(input)
    if (!matcher.find()) return null
    return this.groups((index) => matcher.group(index))
  }

  replace(input: string, replacement: string, all: boolean): string {
    const matcher = this.compiled.matcher(input)
    let output = ''
    let copied = 0
    while (matcher.find()) {
      output +=
        input.slice(copied, matcher.start()) +
        expandReplacement(
          replacement,
          this.groups((index) => matcher.group(index)),
        )
      copied = matcher.end()
      if (!all) break
    }
    return output + input.slice(copied)
  }

  private groups(read: (index: number) => string | null): (string | undefined)[] {
    const found: (string | undefined)[] = []
    for (let index = 0; index <= this.compiled.groupCount(); index++) found.push(read(index) ?? undefined)
    return found
  }
}

/** Groups that did not take part, and numbers beyond the last group, are empty. */
function expandReplacement(replacement: string, groups: readonly unknown[]): string {
  if (!replacement.includes('$')) return replacement
  return replacement.replace(/\$(?:([0-9])|\$)/g, (_, digit: string | undefined) => {
    if (digit === undefined) return '$'
    const value = groups[Number(digit)]
    return typeof value === 'string' ? value : ''
  })
}
