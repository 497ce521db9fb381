/** Templates whose result names something (the key of a counter): nothing is named when no variable of the template has a value. */
import type { Accessor } from '../../plugins/plugin.js'
import { parseTemplate } from '../../schema/template.js'
import { compileVariable } from './variables.js'

/** As compileTemplate, but undefined when the template has variables and all of them are unset or empty. */
export function compileKeyTemplate(text: string): Accessor {
  const pieces = parseTemplate(text).map((part) => {
    if (part.kind === 'text') return { text: part.text, read: null, fallback: '' }
    const name = part.kind === 'variable' ? part.name : String(part.index)
    return { text: '', read: compileVariable(name), fallback: part.kind === 'variable' ? part.fallback : '' }
  })
  if (pieces.every((piece) => piece.read === null)) {
    const constant = pieces.map((piece) => piece.text).join('')
    return () => constant
  }
  return (exchange) => {
    let output = ''
    let isNamed = false
    for (const { text: literal, read, fallback } of pieces) {
      if (read === null) {
        output += literal
        continue
      }
      const value = read(exchange) || fallback
      if (value !== '') isNamed = true
      output += value
    }
    return isNamed ? output : undefined
  }
}
