/**
 * opa: lets a policy of the Open Policy Agent decide about each request. `result` must be an object: `allow` true lets the request go on,
 * else `status_code`, `reason` and `headers` make the answer.
 *
 * Runs on workers, access phase, always waits. State: none; connections of the worker. Failure: 403 when OPA cannot be asked, 503 when its
 * answer is no decision. A client never gets a header of `send_headers_upstream` through.
 */
import { addressProblemOf, nameProblems, type Service, serviceAt, serviceOptions } from './external-auth/service.js'
import {
  bodyTooLarge,
  definePlugin,
  type Exchange,
  fieldNameProblem,
  fieldValue,
  HttpClientError,
  type Json,
  type LinkKit,
  type PhaseResult,
  type PluginInstance,
  type PluginProblem,
  type Reply,
  type Static,
  Type,
} from './plugin.js'

const flag = (description: string) => Type.Boolean({ default: false, description })

const schema = Type.Object({
  host: Type.String({ minLength: 1, description: 'Address of OPA: `https://opa.internal:8181`.' }),
  policy: Type.String({
    minLength: 1,
    maxLength: 256,
    pattern: '^[A-Za-z0-9_./-]+$',
    description: 'Path of the decision: what comes behind `/v1/data/`, such as `example/allow`.',
  }),
  with_route: flag('Send the id, name, labels, paths and hosts of the route.'),
  with_service: flag('Send the id and name of the service.'),
  with_consumer: flag('Send the name, id, group and labels of the consumer. Credentials are never sent.'),
  with_body: flag('Send the body of the request, as text, in `request.body`.'),
  max_req_body_size: Type.Integer({
    minimum: 1,
    maximum: 67_108_864,
    default: 1_048_576,
    description: 'With `with_body`: bytes of a body, which is held in memory; a longer one is answered with 413.',
  }),
  send_headers_upstream: Type.Optional(
    Type.Array(Type.String({ minLength: 1, maxLength: 256 }), {
      minItems: 1,
      description:
        'Names in `result.headers` that go to the upstream when the request may go on. Copies that the client sends are always removed.',
    }),
  ),
  ...serviceOptions,
})
type Conf = Static<typeof schema>

interface Prepared {
  readonly service: Service
  readonly withRoute: boolean
  readonly withService: boolean
  readonly withConsumer: boolean
  /** 0 = the body is not sent. */
  readonly maxBodyBytes: number
  readonly upstreamHeaders: string[]
}

export const opa = definePlugin<Conf, Prepared>({
  name: 'opa',
  priority: 2001,
  description: 'Lets a policy of the Open Policy Agent decide about each request.',
  schema,
  check,
  prepare,
  link,
})

function check(conf: Conf): PluginProblem[] {
  const address = addressProblemOf(conf.host)
  const problems = nameProblems('send_headers_upstream', conf.send_headers_upstream)
  return address === null ? problems : [{ path: 'host', message: address }, ...problems]
}

function prepare(conf: Conf): Prepared {
  return {
    service: serviceAt(conf.host, conf, `/v1/data/${conf.policy.replace(/^\/+/, '')}`),
    withRoute: conf.with_route,
    withService: conf.with_service,
    withConsumer: conf.with_consumer,
    maxBodyBytes: conf.with_body ? conf.max_req_body_size : 0,
    upstreamHeaders: conf.send_headers_upstream ?? [],
  }
}

interface Decision {
  readonly allow: boolean
  readonly status: number
  readonly reason: string | null
  readonly headers: readonly (readonly [string, string])[]
}

const UNDECIDED: Reply = { status: 503 }
const UNREACHABLE: Reply = { status: 403 }

