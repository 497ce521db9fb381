/**
 * The plugin contract: the only module of the house that a plugin imports.
 *
 * Life of a plugin: `schema` + `check` (primary, validation) → `prepare` (primary, once per configuration; may throw; returns plain
 * JSON) → `link` (each worker, once per route and snapshot, on first use) → phase functions (per request).
 *
 * Phases run in this order; within a phase global rules first, then the route's plugins by priority (higher first):
 *
 *   rewrite       change the request before anything was decided (auth, rewriting, CORS preflight). May answer. May be async.
 *   access        decide (limits, breaker, traffic-split). May answer. May be async.
 *   headerFilter  change status and headers of any answer, the upstream's or the gateway's own; arrange body changes. Sync.
 *   encodingFilter after all headerFilters: content codings. Sync.
 *   log           always, exactly once, after the answer or the abort. Sync, must not throw, cannot change anything.
 *
 * A plugin never writes to the socket: it returns a `Reply` and the proxy answers. Returning nothing means "go on".
 * Work that depends only on the configuration belongs to `prepare` or `link`, never to a phase function.
 */
import { randomUUID } from 'node:crypto'
import type { TObject } from '@sinclair/typebox'
import type { TokenKit } from '../auth/contract.js'
import type { TokenJson } from '../auth/jws.js'
import type { HeaderList } from '../base/headers.js'
import type { HttpClient, HttpSettings } from '../base/http-client.js'
import { kongErrorBody } from '../base/kong-error.js'
import type { Pattern, RegExpLikeMatch } from '../base/pattern.js'
import type { BreakerSet, BreakerSpec, PathBreakerSettings, PathBreakers } from '../breakers/contract.js'
import type { BoundLimiter, Decision, LimiterSpec, LimitKeys, LimitOverrides, StoreSpec } from '../limits/contract.js'
import type { OverriddenRule } from '../limits/declared.js'
import type { Json, KeySetSpec } from '../schema/compiled.js'
import type { PluginProblem } from '../schema/plugin-problems.js'

export { type Static, Type } from '@sinclair/typebox'
export { algorithmRule, isTokenAlgorithm, type TokenAlgorithm, tokenAlgorithms } from '../auth/algorithm.js'
export type { CheckedToken } from '../auth/checked-token.js'
export type { TokenKit } from '../auth/contract.js'
export { endpointProblem } from '../auth/fetch-json.js'
export type { IntrospectionSpec } from '../auth/introspection.js'
export { hasJwsForm, type TokenJson } from '../auth/jws.js'
export { type KeyMatch, type KeySource, TokenProblem } from '../auth/key-source.js'
export { pemKey, secretKey, type TokenKey, TokenKeyError } from '../auth/token-key.js'
export { addressProblem } from '../base/address-set.js'
export { fieldNameProblem, fieldValue } from '../base/field.js'
export type { HeaderList } from '../base/headers.js'
export {
  type HttpAnswer,
  type HttpClient,
  HttpClientError,
  type HttpFailure,
  type HttpQuestion,
  type HttpSettings,
} from '../base/http-client.js'
export { NumberFields } from '../base/number-fields.js'
export { type Pattern, patternProblem, type RegExpLikeMatch } from '../base/pattern.js'
export { cookieValue, queryValue, queryValues, withoutCookie, withoutQueryValue } from '../base/request-values.js'
export { aroundMatch, encodePath, encodeQuery, removeDotSegments, splitTarget } from '../base/rewrite-target.js'
export {
  ADMITTED,
  type BoundBreaker,
  BREAKER_TIME_MAX_MS,
  type BreakerSet,
  type BreakerSpec,
  Outcome,
  type PathBreakerSettings,
  type PathBreakers,
  PERMIT_EXPIRY_MAX_MS,
  PERMITS_MAX,
  REFUSED,
  SUCCESSES_MAX,
} from '../breakers/contract.js'
export type {
  BoundLimiter,
  LimiterSpec,
  LimitKeys,
  LimitOverrides,
  LimitRule,
  RedisConnection,
  RuleOutcome,
  StoreSpec,
} from '../limits/contract.js'
export { Decision, LIMIT_MAX, LOG_LIMIT_MAX, RATE_MAX, WINDOW_MAX_MS } from '../limits/contract.js'
export { type PolicyConf, policyOptions, policyProblems, policyStore } from '../limits/policy-options.js'
export { addressKey, ownerScope, valueKey } from '../limits/scope.js'
export type { Json, KeySetSpec } from '../schema/compiled.js'
export { expressionProblem } from '../schema/expression.js'
export { nullable, nullableOneOf } from '../schema/nullable.js'
export { exactlyOneOf, itemProblems, type PluginProblem } from '../schema/plugin-problems.js'
export { templateProblem } from '../schema/template.js'
export { variableProblem } from '../schema/variable-name.js'

