/** Texts of a translated file: ids of its resources, and names and paths inside regular expressions. */
import { createHash } from 'node:crypto'

const idPattern = /^[a-zA-Z0-9_.-]{1,64}$/

/** Id of an entity: its name where that can be an id of ours, else a stable one that begins like it. */
export function resourceName(name: string): string {
  if (idPattern.test(name)) return name
  const start = name.replace(/[^a-zA-Z0-9_.-]+/g, '-').slice(0, 40)
  return `${start}-${createHash('sha256').update(name).digest('hex').slice(0, 12)}`
}

/** A regular expression that matches exactly this text. */
export function literalPattern(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}
