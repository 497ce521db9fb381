/** Templates as closures: literal parts and accessors are found once, when a route is linked. */
import type { Exchange, RegExpLikeMatch, Template } from '../../plugins/plugin.js'
import { parseTemplate, type TemplatePart } from '../../schema/template.js'
import { compileVariable } from './variables.js'

type Piece = (exchange: Exchange, captures: RegExpLikeMatch | null | undefined) => string

/** Compiles a template. Throws Error for variables that are not supported. */
export function compileTemplate(text: string, options: { readonly captures?: boolean } = {}): Template {
  const pieces = parseTemplate(text, options).map(compilePart)
  const [only] = pieces
  if (only !== undefined && pieces.length === 1) return only
  return (exchange, captures) => {
    let output = ''
    for (const piece of pieces) output += piece(exchange, captures)
    return output
  }
}

function compilePart(part: TemplatePart): Piece {
  if (part.kind === 'text') {
    const { text } = part
    return () => text
  }
  if (part.kind === 'capture') {
    const { index } = part
    return (_, captures) => captures?.[index] ?? ''
  }
  const { fallback } = part
  const read = compileVariable(part.name)
  return (exchange) => read(exchange) ?? fallback
}
