/**
 * The guide that this gateway implements, and its configurations as they stand in it. The text is not part of the repository: it is looked
 * for beside the checkout, or where SLUICE_GUIDE says.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const beside = fileURLToPath(new URL('../../../shared/seed', import.meta.url))

/** Null when the guide is not on this machine. */
export function readGuide(place = process.env['SLUICE_GUIDE'] ?? beside): string | null {
  if (!existsSync(place)) return null
  if (statSync(place).isFile()) return readFileSync(place, 'utf8')
  const files = readdirSync(place).filter((name) => name.endsWith('.txt'))
  return files.length === 0 ? null : files.map((name) => readFileSync(join(place, name), 'utf8')).join('\n')
}

const firstLine = /^(_format_version|routes|upstreams|plugins|plugin_attr|version|services):/
const laterLine = /^(\s|#|$|\w+:(\s|$))/

/** The YAML documents of the guide, in its order. */
export function guideConfigurations(guide: string): string[] {
  const found: string[] = []
  let current: string[] | null = null
  for (const line of guide.split('\n')) {
    if (current === null ? firstLine.test(line) : laterLine.test(line)) {
      current ??= []
      current.push(line)
    } else if (current !== null) {
      found.push(endOf(current))
      current = null
    }
  }
  return found
}

/** Without the blank lines and comments behind it, which belong to what follows. */
function endOf(lines: string[]): string {
  while (/^(\s*|#.*)$/.test(lines.at(-1) ?? 'x')) lines.pop()
  return `${lines.join('\n')}\n`
}

/** The one configuration that contains `text`. */
export function configurationWith(guide: string, text: string): string {
  const found = guideConfigurations(guide).filter((configuration) => configuration.includes(text))
  if (found.length !== 1 || found[0] === undefined) throw new Error(`${found.length} configurations of the guide contain ${text}`)
  return found[0]
}

/** The request of the guide that puts a route: path and JSON body. */
export function guideAdminRequest(guide: string): { readonly path: string; readonly body: string } {
  const found = /curl -X PUT http:\/\/[^/]+(\/\S+).*?-d '(\{.*?\n {2}\})'/s.exec(guide)
  if (found?.[1] === undefined || found[2] === undefined) throw new Error('the guide has no request for the Admin API')
  return { path: found[1], body: found[2] }
}
