/**
 * What plugin unit tests prepare and link with: the gateway's own variables, templates, expressions and patterns; time and the log
 * are recorded instead of real.
 */
import { Ajv } from 'ajv'
import { AddressSet } from '../../src/base/address-set.js'
import { compilePattern } from '../../src/base/pattern.js'
import { compileExpression } from '../../src/dataplane/vars/expression.js'
import { compileKeyTemplate } from '../../src/dataplane/vars/key-template.js'
import { compileTemplate } from '../../src/dataplane/vars/template.js'
import { compileVariable } from '../../src/dataplane/vars/variables.js'
import { specProblem } from '../../src/limits/problem.js'
import {
  type AnyPlugin,
  type BoundLimiter,
  type Json,
  type LimiterSpec,
  type LinkKit,
  PluginConfigError,
  type PluginInstance,
  type PluginProblem,
  type PrepareKit,
  type RedisDefaults,
  type RouteInfo,
} from '../../src/plugins/plugin.js'
import { createLimiterRegion } from '../../src/shared/limiter-layout.js'
import { LocalLimiterStore } from '../../src/shared/limiter-store.js'

/** The store of `local` limits as tests want it: its own small table, its time told by the test. */
export class FakeLimits {
  /** Wall clock, milliseconds since the epoch. */
  nowMs = 1_700_000_040_000
  private readonly store = new LocalLimiterStore(
    createLimiterRegion({ members: 1, cells: 2_000, logEntries: 40_000, seed: [1, 2] }),
    0,
    () => this.nowMs,
  )

  bind(spec: LimiterSpec): BoundLimiter {
    return this.store.bind(spec)
  }
}

export interface FakeLinkKit extends LinkKit {
  /** Store of the kit's limiters, whatever store the spec names. */
  readonly limits: FakeLimits
  /** The same kit: plugins of one chain are linked with it. */
  forPlugin(name: string): LinkKit
  /** Delays asked for so far, milliseconds. They have passed at once. */
  readonly delays: number[]
  readonly logged: string[]
}

export function linkKit(route: RouteInfo | null = null, limits = new FakeLimits()): FakeLinkKit {
  const delays: number[] = []
  const logged: string[] = []
  let slots = 0
  const kit: FakeLinkKit = {
    route,
    delays,
    logged,
    limits,
    limiter: (spec) => limits.bind(spec),
    forPlugin: () => kit,
    variable: compileVariable,
    template: compileTemplate,
    keyTemplate: compileKeyTemplate,
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
  return kit
}

export interface FakePrepareOptions {
  readonly metadata?: Json
  readonly attributes?: Json
  readonly tlsPorts?: readonly number[]
  /** Ids of the upstreams that exist, in the order of their indexes; inline ones come behind. */
  readonly upstreams?: readonly string[]
  readonly owner?: string
  readonly redis?: RedisDefaults
}

export function prepareKit(options: FakePrepareOptions = {}): PrepareKit {
  const upstreams = [...(options.upstreams ?? [])]
  const owner = options.owner ?? 'routes/1'
  const shared = new Map<string, string>()
  return {
    owner,
    redis: options.redis ?? null,
    limiter(spec) {
      const problem = specProblem(spec)
      if (problem !== null) throw new PluginConfigError(problem)
      return spec
    },
    conflict(name, value) {
      const text = JSON.stringify(value)
      const first = shared.get(name)
      if (first === undefined) shared.set(name, text)
      return first === undefined || first === text ? null : owner
    },
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
  if (problems.some((problem) => problem.isWarning !== true))
    throw new Error(problems.map(({ path, message }) => `${path}: ${message}`).join('; '))
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