/** An answer made by a plugin. */
export interface Reply {
  readonly status: number
  /** Absent = empty body, except that for status ≥ 400 the gateway sends `{"error_msg":"<reason phrase>"}`. */
  readonly body?: string | Uint8Array
  /** Name/value pairs. `Content-Type` defaults to `application/json` for bodies that begin as JSON, to plain text for others. */
  readonly headers?: readonly (readonly [string, string])[]
}

export type PhaseResult = undefined | Reply
// biome-ignore lint/suspicious/noConfusingVoidType: phase functions may end without a return statement
export type PhaseReturn = void | PhaseResult | Promise<void | PhaseResult>

/** What a plugin may know about the matched route. */
export interface RouteInfo {
  readonly id: string
  readonly name: string
  readonly serviceId: string
  readonly serviceName: string
  readonly labels: { readonly [key: string]: string }
  /** Patterns and hosts as configured, for the variables matched_uri and matched_host. */
  readonly uris?: readonly string[]
  readonly hosts?: readonly string[]
}

/** Changes a response body as it streams. Chunks passed in are only valid during the call: copy what must live longer. */
export interface BodyTransform {
  /**
   * Takes one chunk. Call `emit` any number of times, now or later, with bytes that the transform no longer touches.
   * After `isLast` was given, `emit(bytes, true)` must be called exactly once.
   * A returned promise is backpressure: the proxy stops reading the body until it resolves. It never rejects.
   */
  push(chunk: Uint8Array, isLast: boolean, emit: (bytes: Uint8Array, isLast: boolean) => void): void | Promise<void>
  /** The exchange ended early: release everything; never emit again. */
  destroy(): void
}

export interface ResponseView {
  /** Status that will be sent; may be changed in headerFilter. */
  status: number
  /** Headers that will be sent, without framing ones; may be changed in headerFilter. */
  readonly headers: HeaderList
  /** Who made the answer. */
  readonly source: 'upstream' | 'gateway'
  /** Bytes of the body as arranged so far; -1 = not known before its end (chunked, collected or transformed). */
  readonly bodyLength: number
  /** Replaces the whole body; what the upstream still sends is read and dropped. Removes Content-Encoding, ETag, Last-Modified. */
  replaceBody(body: string | Uint8Array): void
  /** Collects the body up to `maxBytes` (502 RESPONSE_TOO_LARGE beyond) and sends what `change` returns. Removes the same headers. */
  collectBody(maxBytes: number, change: (body: Buffer) => string | Uint8Array | Promise<string | Uint8Array>): void
  /** Streams the body through `transform`; the answer becomes chunked. Several transforms run in the order of arrangement. */
  transformBody(transform: BodyTransform): void
}

/**
 * Somebody who calls the gateway, as configured in `consumers`. Frozen, shared by requests, and good for as long as the request: a
 * later request may see another object for the same consumer.
 */
export interface Consumer {
  readonly username: string
  /** Its own id (a UUID in Kong files); equal to `username` where the file gives none. */
  readonly id: string
  /** `labels.custom_id`; empty = none. */
  readonly customId: string
  /** `group_id`; empty = none. */
  readonly groupId: string
  readonly labels: { readonly [key: string]: string }
  /** Groups of the plugin `acl`. */
  readonly groups: readonly string[]
}

/** What one consumer proves its identity with, for one authentication plugin. Frozen, shared by requests. */
export interface Credential<Linked = unknown> {
  /** Id of the entry of `credentials`; empty = the conf stands among the consumer's own plugins. */
  readonly id: string
  /** The unique key under which it was found. */
  readonly key: string
  readonly consumer: Consumer
  /** What `credential.link` of the plugin returned; without one, what `credential.prepare` returned; without both, the checked conf. */
  readonly conf: Linked
}

