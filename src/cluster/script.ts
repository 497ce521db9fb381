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

/** Codes of rules in the scripts: the table in lua/rules.lua. */
export type Code = 'fc' | 'ff' | 'fm' | 'fy' | 'sw' | 'sl' | 'tb' | 'lb' | 'cc'

/** Parts that rules of a code need behind rules.lua. */
const partsOf: { readonly [code in Code]: readonly string[] } = {
  fc: ['rules-stored', 'rules-fixed'],
  ff: ['rules-stored', 'rules-fixed'],
  fm: ['rules-stored', 'rules-calendar', 'rules-fixed'],
  fy: ['rules-stored', 'rules-calendar', 'rules-fixed'],
  sw: ['rules-stored', 'rules-sliding'],
  sl: ['rules-log'],
  tb: ['rules-stored', 'rules-bucket'],
  lb: ['rules-stored', 'rules-bucket'],
  cc: ['rules-concurrency'],
}
const parts = ['rules-stored', 'rules-calendar', 'rules-fixed', 'rules-sliding', 'rules-log', 'rules-bucket', 'rules-concurrency']

/**
 * One script in the form that each set of rules needs. Redis makes all functions of a script anew for each call, which costs more than
 * the decision: so a script has no more of them than its rules use. At most one form for each set of parts, 64.
 */
export class RuleScript {
  private readonly forms = new Map<string, Script>()

  /** `shortcut`: a script that does the same for one rule of these codes alone. */
  constructor(
    private readonly name: string,
    private readonly shortcut: { readonly codes: readonly Code[]; readonly script: Script } | null = null,
  ) {}

  /** For calls with rules of these codes. */
  of(codes: readonly Code[]): Script {
    const [only] = codes
    if (this.shortcut !== null && only !== undefined && codes.length === 1 && this.shortcut.codes.includes(only))
      return this.shortcut.script
    const needed = new Set<string>()
    for (const code of codes) for (const part of partsOf[code]) needed.add(part)
    const libraries = parts.filter((part) => needed.has(part))
    const key = libraries.join(' ')
    const known = this.forms.get(key)
    if (known !== undefined) return known
    const made = loadScript(this.name, ['rules', ...libraries])
    this.forms.set(key, made)
    return made
  }
}

export interface Scripts {
  readonly decide: RuleScript
  readonly decideAll: RuleScript
  readonly undo: Script
  readonly take: RuleScript
  readonly giveBack: Script
  readonly release: Script
  readonly nodes: Script
}

export function loadScripts(): Scripts {
  return {
    decide: new RuleScript('decide', { codes: ['fc', 'ff'], script: loadScript('decide-fixed') }),
    decideAll: new RuleScript('decide-all'),
    undo: loadScript('give-back', ['rules', 'rules-stored']),
    take: new RuleScript('lease-take'),
    giveBack: loadScript('lease-return'),
    release: loadScript('release'),
    nodes: loadScript('nodes'),
  }
}