function link(conf: Prepared, kit: LinkKit): PluginInstance {
  const { service, maxBodyBytes } = conf
  const client = kit.http(service.settings)
  const upstreamHeaders = conf.upstreamHeaders.map((name) => ({ name, key: name.toLowerCase() }))
  const fixed = { ...(conf.withRoute ? { route: routeOf(kit) } : {}), ...(conf.withService ? { service: serviceOf(kit) } : {}) }

  async function ask(exchange: Exchange, body: Buffer | undefined): Promise<Decision | Reply> {
    const input: { [name: string]: Json } = { type: 'http', request: requestOf(exchange, body), var: variablesOf(exchange), ...fixed }
    if (conf.withConsumer) input['consumer'] = consumerOf(exchange)
    let text: string
    try {
      const question = {
        method: 'POST',
        path: service.path,
        headers: ['Content-Type', 'application/json'],
        body: JSON.stringify({ input }),
      }
      text = (await client.ask(question)).body.toString('utf8')
    } catch (error) {
      if (!(error instanceof HttpClientError)) throw error
      kit.log('error', `opa: ${error.message}; the request is refused`)
      return UNREACHABLE
    }
    const decision = readDecision(text)
    if (decision !== null) return decision
    kit.log('error', `opa: the answer of ${service.settings.origin} has no result that is an object; the request is refused`)
    return UNDECIDED
  }

  function setUpstreamHeaders(exchange: Exchange, decision: Decision): void {
    for (const { name, key } of upstreamHeaders) {
      const value = decision.headers.find(([field]) => field.toLowerCase() === key)?.[1]
      if (value === undefined) exchange.requestHeaders.remove(key)
      else exchange.requestHeaders.set(name, value)
    }
  }

  return {
    setsFields: upstreamHeaders.map(({ key }) => key),
    async access(exchange): Promise<PhaseResult> {
      const body = maxBodyBytes > 0 ? await exchange.readRequestBody(maxBodyBytes) : undefined
      if (body === null) return bodyTooLarge
      const decision = await ask(exchange, body)
      if (!('allow' in decision)) return decision
      if (!decision.allow) {
        const { status, headers, reason } = decision
        return reason === null ? { status, headers } : { status, headers, body: reason }
      }
      setUpstreamHeaders(exchange, decision)
      return undefined
    },
  }
}

function readDecision(text: string): Decision | null {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    return null
  }
  const result = entriesOf(entriesOf(parsed)?.['result'])
  if (result === null) return null
  const { allow, status_code: status, reason } = result
  return {
    // Only true: a policy that answers "false" or 0 by mistake must not let everybody in.
    allow: allow === true,
    status: typeof status === 'number' && Number.isInteger(status) && status >= 200 && status <= 599 ? status : 403,
    reason: reason === undefined || reason === null ? null : typeof reason === 'string' ? reason : JSON.stringify(reason),
    headers: readHeaders(result['headers']),
  }
}

function readHeaders(value: unknown): [string, string][] {
  return Object.entries(entriesOf(value) ?? {}).flatMap(([name, item]) => {
    const isText = typeof item === 'string' || typeof item === 'number' || typeof item === 'boolean'
    return isText && fieldNameProblem(name) === null ? [[name, fieldValue(String(item))] as [string, string]] : []
  })
}

function entriesOf(value: unknown): { readonly [name: string]: unknown } | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : null
}

function requestOf(exchange: Exchange, body: Buffer | undefined): Json {
  return {
    scheme: exchange.scheme,
    method: exchange.method,
    host: exchange.host,
    port: exchange.serverPort,
    // The one reading that decided the route.
    path: exchange.path,
    headers: headersOf(exchange),
    query: queryOf(exchange.query),
    ...(body === undefined ? {} : { body: body.toString('utf8') }),
  }
}

/** Names in lower case; a field with several lines is a list. */
function headersOf(exchange: Exchange): Json {
  const { keys, values, count } = exchange.requestHeaders
  const found = new Map<string, string | string[]>([['host', exchange.hostHeader]])
  for (let index = 0; index < count; index++) {
    const key = keys[index] as string
    if (key !== 'host') append(found, key, values[index] as string)
  }
  return Object.fromEntries(found)
}

/** Decoded; a parameter that is there several times is a list, one without `=` is true. */
function queryOf(query: string): Json {
  const found = new Map<string, string | string[]>()
  for (const [name, value] of new URLSearchParams(query)) append(found, name, value)
  const bare = new Set(query.split('&').filter((pair) => pair !== '' && !pair.includes('=')))
  return Object.fromEntries([...found].map(([name, value]) => [name, value === '' && bare.has(name) ? true : value]))
}

function append(found: Map<string, string | string[]>, name: string, value: string): void {
  const before = found.get(name)
  if (before === undefined) found.set(name, value)
  else if (typeof before === 'string') found.set(name, [before, value])
  else before.push(value)
}

function variablesOf(exchange: Exchange): Json {
  return {
    server_addr: exchange.serverAddress ?? '',
    server_port: String(exchange.serverPort),
    remote_addr: exchange.clientAddress,
    remote_port: exchange.clientPort === 0 ? '' : String(exchange.clientPort),
    timestamp: Math.floor(exchange.startedAtMs / 1000),
  }
}

function routeOf({ route }: LinkKit): Json {
  if (route === null) return null
  const { id, name, labels, uris = [], hosts = [], serviceId } = route
  return { id, name, labels: { ...labels }, uris: [...uris], hosts: [...hosts], service_id: serviceId }
}

function serviceOf({ route }: LinkKit): Json {
  return route === null || route.serviceId === '' ? null : { id: route.serviceId, name: route.serviceName }
}

function consumerOf({ consumer }: Exchange): Json {
  if (consumer === null) return null
  const { username, id, customId, groupId, labels, groups } = consumer
  return { username, id, custom_id: customId, group_id: groupId, labels: { ...labels }, groups: [...groups] }
}
