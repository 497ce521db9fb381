/** Checks and prepares the confs of credentials: a quick way for those that are plain and right, the full way for all others. */
import { type AnyCredential, type AnyPlugin, PluginConfigError } from '../plugins/plugin.js'
import type { Json } from '../schema/compiled.js'
import type { DocumentPath } from './load-issue.js'
import { isReference } from './secrets.js'
import { asRecord, checkConf, optionPath, type PluginChecks } from './validate-plugins.js'
import { schemaProblems } from './validate-schema.js'

/** A conf as it is stored; `isOff`: `_meta.disable` is set. */
export interface PreparedCredential {
  readonly key: string
  readonly conf: Json
  readonly isOff: boolean
}

export class CredentialConfs {
  private readonly known: ReadonlySet<string>
  private readonly secretFields: readonly string[]
  private readonly name: string

  constructor(
    plugin: AnyPlugin,
    private readonly definition: AnyCredential,
    /** Index among the plugins with credentials. */
    readonly index: number,
    private readonly checks: PluginChecks,
    private readonly referencesOnly: boolean,
  ) {
    this.name = plugin.name
    this.known = new Set(Object.keys(definition.schema.properties))
    this.secretFields = secretFields(this.known, definition.key)
  }

  get keyField(): string {
    return this.definition.key
  }

  /** What is wrong is among the issues, and the answer null. `pathOf` is asked only then. */
  read(raw: unknown, owner: string, pathOf: () => DocumentPath): PreparedCredential | null {
    const { definition } = this
    const options = asRecord(raw)
    let conf = this.quickly(options)
    let isOff = false
    if (conf === null) {
      const path = pathOf()
      if (!this.checkReferences(options, path)) return null
      const checked = checkConf(definition, this.name, options, path, this.checks)
      if (checked === null) return null
      isOff = checked.meta.disable === true
      if (Object.keys(checked.meta).some((name) => name !== 'disable')) {
        const message = 'of _meta only disable has an effect on credentials'
        this.checks.issues.warn([...path, '_meta'], message, 'no _meta', { atKey: true })
      }
      conf = asRecord(checked.conf)
    }
    try {
      const key = conf[definition.key]
      if (typeof key !== 'string') throw new PluginConfigError('it must be a text', definition.key)
      return { key, conf: definition.prepare(conf, { owner }), isOff }
    } catch (error) {
      this.report(error, pathOf())
      return null
    }
  }

  /** The conf with its defaults, or null when it needs the full way: nested, with references, unknown options or errors. */
  private quickly(options: { readonly [name: string]: Json }): { [name: string]: Json } | null {
    if (this.referencesOnly) return null
    for (const name in options) {
      const value = options[name]
      if (!this.known.has(name) || typeof value === 'object') return null
      if (typeof value === 'string' && isReference(value)) return null
    }
    const conf = { ...options }
    if (schemaProblems(this.definition.schema, conf, true).length > 0) return null
    return this.definition.check(conf).length > 0 ? null : conf
  }

  private checkReferences(options: { readonly [name: string]: Json }, path: DocumentPath): boolean {
    if (!this.referencesOnly) return true
    const open = this.secretFields.filter((field) => typeof options[field] === 'string' && !isReference(options[field]))
    for (const field of open) {
      this.checks.issues.error(
        [...path, field],
        'the secret stands in the file, but sluice.secrets.references_only is set',
        'a reference: $env://NAME or $secret://file/path',
      )
    }
    return open.length === 0
  }

  private report(error: unknown, path: DocumentPath): void {
    const { issues } = this.checks
    if (error instanceof Error && error.name === 'PluginConfigError' && 'path' in error && typeof error.path === 'string') {
      issues.error([...path, ...optionPath(error.path)], error.message, '')
      return
    }
    // Texts of unexpected errors may repeat what they were given.
    const kind = error instanceof RangeError ? 'it is too large' : 'its prepare failed'
    issues.error(path, `the credential of plugin ${this.name} cannot be prepared: ${kind}`, 'a credential that it accepts', { atKey: true })
  }
}

/** Options that must not stand in the file where references are demanded; the key itself where it is the only secret. */
function secretFields(fields: ReadonlySet<string>, key: string): readonly string[] {
  const secrets = [...fields].filter((field) => /secret|password|private/i.test(field) && !/^(?:base64|is|has)_|_is_/i.test(field))
  return secrets.length > 0 ? secrets : [key]
}