/** The credentials of one plugin, in all consumers. */
export interface CredentialIndex<Linked = unknown> {
  /**
   * The credential with this unique key, or null. Compares the whole key in a time that does not depend on where it differs. The
   * secret, where it is not the key itself, is for the plugin to check. Never throws; takes about a microsecond.
   */
  find(key: string): Credential<Linked> | null
}

/** Has a say in which nodes are tried. Part of a plugin; set on the exchange in access. */
export interface NodeGate {
  /**
   * Asked about the node that was picked for a try (`address:port`); false = another one. That a further try is looked for means that
   * the try before it has failed.
   */
  admit(exchange: Exchange, address: string): boolean
  /** The answer when it admits none of the nodes for the first try. */
  refuse(exchange: Exchange): Reply
}

/** Told that an upstream takes long, while it still does. Part of a plugin; set on the exchange. */
export interface SlowWatch {
  /** The try under way has lasted for `slowWatchMs`, and it is not the client that it waits for. At most once each time it is set. */
  slow(exchange: Exchange): void
}

/** One request with its response, as plugins see it. Fixed shape, reused for later requests: never keep it past `log`. */
export interface Exchange {
  /** Upper-case. */
  readonly method: string
  readonly scheme: 'http' | 'https'
  /** Lower-case host without port; `hostHeader` is the field as received. */
  readonly host: string
  readonly hostHeader: string
  /** Port of the listener. */
  readonly serverPort: number
  /** Address on which the connection arrived, text form; absent or empty = unknown. */
  readonly serverAddress?: string
  /** Canonical path, decoded once: what the router matched. */
  readonly path: string
  /** Query string as received, without `?`; empty if none. */
  readonly query: string
  /** Request target exactly as received (path and query). */
  readonly rawTarget: string
  /** Request headers as they will go upstream; plugins may change them. Identity headers of clients are already gone. */
  readonly requestHeaders: HeaderList
  /** Client address (after trusted proxies); the real-ip plugin may set it. Text form. */
  clientAddress: string
  /** Port that belongs to clientAddress; 0 = unknown. */
  clientPort: number
  /** Address of the TCP peer. Text form. */
  readonly peerAddress: string
  /** Length in bytes; -1 = unknown (chunked), 0 = no body. */
  readonly requestBodyLength: number
  /** Larger bodies are refused with 413, also while they stream. 0 = no limit. Plugins may set it. */
  maxRequestBodyBytes: number

  /** What will be sent to the upstream. Path and query are in wire form (percent-encoded). */
  upstreamPath: string
  upstreamQuery: string
  upstreamMethod: string
  /** Host to send; empty = as `pass_host` says. */
  upstreamHost: string
  /** Asked about every node before it is tried; null = nobody is. The last plugin that sets it is asked. */
  nodeGate: NodeGate | null
  /** Told once when a try has lasted for `slowWatchMs` milliseconds, to some ten of them; 0 = not at all. The last plugin that sets it is told. */
  slowWatch: SlowWatch | null
  slowWatchMs: number
  /** Index of the upstream in the snapshot; -1 = none. traffic-split sets it. */
  upstreamIndex: number

  readonly route: RouteInfo | null
  /** Values captured by `:name` patterns of the router, by name. */
  readonly uriParams: ReadonlyMap<string, string> | null
  /** Set by `authenticate`; empty = none. */
  readonly consumerName: string
  readonly consumerGroupId: string
  /** What goes upstream as X-Credential-Identifier; empty = none. */
  readonly credentialId: string
  /** Who calls; null = nobody is authenticated, or somebody who is no consumer of ours. */
  readonly consumer: Consumer | null
  /** By what; null also for an anonymous consumer. */
  readonly credential: Credential | null
  /**
   * Authentication succeeded: sets the fields above and the identity headers for the upstream, in place of those of an earlier call.
   * The consumer's and its group's plugins join the chain after the rewrite phase. `consumer` null: the caller is known by
   * `identifier` only, for example the subject of a token. `identifier`: sent as X-Credential-Identifier; default: the
   * credential's id. An anonymous consumer has no credential; X-Anonymous-Consumer, where wanted, is set after the call.
   */
  authenticate(consumer: Consumer | null, credential: Credential | null, identifier?: string): void
  /** Claims of the token that authenticated the request, where its plugin was told to store them; else null. */
  tokenClaims: TokenJson | null
  /** Id of this request; the request-id plugin sets it, the gateway makes one when an answer needs it. */
  requestId: string
  /** True once the client has gone. */
  readonly aborted: boolean

