/** Lua scripts, read once from beside this module. Each script's contract (KEYS, ARGV, returns) is in its head. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

export interface Script {
  readonly name: string
  readonly source: string
  /** What EVALSHA names it by. */
  readonly sha: string
}

function read(name: string): string {
  return readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), 'utf8')
}

/** Loads `lua/<name>.lua` behind its libraries. Throws when one is not there: a broken installation. For start, not for requests. */
export function loadScript(name: string, libraries: readonly string[] = []): Script {
  const source = [...libraries, name].map(read).join('\n')
  return Object.freeze({ name, source, sha: createHash('sha1').update(source).digest('hex') })
}

export interface Scripts {
  readonly decide: Script
  readonly decideAll: Script
  readonly undo: Script
  readonly take: Script
  readonly giveBack: Script
  readonly release: Script
  readonly nodes: Script
}

export function loadScripts(): Scripts {
  return {
    decide: loadScript('decide', ['rules']),
    decideAll: loadScript('decide-all', ['rules']),
    undo: loadScript('give-back', ['rules']),
    take: loadScript('lease-take', ['rules']),
    giveBack: loadScript('lease-return'),
    release: loadScript('release'),
    nodes: loadScript('nodes'),
  }
}
