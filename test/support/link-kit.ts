/**
 * What plugin unit tests prepare and link with: the gateway's own variables, templates, expressions and patterns; time and the log
 * are recorded instead of real.
 */
import { Ajv } from 'ajv'
import { WorkerTokens } from '../../src/auth/worker-tokens.js'
import { AddressSet } from '../../src/base/address-set.js'
import { systemClock } from '../../src/base/clock.js'
import { compilePattern } from '../../src/base/pattern.js'
import { limitAlone, type QueuePlace } from '../../src/dataplane/limits/limit-group.js'
import { HttpClients } from '../../src/dataplane/outbound/http-clients.js'
import { compileExpression } from '../../src/dataplane/vars/expression.js'
import { compileKeyTemplate } from '../../src/dataplane/vars/key-template.js'
import { compileTemplate } from '../../src/dataplane/vars/template.js'
import { compileVariable } from '../../src/dataplane/vars/variables.js'
import { specProblem } from '../../src/limits/problem.js'
import {
  type AnyPlugin,
  type BoundLimiter,
  type Consumer,
  type Credential,
  type CredentialIndex,
  type Json,
  type KeySetSpec,
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
import { createRevocationsRegion } from '../../src/shared/revocations.js'
import { FakeBreakers } from './fake-breakers.js'

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
  readonly tokens: WorkerTokens
  /** The shared table of revocations that `tokens` reads. */
  readonly revocations: SharedArrayBuffer
  /** Store of the kit's limiters, whatever store the spec names. */
  readonly limits: FakeLimits
  readonly circuits: FakeBreakers
  /** The same kit: plugins of one chain are linked with it. */
  forPlugin(name: string): LinkKit
  /** As `delay`, for the waits that limits ask for. */
  queue(ms: number): QueuePlace
  fork(): FakeLinkKit
  /** What authentication plugins find. */
  readonly consumers: FakeConsumers
  /** Delays asked for so far, milliseconds. They have passed at once. */
  readonly delays: number[]
  readonly logged: string[]
}

/** A consumer as configured; what is absent is empty. */
export function fakeConsumer(fields: Partial<Consumer> & { readonly username: string }): Consumer {
  const { username, id = username, labels = {}, customId = labels['custom_id'] ?? '', groupId = '', groups = [] } = fields
  return Object.freeze({ username, id, customId, groupId, labels, groups })
}

/** Consumers and credentials in memory. */
export class FakeConsumers {
  private readonly byName = new Map<string, Consumer>()
  private readonly byKey = new Map<string, Credential>()

  add(consumer: Partial<Consumer> & { readonly username: string }): Consumer {
    const known = fakeConsumer(consumer)
    this.byName.set(known.username, known)
    return known
  }

  /** Checks, prepares and links `conf` as the gateway does. `username`: a consumer that was added, or is added by this. */
  addCredential(plugin: AnyPlugin, username: string, conf: Json, id = ''): Credential {
    const definition = plugin.credential
    if (definition === undefined) throw new Error(`plugin ${plugin.name} has no credentials`)
    const consumer = this.byName.get(username) ?? this.add({ username })
    const { filled, problems } = validate(definition, conf)
    throwProblems(problems)
    const owner = id === '' ? `consumers/${username}` : `consumers/${username}/credentials/${id}`
    const prepared: Json = JSON.parse(JSON.stringify(definition.prepare(filled, { owner })))
    const key: unknown = Reflect.get(Object(filled), definition.key)
    if (typeof key !== 'string') throw new Error(`property "${definition.key}" of the credential is no string`)
    const credential: Credential = Object.freeze({ id, key, consumer, conf: definition.link(prepared) })
    this.byKey.set(`${plugin.name} ${key}`, credential)
    return credential
  }

  credentials<Linked>(plugin: string): CredentialIndex<Linked> {
    return { find: (key) => (this.byKey.get(`${plugin} ${key}`) ?? null) as Credential<Linked> | null }
  }

  consumer(username: string): Consumer | null {
    return this.byName.get(username) ?? null
  }
}