  /** Valid in headerFilter and log. */
  readonly response: ResponseView

  /** Wall clock at the arrival of the request, milliseconds since the epoch. */
  readonly startedAtMs: number
  /** Milliseconds since arrival, with fraction. */
  elapsedMs(): number
  /** `address:port` of the node of the last try, or empty. */
  readonly upstreamAddress: string
  /** Statuses of all tries so far, `502, 200`; empty before the first. */
  readonly upstreamStatus: string
  /** Status of the last try: of the answer, or 502 or 504 when there was none; 0 before the first. */
  readonly upstreamLastStatus: number
  /**
   * The upstream failed in the end: could not be reached, did not answer in time, sent what is no answer, or broke off in the middle of
   * one. An answer with an error status is an answer; what the client does is no failure of the upstream. Valid in log.
   */
  readonly upstreamFailed: boolean
  /** Name of the upstream at `upstreamIndex` that stays the same over reloads; empty = none. */
  readonly upstreamKey: string
  /** Milliseconds from sending to the last byte of the response, last try; -1 = none. */
  readonly upstreamResponseMs: number
  /** Milliseconds of these in which this thread stood still (collected garbage, had no processor): they say nothing about the upstream. */
  readonly upstreamStandstillMs: number
  /** Bytes of body sent to the client so far. */
  readonly bodyBytesSent: number

  /**
   * The whole request body, held in memory until it is sent on: for rewrite and access. Null = it is longer than `maxBytes`: answer 413
   * (`bodyTooLarge`), or go on, and it streams as usual. A client that is too slow is answered with 408 meanwhile.
   */
  readRequestBody(maxBytes: number): Promise<Buffer | null>
  /** Sends this instead of the client's body. Only after `readRequestBody` gave the whole one. */
  replaceRequestBody(body: Buffer): void

  /** A value that this plugin binding stored for this request (`kit.slot`), or undefined. */
  getSlot(slot: number): unknown
  setSlot(slot: number, value: unknown): void
}

export type Accessor = (exchange: Exchange) => string | undefined
export type Template = (exchange: Exchange, captures?: RegExpLikeMatch | null) => string
export type Predicate = (exchange: Exchange) => boolean
/** What `prepare` may use (primary thread). */
export interface PrepareKit {
  /** Where the plugin is configured, for messages: `routes/1`. */
  readonly owner: string
  /** The plugin's metadata (`plugin_metadata`), validated, or null. */
  readonly metadata: Json | null
  /** `plugin_attr.<name>`, or null. */
  readonly attributes: Json | null
  /**
   * Index in the snapshot of an upstream named by id, or of an inline upstream object; throws PluginConfigError if there is none.
   * `path` is its place below the plugin's conf, for the message.
   */
  upstream(reference: { readonly id: string; readonly path?: string } | { readonly inline: Json; readonly path: string }): number
  /** Ports on which the gateway listens with TLS. */
  readonly tlsPorts: readonly number[]
  /** The Redis of `sluice.redis` or `--redis`, for policies whose conf names none; null = not configured. */
  readonly redis: RedisDefaults | null
  /**
   * Announces limits that `link` will bind, so that they can be looked up (`/v1/limits`) and a reload can say which counters begin anew;
   * returns the spec. Throws PluginConfigError when no store can do it. `perRoute`: `link` adds the route to the scope with
   * `routeScope`. `oneKey`: several rules are checked under one key, given as a text. `overridden`: what each request brings
   * along, rule by rule, so that nobody reads the placeholders of the spec as limits.
   */
  limiter(
    spec: LimiterSpec,
    options?: { readonly perRoute?: boolean; readonly oneKey?: boolean; readonly overridden?: readonly OverriddenRule[] },
  ): LimiterSpec
  /**
   * For plugins that hold other plugins (multi-auth, workflow): checks and prepares the conf of plugin `name`; the answer is for
   * `LinkKit.plugin`. `path` is the place of the map `name: conf` below this plugin's conf: `auth_plugins.0`. Throws PluginConfigError, or ends `prepare` with errors that are reported.
   */
  plugin(name: string, conf: Json, path: string): Json
  /** Announces published keys that `link` will use (`TokenKit.keySet`): the primary fetches them for all workers. */
  keySet(spec: KeySetSpec): void
  /** Whether the plugin `name` is there and authenticates consumers by credentials of theirs. */
  authenticates(name: string): boolean
  /** Owner of a conf of this plugin that uses the same name in this configuration with another value; null = none. */
  conflict(name: string, value: Json): string | null
}

