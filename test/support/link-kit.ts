/**
 * What plugin unit tests prepare and link with: the gateway's own variables, templates, expressions and patterns; time and the log
 * are recorded instead of real.
 */
import { Ajv } from 'ajv'
import { AddressSet } from '../../src/base/address-set.js'
import { compilePattern } from '../../src/base/pattern.js'
import { compileExpression } from '../../src/dataplane/vars/expression.js'
import { compileTemplate } from '../../src/dataplane/vars/template.js'
import { compileVariable } from '../../src/dataplane/vars/variables.js'
import {
  type AnyPlugin,
  type Json,
  type LinkKit,
  PluginConfigError,
  type PluginInstance,
  type PluginProblem,
  type PrepareKit,
  type RouteInfo,
} from '../../src/plugins/plugin.js'

export interface FakeLinkKit extends LinkKit {
  /** Delays asked for so far, milliseconds. They have passed at once. */
  readonly delays: number[]
  readonly logged: string[]
}

export function linkKit(route: RouteInfo | null = null): FakeLinkKit {
  const delays: number[] = []
  const logged: string[] = []
  let slots = 0
  return {
    route,
    delays,
    logged,
    variable: compileVariable,
    template: compileTemplate,
    expression: compileExpression,
    pattern: compilePattern,
    addressSet: (items) => AddressSet.of(items),
    slot: () => slots++,
    delay: (ms) => {
      delays.push(ms)
      return Promise.resolve()
    },
    log: (level, message) => {
      logged.push(`${level}: ${message}`)
    },
  }
}

export interface FakePrepareOptions {
  readonly metadata?: Json
  readonly attributes?: Json
  readonly tlsPorts?: readonly number[]
  /** Ids of the upstreams that exist, in the order of their indexes; inline ones come behind. */
  readonly upstreams?: readonly string[]
}

export function prepareKit(options: FakePrepareOptions = {}): PrepareKit {
  const upstreams = [...(options.upstreams ?? [])]
  return {
    owner: 'routes/1',
    metadata: options.metadata ?? null,
    attributes: options.attributes ?? null,
    tlsPorts: options.tlsPorts ?? [],
    upstream(reference) {
      if ('inline' in reference) return upstreams.push(JSON.stringify(reference.inline)) - 1
      const index = upstreams.indexOf(reference.id)
      if (index < 0) throw new PluginConfigError(`upstream "${reference.id}" does not exist`)
      return index
    },
  }
}

const ajv = new Ajv({ allErrors: true, strict: false, useDefaults: true })

/** What validation says about a conf: schema errors, or the plugin's own problems once the schema passed. */
export function problemsOf(plugin: AnyPlugin, conf: Json): PluginProblem[] {
  return validate(plugin, conf).problems
}

/** Validates, prepares and links, as the gateway does; throws when validation finds problems. */
export function linkPlugin(plugin: AnyPlugin, conf: Json, kit: LinkKit = linkKit(), prepare: PrepareKit = prepareKit()): PluginInstance {
  const { filled, problems } = validate(plugin, conf)
  if (problems.length > 0) throw new Error(problems.map(({ path, message }) => `${path}: ${message}`).join('; '))
  const prepared: Json = JSON.parse(JSON.stringify(plugin.prepare(filled, prepare)))
  return plugin.link(prepared, kit)
}

function validate(plugin: AnyPlugin, conf: Json): { filled: Json; problems: PluginProblem[] } {
  const filled = structuredClone(conf)
  const check = ajv.compile(plugin.schema)
  if (check(filled)) return { filled, problems: plugin.check(filled) }
  const problems = (check.errors ?? []).map((error) => ({
    path: error.instancePath.slice(1).replaceAll('/', '.'),
    message: error.message ?? error.keyword,
  }))
  return { filled, problems }
}