/** `plugins`: those that plugins under test may hold (`LinkKit.plugin`). */
export function linkKit(
  route: RouteInfo | null = null,
  limits = new FakeLimits(),
  consumers = new FakeConsumers(),
  plugins: readonly AnyPlugin[] = [],
): FakeLinkKit {
  const revocations = createRevocationsRegion([1, 2], 1_024)
  const tokens = new WorkerTokens({
    revocations,
    clock: systemClock,
    askForKeys: () => undefined,
    log: () => undefined,
  })
  const delays: number[] = []
  const logged: string[] = []
  const states = new Map<string, unknown>()
  const circuits = new FakeBreakers()
  let slots = 0
  const kit: FakeLinkKit = {
    route,
    delays,
    logged,
    limits,
    circuits,
    consumers,
    consumer: (username) => consumers.consumer(username),
    credentials: () => {
      throw new Error('link with forPlugin(name): credentials belong to a plugin')
    },
    plugin(name, prepared) {
      const plugin = plugins.find((one) => one.name === name)
      if (plugin === undefined) throw new Error(`plugin ${name} is not among those given to linkKit`)
      return limitAlone(plugin.link(prepared, kit.forPlugin(name)), kit.slot(), kit.queue)
    },
    limiter: (spec) => limits.bind(spec),
    workerState: () => {
      throw new Error('link with forPlugin(name): states belong to a plugin')
    },
    // Of the kit that it is called on: tests replace parts of it.
    forPlugin(name) {
      return {
        ...this,
        credentials: () => consumers.credentials(name),
        workerState: <State>(create: () => State) => {
          if (!states.has(name)) states.set(name, create())
          return states.get(name) as State
        },
      }
    },
    breakers: (spec) => circuits.bind(spec),
    pathBreakers: (settings) => circuits.bindPaths(settings),
    fork: () => kit,
    variable: compileVariable,
    template: compileTemplate,
    keyTemplate: compileKeyTemplate,
    expression: compileExpression,
    pattern: compilePattern,
    addressSet: (items) => AddressSet.of(items),
    slot: () => slots++,
    tokens,
    revocations,
    http: (settings) => new HttpClients().client(settings),
    queue: (ms) => {
      delays.push(ms)
      return { over: Promise.resolve(), leave: () => undefined }
    },
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
  /** Gets what `PrepareKit.keySet` announces. */
  readonly keySets?: KeySetSpec[]
  /** Plugins that the one under test may hold (`PrepareKit.plugin`). */
  readonly plugins?: readonly AnyPlugin[]
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
    keySet: (spec) => void options.keySets?.push(spec),
    conflict(name, value) {
      const text = JSON.stringify(value)
      const first = shared.get(name)
      if (first === undefined) shared.set(name, text)
      return first === undefined || first === text ? null : owner
    },
    plugin(name, conf, path) {
      const plugin = options.plugins?.find((one) => one.name === name)
      if (plugin === undefined) throw new PluginConfigError(`unknown plugin [${name}]`, `${path}.${name}`)
      const { filled, problems } = validate(plugin, conf)
      throwProblems(problems)
      return JSON.parse(JSON.stringify(plugin.prepare(filled, prepareKit(options))))
    },
    authenticates: (name) => options.plugins?.find((one) => one.name === name)?.credential !== undefined,
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

/** Validates, prepares and links, as the gateway does; throws when validation finds problems. A limit is decided in `access`, alone. */
export function linkPlugin(
  plugin: AnyPlugin,
  conf: Json,
  kit: LinkKit & Partial<Pick<FakeLinkKit, 'queue'>> & { readonly forPlugin?: (name: string) => LinkKit } = linkKit(),
  prepare: PrepareKit = prepareKit(),
): PluginInstance {
  const { filled, problems } = validate(plugin, conf)
  throwProblems(problems)
  const prepared: Json = JSON.parse(JSON.stringify(plugin.prepare(filled, prepare)))
  return limitAlone(plugin.link(prepared, kit.forPlugin?.(plugin.name) ?? kit), kit.slot(), kit.queue ?? noQueue)
}

function noQueue(): QueuePlace {
  throw new Error('give linkPlugin a kit with a queue: a limit asks for a wait')
}

function throwProblems(problems: readonly PluginProblem[]): void {
  if (problems.some((problem) => problem.isWarning !== true))
    throw new Error(problems.map(({ path, message }) => `${path}: ${message}`).join('; '))
}

function validate(plugin: Pick<AnyPlugin, 'schema' | 'check'>, conf: Json): { filled: Json; problems: PluginProblem[] } {
  const filled = structuredClone(conf)
  const check = ajv.compile(plugin.schema)
  if (check(filled)) return { filled, problems: plugin.check(filled) }
  const problems = (check.errors ?? []).map((error) => ({
    path: error.instancePath.slice(1).replaceAll('/', '.'),
    message: error.message ?? error.keyword,
  }))
  return { filled, problems }
}