/** Where `policy: redis` and its kind count when a conf names no server. */
export interface RedisDefaults {
  readonly kind: Exclude<StoreSpec['kind'], 'local'>
  readonly connection: Extract<StoreSpec, { readonly connection: unknown }>['connection']
}

/** Scope of the counters of a limiter that counts per route. */
export function routeScope(spec: LimiterSpec, routeId: string): LimiterSpec {
  return { ...spec, scope: `${spec.scope}:route:${routeId}` }
}

/** What `link` may use (worker thread). */
export interface LinkKit {
  readonly route: RouteInfo | null
  /** Compiles access to a variable (`remote_addr`, `http_x_y`, `arg_z`, …). Unknown names give undefined. */
  variable(name: string): Accessor
  /** Compiles `$name`, `${name}`, `${name ?? default}`; with `captures`, also `$0`…`$9`. */
  template(text: string, options?: { readonly captures?: boolean }): Template
  /** As `template`, for what names something: undefined when the text has variables and none of them has a value. */
  keyTemplate(text: string): Accessor
  /** Compiles an expression in the language of `vars`. */
  expression(vars: Json): Predicate
  pattern(source: string, options?: { readonly ignoreCase?: boolean }): Pattern
  /** A set of addresses and CIDR blocks. */
  addressSet(items: readonly string[]): { has(address: string): boolean }
  /** A slot for one value per request and binding. */
  slot(): number
  /** What all bindings of this plugin in this worker share over reloads: made by `create` when the first asks for it. Must be bounded. */
  workerState<State>(create: () => State): State
  /** Credentials of this plugin (see `PluginDefinition.credential`); `Linked` is what its `credential.link` returns. */
  credentials<Linked>(): CredentialIndex<Linked>
  /** The consumer of this name, or null: for `anonymous_consumer`, and for tokens that name a consumer. */
  consumer(username: string): Consumer | null
  /** Links a plugin that `PrepareKit.plugin` prepared. Its phase functions are for the caller to run. */
  plugin(name: string, prepared: Json): PluginInstance
  /**
   * Binds limits to the store that the spec names. Decisions are counted in the metrics under the names of this plugin and route.
   * Throws RangeError when the store cannot do the spec (`PrepareKit.limiter` has said so before). To be asked by way of
   * `PluginInstance.limit`.
   */
  limiter(spec: LimiterSpec): BoundLimiter
  /** Signed and opaque tokens. */
  readonly tokens: TokenKit
  /** The circuit breakers of a spec: one state for all threads, kept over reloads under their names. Refusals count for this plugin. */
  breakers(spec: BreakerSpec): BreakerSet
  /** The breakers by host and path of `api-breaker`. */
  pathBreakers(settings: PathBreakerSettings): PathBreakers
  /** A client for asking another service. Its connections outlive reloads; a question costs at most `timeoutMs`. */
  http(settings: HttpSettings): HttpClient
  /** Resolves after the delay. The only timer a plugin may use. */
  delay(ms: number): Promise<void>
  /** Writes to the process log, rate-limited. Never pass secrets. */
  log(level: 'info' | 'warn' | 'error', message: string): void
}

/** What a plugin wants to be decided about one request. May be a record that the binding reuses: it is read at once. */
export interface LimitQuestion {
  readonly limiter: BoundLimiter
  readonly keys: LimitKeys
  readonly cost: number
  readonly overrides?: LimitOverrides | undefined
}

