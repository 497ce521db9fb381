/**
 * Names of upstream nodes to addresses, in the primary, for all workers.
 *
 *   unknown ──answer──► known ──TTL over──► asked again ──answer──► known
 *      │ no answer                              │ no answer
 *      └─ asked again after 1, 2, 4 … 30 s      └─ the old addresses stay (stale), asked again in the same rhythm
 *
 * Every address of a name is a node of its own, with the weight of the configured node. A name without any address contributes no
 * nodes; the upstream stays, answers 503 when nothing else is left, and gets its nodes when the name is known. Literal addresses and
 * Unix sockets come with their address and are left as they are. Each name is asked once at a time, whoever needs it.
 */
import { lookup as systemLookup } from 'node:dns/promises'
import type { Clock } from '../base/clock.js'
import type { CompiledConfig, CompiledNode, CompiledUpstream } from '../schema/compiled.js'
import type { DnsConfig } from '../schema/process.js'
import { type Addresses, DnsQuery, type Lookup, type Resolution } from './dns-query.js'

/** Names are asked again at most once a second, whatever their TTL says. */
const TTL_FLOOR_MS = 1_000

/** Names from the hosts file have no TTL. */
const HOSTS_TTL_MS = 10_000

const RETRY_FIRST_MS = 1_000
const RETRY_MAX_MS = 30_000

/** Names asked at the same time: a large configuration must not flood the resolver, which would drop packets. */
const QUERIES_MAX = 64

export interface DnsResolverOptions extends DnsConfig {
  readonly clock: Clock
  readonly log: (level: 'info' | 'warn', message: string) => void
  /** Replaces the system's lookup (tests). */
  readonly lookup?: Lookup
}

export interface NodesUpdate {
  /** Index in the configuration that `resolveAll` returned last. */
  readonly upstream: number
  readonly nodes: CompiledNode[]
}

/** `config` is what `resolveAll` returned: the configuration that the indexes of `updates` belong to. */
export type NodesChanged = (updates: readonly NodesUpdate[], config: CompiledConfig) => void

interface Entry {
  readonly name: string
  addresses: Addresses | null
  /** Where the addresses are from: hosts file entries are looked up there again, resolver entries go stale. */
  source: 'resolver' | 'system' | null
  failures: number
  pending: Promise<void> | null
  cancelTimer: (() => void) | null
}

interface Tracked {
  /** Upstreams as they are configured. */
  readonly source: CompiledUpstream[]
  readonly result: CompiledConfig
}

const lookupAll: Lookup = (name) => systemLookup(name, { all: true, verbatim: true })

function isName(node: CompiledNode): boolean {
  return node.address === ''
}

function namesOf(upstreams: readonly CompiledUpstream[]): Set<string> {
  const names = new Set<string>()
  for (const { nodes } of upstreams) for (const node of nodes) if (isName(node)) names.add(node.host.toLowerCase())
  return names
}

function sameAddresses(left: Addresses | null, right: Addresses): boolean {
  return left !== null && left.v4.join() === right.v4.join() && left.v6.join() === right.v6.join()
}

/** `localhost` is never asked from a resolver (RFC 6761). */
function isLocal(name: string): boolean {
  return name === 'localhost' || name.endsWith('.localhost')
}

export class DnsResolver {
  private readonly query: DnsQuery
  private readonly entries = new Map<string, Entry>()
  private readonly listeners: NodesChanged[] = []
  private tracked: Tracked | null = null
  private running = 0
  private readonly waiting: (() => void)[] = []
  private isClosed = false

  constructor(private readonly options: DnsResolverOptions) {
    this.query = new DnsQuery(options, options.lookup ?? lookupAll)
  }

  /**
   * The configuration with an address in every node. Names that are known are answered at once; unknown ones are asked, which takes
   * about `timeoutMs` at most per 64 of them. Never rejects: names without an answer are logged and asked again later. From now on
   * changes are reported for this configuration, and names that it does not use are forgotten.
   */
  async resolveAll(config: CompiledConfig): Promise<CompiledConfig> {
    await this.learnNames(config.upstreams)
    const upstreams = config.upstreams.map((upstream) => this.expanded(upstream))
    const result: CompiledConfig = { ...config, upstreams }
    this.tracked = { source: [...config.upstreams], result }
    this.forgetUnused()
    return result
  }

  /** Asks for the names among the nodes of these upstreams that are not known; as for the rest, see `resolveAll`. */
  async learnNames(upstreams: readonly CompiledUpstream[]): Promise<void> {
    const unknown = [...namesOf(upstreams)].map((name) => this.entry(name)).filter((entry) => entry.addresses === null)
    await Promise.all(unknown.map((entry) => this.refresh(entry)))
  }

  /**
   * Puts upstreams in the places of others in the configuration that `resolveAll` returned last, whose upstreams change in place; from
   * now on changes are reported for these. Resolves nothing: see `learnNames`. Returns them with their addresses.
   */
  replace(upstreams: ReadonlyMap<number, CompiledUpstream>): Map<number, CompiledUpstream> {
    const { tracked } = this
    if (tracked === null) throw new Error('no configuration was resolved yet')
    const expanded = new Map<number, CompiledUpstream>()
    let hadNames = false
    for (const [index, upstream] of upstreams) {
      const before = tracked.source[index]
      hadNames ||= before !== undefined && before.nodes.some(isName)
      const one = this.expanded(upstream)
      tracked.source[index] = upstream
      tracked.result.upstreams[index] = one
      expanded.set(index, one)
    }
    if (hadNames) this.forgetUnused()
    return expanded
  }

