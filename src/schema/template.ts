/**
 * Templates in option values: `$name`, `${name}`, `${name ?? default}`; `\$` is a literal dollar. With `captures`, also `$0` … `$9`
 * and `${0}` … for what a pattern captured. Variables that are unset become the default, else nothing.
 */
import { variableProblem } from './variable-name.js'

export type TemplatePart =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'variable'; readonly name: string; readonly fallback: string }
  | { readonly kind: 'capture'; readonly index: number }

const token = /\\\$|\$(?:([A-Za-z_]\w*)|([0-9])|\{\s*([\w.-]+)\s*(?:\?\?([^}]*))?\})/g

/** Parses a template. Throws Error for variables that cannot be had. A dollar that starts no name is itself. */
export function parseTemplate(text: string, options: { readonly captures?: boolean } = {}): TemplatePart[] {
  const parts: TemplatePart[] = []
  let literal = ''
  let copied = 0
  for (const found of text.matchAll(token)) {
    literal += text.slice(copied, found.index)
    copied = found.index + found[0].length
    if (found[0] === '\\$') {
      literal += '$'
      continue
    }
    const name = found[1] ?? found[2] ?? found[3] ?? ''
    if (literal !== '') parts.push({ kind: 'text', text: literal })
    literal = ''
    if (options.captures === true && /^[0-9]$/.test(name)) {
      parts.push({ kind: 'capture', index: Number(name) })
      continue
    }
    const problem = variableProblem(name)
    if (problem !== null) throw new Error(`template ${JSON.stringify(text)}: ${problem}`)
    parts.push({ kind: 'variable', name, fallback: found[4]?.trim() ?? '' })
  }
  literal += text.slice(copied)
  if (literal !== '' || parts.length === 0) parts.push({ kind: 'text', text: literal })
  return parts
}

/** The text of what is wrong with a template, or null. */
export function templateProblem(text: string): string | null {
  try {
    parseTemplate(text)
    return null
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