/** The request does not give what is needed to decide; counted as an error of this limit. */
export interface UndecidableLimit {
  readonly limiter: BoundLimiter
  /** The answer; null = the request passes unlimited. */
  readonly undecidable: Reply | null
}

/**
 * A rate limit of the access phase. All limits of a request are one decision: those that stand next to each other in the chain are asked
 * and decided in one step, and what one refuses uses up nothing of the others.
 */
export interface RequestLimit {
  /** Undefined = this request is not limited. Changes nothing of the request: what goes upstream is not checked again behind it. */
  ask(exchange: Exchange): LimitQuestion | UndecidableLimit | undefined
  /**
   * What follows from the decision: a reply, milliseconds to wait before going on, or nothing. The gateway keeps the record until the
   * request is over, and then releases what it holds. Not called when an earlier limit of the request refused, or when the request has
   * ended meanwhile.
   */
  conclude(exchange: Exchange, decision: Decision): Reply | number | undefined
  /** The only limiter that is ever asked, if nobody looks at its decision behind `conclude`: the gateway then need not keep it. */
  readonly forgets?: BoundLimiter
}

/** The linked form of one configured plugin. Absent phases cost nothing. */
export interface PluginInstance {
  /**
   * Request fields, lower-case, that tell the upstream who calls: clients' copies, in any spelling, are removed before any plugin of the route
   * runs, except those that one of them reads (`readsFields`) and credentials (Authorization, Proxy-Authorization, Cookie).
   */
  readonly setsFields?: readonly string[]
  /** Request fields, lower-case, in which this plugin looks for something that clients send. */
  readonly readsFields?: readonly string[]
  /** In place of `access`, and at its place in the order. */
  readonly limit?: RequestLimit
  rewrite?(exchange: Exchange): PhaseReturn
  access?(exchange: Exchange): PhaseReturn
  headerFilter?(exchange: Exchange): void
  /**
   * Content codings (gzip): called after the headerFilter of every plugin of the chain, global ones included, in the same order,
   * so that they see the final headers and their transforms come last. Sync; for plugins that must be outermost.
   */
  encodingFilter?(exchange: Exchange): void
  log?(exchange: Exchange): void
  /** `log` is called whatever `_meta.filter` says by then: for plugins that must give back what `access` took. */
  readonly alwaysLogs?: true
  /** `log` does not look at `clientAddress` and `peerAddress`, not even by a variable: they may be empty there, and need not be found out. */
  readonly logsNoAddress?: true
  /**
   * Rewrite and access put nothing into the head for the upstream that would have to be checked there: what was checked on arrival goes on
   * as it came. They may call `authenticate`, remove fields and parts of the query, and add fields with names that `fieldNameProblem`
   * accepts, `host` excepted, and values out of `fieldValue` or of the request. Without it every field is checked for each request.
   */
  readonly keepsHeadSafe?: true
  /** In metrics, routes and services of chains with this plugin stand by their names. */
  readonly namesSeries?: true
}

/** Thrown by `prepare`: the configuration is refused with this text at this path. */
export class PluginConfigError extends Error {
  override readonly name = 'PluginConfigError'
  constructor(
    message: string,
    readonly path = '',
  ) {
    super(message)
  }
}

/**
 * What an authentication plugin keeps per consumer. The core checks it, finds duplicates, resolves references to secrets (the plugin
 * sees the values) and stores it in shared memory; the plugin verifies.
 */
export interface CredentialDefinition<Conf = Json, Prepared = Conf, Linked = Prepared> {
  /** TypeBox object, as `PluginDefinition.schema`: the conf of the plugin under `plugins` of a consumer or a credential. */
  readonly schema: TObject
  /** Name of the string field of `schema` that is unique among all credentials of this plugin: `key`, `username`, `key_id`. */
  readonly key: keyof Conf & string
  check?(conf: Conf): PluginProblem[]
  /** Primary, once per credential and configuration: plain JSON, small (it is kept in memory). May throw PluginConfigError. */
  prepare?(conf: Conf, kit: CredentialKit): Prepared
  /** Worker, when the credential is first used and again when it was forgotten since (the cache is bounded). Must not throw. */
  link?(prepared: Prepared): Linked
}