  /** Names that the configuration does not use are not asked any more. */
  forgetUnused(): void {
    if (this.entries.size === 0) return
    const names = namesOf(this.tracked?.source ?? [])
    for (const entry of this.entries.values()) if (!names.has(entry.name)) this.forget(entry)
  }

  /** Calls `listener` whenever the addresses of a name in the latest configuration changed. */
  onChange(listener: NodesChanged): void {
    this.listeners.push(listener)
  }

  /** Ends all timers and queries; nothing is reported afterwards. */
  close(): void {
    this.isClosed = true
    for (const entry of this.entries.values()) this.forget(entry)
    this.query.cancel()
  }

  private entry(name: string): Entry {
    let entry = this.entries.get(name)
    if (entry === undefined) {
      entry = { name, addresses: null, source: null, failures: 0, pending: null, cancelTimer: null }
      this.entries.set(name, entry)
    }
    return entry
  }

  private forget(entry: Entry): void {
    entry.cancelTimer?.()
    entry.cancelTimer = null
    this.entries.delete(entry.name)
  }

  private expanded(upstream: CompiledUpstream): CompiledUpstream {
    return { ...upstream, nodes: this.expand(upstream.nodes) }
  }

  private expand(nodes: readonly CompiledNode[]): CompiledNode[] {
    return nodes.flatMap((node) => {
      if (!isName(node)) return [node]
      const addresses = this.entries.get(node.host.toLowerCase())?.addresses
      if (addresses === undefined || addresses === null) return []
      return [...addresses.v4, ...addresses.v6].map((address) => ({ ...node, address }))
    })
  }

  /** Asks once, and plans the next time. Whoever calls meanwhile waits for the same answer. */
  private refresh(entry: Entry): Promise<void> {
    entry.pending ??= this.ask(entry).finally(() => {
      entry.pending = null
    })
    return entry.pending
  }

  private async ask(entry: Entry): Promise<void> {
    await this.takeTurn()
    try {
      const { resolution, source } = await this.resolve(entry)
      this.learn(entry, resolution, source)
    } catch (error) {
      this.fail(entry, error instanceof Error ? error.message : String(error))
    } finally {
      this.running--
      this.waiting.shift()?.()
    }
  }

  private async takeTurn(): Promise<void> {
    while (this.running >= QUERIES_MAX) await new Promise<void>((resolve) => this.waiting.push(resolve))
    this.running++
  }

  private async resolve(entry: Entry): Promise<{ readonly resolution: Resolution; readonly source: 'resolver' | 'system' }> {
    if (isLocal(entry.name)) return { resolution: await this.askSystem(entry), source: 'system' }
    try {
      return { resolution: await this.query.askResolvers(entry.name), source: 'resolver' }
    } catch (error) {
      // A name that the resolvers knew before goes stale; the system would only ask the same resolvers again, and wait longer.
      if (entry.source === 'resolver') throw error
      const resolution = await this.askSystem(entry).catch(() => null)
      if (resolution === null) throw error
      return { resolution, source: 'system' }
    }
  }

  private async askSystem(entry: Entry): Promise<Resolution> {
    const found = await this.query.askSystem(entry.name)
    return { v4: found.v4, v6: found.v6, ttlMs: HOSTS_TTL_MS }
  }

  private learn(entry: Entry, resolution: Resolution, source: 'resolver' | 'system'): void {
    if (this.entries.get(entry.name) !== entry) return
    const known = entry.addresses
    const addresses = { v4: resolution.v4 ?? known?.v4 ?? [], v6: resolution.v6 ?? known?.v6 ?? [] }
    if (entry.failures > 0) this.options.log('info', `upstream name ${entry.name} resolves again`)
    const changed = !sameAddresses(known, addresses)
    entry.addresses = addresses
    entry.source = source
    entry.failures = 0
    const ttlMs = this.options.ttlMs > 0 ? this.options.ttlMs : resolution.ttlMs
    this.plan(entry, Math.max(TTL_FLOOR_MS, ttlMs))
    if (changed) this.report(entry.name)
  }

  private fail(entry: Entry, reason: string): void {
    if (this.entries.get(entry.name) !== entry) return
    const delayMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** entry.failures)
    // Once per outage, not per try.
    if (entry.failures === 0) {
      const consequence = entry.addresses === null ? 'it has no nodes until it does' : 'its last addresses are kept'
      this.options.log('warn', `upstream name ${entry.name} does not resolve (${reason}); ${consequence}`)
    }
    entry.failures++
    this.plan(entry, delayMs)
  }

  private plan(entry: Entry, delayMs: number): void {
    entry.cancelTimer?.()
    entry.cancelTimer = this.options.clock.after(delayMs, () => {
      entry.cancelTimer = null
      void this.refresh(entry)
    })
  }

  private report(name: string): void {
    const tracked = this.tracked
    if (tracked === null || this.isClosed) return
    const updates: NodesUpdate[] = []
    tracked.source.forEach((upstream, index) => {
      const uses = upstream.nodes.some((node) => isName(node) && node.host.toLowerCase() === name)
      if (uses) updates.push({ upstream: index, nodes: this.expand(upstream.nodes) })
    })
    if (updates.length > 0) for (const listener of this.listeners) listener(updates, tracked.result)
  }
}
