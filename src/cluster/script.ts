/** Lua scripts, read once from beside this module. Each script's contract (KEYS, ARGV, returns) is in its head. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

export interface Script {
  readonly name: string
  readonly source: string
  /** What EVALSHA names it by. */
  readonly sha: string
}

/** Loads `lua/<name>.lua`. Throws when it is not there: a broken installation. Called at start, never per request. */
export function loadScript(name: string): Script {
  const source = readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), 'utf8')
  return Object.freeze({ name, source, sha: createHash('sha1').update(source).digest('hex') })
}