export interface CredentialKit {
  /** Where the credential is configured, for messages: `consumers/jack` or `consumers/jack/credentials/one`. */
  readonly owner: string
}

/** A credential definition whose type parameters are hidden. */
export interface AnyCredential {
  readonly schema: TObject
  readonly key: string
  check(conf: Json): PluginProblem[]
  prepare(conf: Json, kit: CredentialKit): Json
  link(prepared: Json): unknown
}

/** As `definePlugin`, for `PluginDefinition.credential`. */
export function defineCredential<Conf, Prepared = Conf, Linked = Prepared>(
  definition: CredentialDefinition<Conf, Prepared, Linked>,
): AnyCredential {
  return Object.freeze({
    schema: definition.schema,
    key: definition.key,
    check: (conf: Json) => definition.check?.(conf as Conf) ?? [],
    prepare: (conf: Json, kit: CredentialKit) =>
      definition.prepare === undefined ? conf : (definition.prepare(conf as Conf, kit) as Json),
    link: (prepared: Json) => (definition.link === undefined ? prepared : definition.link(prepared as Prepared)),
  })
}

export interface PluginDefinition<Conf = Json, Prepared = Json> {
  readonly name: string
  /** Higher runs first; the values of the reference gateways (semantics §1.5). */
  readonly priority: number
  /** One sentence for the reference page. */
  readonly description: string
  /** TypeBox object; every field has a `description`; defaults are filled in before `check`. Unknown fields are warnings. */
  readonly schema: TObject
  readonly metadataSchema?: TObject
  /** Makes it an authentication plugin: what consumers hold for it (`defineCredential`). */
  readonly credential?: AnyCredential
  /** Rules across fields, or on expressions, patterns and templates. Runs after the schema passed. */
  check?(conf: Conf): PluginProblem[]
  prepare(conf: Conf, kit: PrepareKit): Prepared
  link(prepared: Prepared, kit: LinkKit): PluginInstance
}

/** A definition whose type parameters are hidden, as registries hold it. */
export interface AnyPlugin extends Omit<PluginDefinition, 'check' | 'prepare' | 'link'> {
  check(conf: Json): PluginProblem[]
  prepare(conf: Json, kit: PrepareKit): Json
  link(prepared: Json, kit: LinkKit): PluginInstance
}

/**
 * Declares a plugin. The schema is checked before `Conf` values are handed over, which is what makes the one cast in here sound.
 */
export function definePlugin<Conf, Prepared>(definition: PluginDefinition<Conf, Prepared>): AnyPlugin {
  return Object.freeze({
    ...definition,
    check: (conf: Json) => definition.check?.(conf as Conf) ?? [],
    prepare: (conf: Json, kit: PrepareKit) => definition.prepare(conf as Conf, kit) as Json,
    link: (prepared: Json, kit: LinkKit) => definition.link(prepared as Prepared, kit),
  })
}

/** For answers to a store that failed: it is asked again after half a second (cluster/circuit). */
export const RETRY_SOON = Object.freeze(['Retry-After', '1'] as const)

/** A JSON answer `{"<key>": message}` with the trailing newline of the reference gateway. */
export function jsonReply(status: number, key: string, message: string, headers?: Reply['headers']): Reply {
  const body = `${JSON.stringify({ [key]: message })}\n`
  return headers === undefined ? { status, body } : { status, body, headers }
}

/** A refusal in the shape of Kong: message and request id, in the media type that the client prefers. */
export function kongError(exchange: Exchange, status: number, message: string, headers: Reply['headers'] = []): Reply {
  const { body, contentType } = kongErrorBody(exchange.requestHeaders.get('accept'), message, requestIdOf(exchange))
  return { status, body, headers: [['Content-Type', contentType], ...headers] }
}

/** The id of this request, made when it has none yet. */
export function requestIdOf(exchange: Exchange): string {
  if (exchange.requestId === '') exchange.requestId = randomUUID().replaceAll('-', '')
  return exchange.requestId
}

/** The answer to a request body that is longer than a plugin takes. */
export const bodyTooLarge: Reply = Object.freeze({ status: 413, body: '{"error_msg":"request body is too large"}\n' })
