/** `${{NAME}}` and `${{NAME:=default}}` in texts of a configuration. */

export type Environment = { readonly [name: string]: string | undefined }

export interface Substituted {
  readonly text: string
  /** What went wrong, without values. */
  readonly problems: readonly { readonly message: string; readonly expected: string }[]
}

const referenceForms = `\${{NAME}} or \${{NAME:=default}}`
const reference = /\$\{\{(.*?)\}\}/gs
const content = /^\s*([A-Za-z_][A-Za-z0-9_]*)\s*(?::=(.*))?$/s

/** Fills in every reference of `text`. A variable that is not set and has no default is a problem and becomes the empty text. */
export function substitute(text: string, env: Environment): Substituted {
  const problems: { message: string; expected: string }[] = []
  const filled = text.replace(reference, (_whole, inner: string) => {
    const parts = content.exec(inner)
    if (parts === null) {
      problems.push({ message: `malformed reference to the environment`, expected: referenceForms })
      return ''
    }
    const name = parts[1] ?? ''
    const value = Object.hasOwn(env, name) ? env[name] : undefined
    if (value !== undefined) return value
    if (parts[2] !== undefined) return parts[2].trim()
    problems.push({
      message: `environment variable ${name} is not set`,
      expected: `a value for ${name}, or a default: \${{${name}:=default}}`,
    })
    return ''
  })
  if (problems.length === 0 && filled === text && text.includes('${{')) {
    problems.push({ message: 'a reference to the environment is not closed', expected: referenceForms })
  }
  return { text: filled, problems }
}

/** What an unquoted text means after substitution: numbers and booleans become such, everything else stays text. */
export function retype(text: string): string | number | boolean {
  if (text === 'true') return true
  if (text === 'false') return false
  if (/^[+-]?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(text)) {
    const value = Number(text)
    if (Number.isFinite(value)) return value
  }
  return text
}
