/**
 * forward-auth: asks an authorization service about each request. Below 300 the request goes on, with the headers of that answer that
 * `upstream_headers` names; anything else is the client's answer.
 *
 * Runs on workers, rewrite phase, always waits. State: none; connections of the worker. The service does not answer: `status_on_error`,
 * or the request goes on (`allow_degradation`). A client never gets a header of `upstream_headers` through, in no case.
 */
import { postArgument, postArgumentProblem, postArguments } from './external-auth/post-argument.js'
import { addressProblemOf, fieldNames, nameProblems, type Service, serviceAt, serviceOptions } from './external-auth/service.js'
import {
  bodyTooLarge,
  definePlugin,
  type Exchange,
  encodePath,
  fieldNameProblem,
  fieldValue,
  type HttpAnswer,
  HttpClientError,
  jsonReply,
  type LinkKit,
  type PluginInstance,
  type PluginProblem,
  type Reply,
  type Static,
  type Template,
  Type,
  templateProblem,
} from './plugin.js'

const schema = Type.Object({
  uri: Type.String({ minLength: 1, description: 'Address of the authorization service, `http://host:port/path` or `https://…`.' }),
  request_method: Type.Union([Type.Literal('GET'), Type.Literal('POST')], {
    default: 'GET',
    description: 'Method of the question. With `POST` the body of the request goes with it.',
  }),
  request_headers: fieldNames(
    'Header fields of the client that are sent with the question, beside X-Forwarded-Proto, -Method, -Host, -Uri and -For.',
  ),
  extra_headers: Type.Optional(
    Type.Record(Type.String({ minLength: 1 }), Type.Union([Type.String(), Type.Number()]), {
      minProperties: 1,
      description:
        'Further header fields of the question; values are templates, `$remote_addr`, or a field of the body: `$post_arg.name` (forms, JSON).',
    }),
  ),
  upstream_headers: fieldNames('Header fields of a good answer that go to the upstream. Copies that the client sends are always removed.'),
  client_headers: fieldNames('Header fields of a refusal that go to the client.'),
  consumer_header: Type.Optional(
    Type.String({
      minLength: 1,
      description: 'Header field of a good answer that names the consumer who calls. 403 when it is missing or unknown.',
    }),
  ),
  max_req_body_size: Type.Integer({
    minimum: 1,
    maximum: 1_073_741_824,
    default: 67_108_864,
    description: 'With `POST` or `$post_arg`: bytes of a body, which is held in memory; a longer one is answered with 413.',
  }),
  status_on_error: Type.Integer({
    minimum: 200,
    maximum: 599,
    default: 403,
    description: 'Status of the answer when the service cannot be asked.',
  }),
  allow_degradation: Type.Boolean({ default: false, description: 'Let requests pass when the service cannot be asked.' }),
  ...serviceOptions,
})
type Conf = Static<typeof schema>

interface Prepared {
  readonly service: Service
  readonly isPost: boolean
  readonly requestHeaders: string[]
  readonly extraHeaders: [string, string][]
  readonly upstreamHeaders: string[]
  readonly clientHeaders: string[]
  /** Lower-case; null = the answer names no consumer. */
  readonly consumerHeader: string | null
  readonly maxBodyBytes: number
  readonly statusOnError: number
  readonly allowDegradation: boolean
}

export const forwardAuth = definePlugin<Conf, Prepared>({
  name: 'forward-auth',
  priority: 2002,
  description: 'Asks an external service whether a request may go on.',
  schema,
  check,
  prepare,
  link,
})

function check(conf: Conf): PluginProblem[] {
  const problems = [
    ...nameProblems('request_headers', conf.request_headers),
    ...nameProblems('upstream_headers', conf.upstream_headers),
    ...nameProblems('client_headers', conf.client_headers),
  ]
  const address = addressProblemOf(conf.uri)
  if (address !== null) problems.push({ path: 'uri', message: address })
  if (conf.uri.startsWith('http:') && !isLoopback(conf.uri)) {
    problems.push({ path: 'uri', message: 'questions, with credentials of clients, go out without TLS; expected https', isWarning: true })
  }
  const consumer = conf.consumer_header === undefined ? null : fieldNameProblem(conf.consumer_header)
  if (consumer !== null) problems.push({ path: 'consumer_header', message: consumer })
  for (const [name, value] of Object.entries(conf.extra_headers ?? {})) {
    const message =
      fieldNameProblem(name) ??
      postArgumentProblem(String(value)) ??
      (postArgument(String(value)) === null ? templateProblem(String(value)) : null)
    if (message !== null) problems.push({ path: `extra_headers.${name}`, message })
  }
  return problems
}

function isLoopback(uri: string): boolean {
  return URL.canParse(uri) && /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(new URL(uri).hostname)
}

function prepare(conf: Conf): Prepared {
  return {
    service: serviceAt(conf.uri, conf),
    isPost: conf.request_method === 'POST',
    requestHeaders: conf.request_headers,
    extraHeaders: Object.entries(conf.extra_headers ?? {}).map(([name, value]) => [name, String(value)]),
    upstreamHeaders: conf.upstream_headers,
    clientHeaders: conf.client_headers,
    consumerHeader: conf.consumer_header?.toLowerCase() ?? null,
    maxBodyBytes: conf.max_req_body_size,
    statusOnError: conf.status_on_error,
    allowDegradation: conf.allow_degradation,
  }
}

const NO_CONSUMER_HEADER = jsonReply(403, 'message', 'consumer header missing in auth response')
const NO_CONSUMER = jsonReply(403, 'message', 'consumer not found')

function link(conf: Prepared, kit: LinkKit): PluginInstance {
  const { service, isPost, allowDegradation } = conf
  const client = kit.http(service.settings)
  const extras = conf.extraHeaders.map(([name, text]) => extraHeader(name, text, kit))
  const needsBody = isPost || extras.some(({ isOfBody }) => isOfBody)
  const questionHeaders = headersOf(conf, extras)
  const upstreamHeaders = conf.upstreamHeaders.map((name) => ({ name, key: name.toLowerCase() }))
  const clientHeaders = conf.clientHeaders.map((name) => ({ name, key: name.toLowerCase() }))

  /** The answer of the service; null = there is none, and the request may go on; a reply = it may not. */
  async function ask(exchange: Exchange): Promise<HttpAnswer | Reply | null> {
    const body = needsBody ? await exchange.readRequestBody(conf.maxBodyBytes) : undefined
    if (body === null) return bodyTooLarge
    const question = { method: isPost ? 'POST' : 'GET', path: service.path, headers: questionHeaders(exchange, body) }
    try {
      return await client.ask(isPost && body !== undefined ? { ...question, body } : question)
    } catch (error) {
      if (!(error instanceof HttpClientError)) throw error
      kit.log('warn', `forward-auth: ${error.message}; ${allowDegradation ? 'the request goes on' : 'the request is refused'}`)
      return allowDegradation ? null : { status: conf.statusOnError }
    }
  }

  /** Takes over what the service says about the caller, or removes what the caller says of himself. */
  function setUpstreamHeaders(exchange: Exchange, answer: HttpAnswer | null): void {
    for (const { name, key } of upstreamHeaders) {
      const value = answer?.header(key)
      if (value === undefined) exchange.requestHeaders.remove(key)
      else exchange.requestHeaders.set(name, fieldValue(value))
    }
  }

  function attachConsumer(exchange: Exchange, answer: HttpAnswer): Reply | undefined {
    if (conf.consumerHeader === null) return undefined
    const [name = ''] = answer.headerLines(conf.consumerHeader)
    if (name === '') {
      kit.log('error', `forward-auth: the answer of ${service.settings.origin} has no ${conf.consumerHeader}`)
      return NO_CONSUMER_HEADER
    }
    const consumer = kit.consumer(name)
    if (consumer === null) return NO_CONSUMER
    exchange.authenticate(consumer, null)
    return undefined
  }

  function refusal(answer: HttpAnswer): Reply {
    const headers = clientHeaders.flatMap(({ name, key }) => answer.headerLines(key).map((line) => [name, fieldValue(line)] as const))
    return { status: answer.status, body: answer.body, headers }
  }

  return {
    setsFields: upstreamHeaders.map(({ key }) => key),
    // What the service is to judge must reach it.
    readsFields: conf.requestHeaders.map((name) => name.toLowerCase()),
    async rewrite(exchange) {
      const answer = await ask(exchange)
      if (answer !== null && !('headerLines' in answer)) return answer
      if (answer !== null && answer.status >= 300) return refusal(answer)
      setUpstreamHeaders(exchange, answer)
      return answer === null ? undefined : attachConsumer(exchange, answer)
    },
  }
}

type BodyField = (name: string) => string | undefined

interface ExtraHeader {
  readonly name: string
  readonly isOfBody: boolean
  /** Undefined = the field is not sent. */
  value(exchange: Exchange, field: BodyField): string | undefined
}

function extraHeader(name: string, text: string, kit: LinkKit): ExtraHeader {
  const argument = postArgument(text)
  if (argument !== null) return { name, isOfBody: true, value: (_exchange, field) => field(argument) }
  const template: Template = kit.template(text)
  return { name, isOfBody: false, value: (exchange) => template(exchange) }
}

const noField: BodyField = () => undefined

/** Compiles the header fields of a question: what the gateway says, then extras, then fields of the client that neither of them has. */
function headersOf(conf: Prepared, extras: readonly ExtraHeader[]): (exchange: Exchange, body: Buffer | undefined) => string[] {
  const own = new Set(['x-forwarded-proto', 'x-forwarded-method', 'x-forwarded-host', 'x-forwarded-uri', 'x-forwarded-for'])
  const replaced = new Set(extras.map(({ name }) => name.toLowerCase()))
  const passed = [...new Set([...conf.requestHeaders.map((name) => name.toLowerCase()), ...(conf.isPost ? ['content-encoding'] : [])])]
  const copied = passed.filter((key) => !own.has(key) && !replaced.has(key))
  const isBodyRead = extras.some(({ isOfBody }) => isOfBody)
  return (exchange, body) => {
    const { query } = exchange
    const field = isBodyRead && body !== undefined ? postArguments(body, exchange.requestHeaders.get('content-type') ?? '') : noField
    // The path in the one reading that decided the route: what the service allows is what the upstream gets.
    const path = encodePath(exchange.path)
    const headers: string[] = []
    const add = (name: string, value: string): void => {
      if (!replaced.has(name.toLowerCase())) headers.push(name, value)
    }
    add('X-Forwarded-Proto', exchange.scheme)
    add('X-Forwarded-Method', exchange.method)
    add('X-Forwarded-Host', exchange.host)
    add('X-Forwarded-Uri', query === '' ? path : `${path}?${query}`)
    add('X-Forwarded-For', exchange.clientAddress)
    for (const extra of extras) {
      const value = extra.value(exchange, field)
      if (value !== undefined) headers.push(extra.name, fieldValue(value))
    }
    for (const key of copied) {
      if (key === 'host') headers.push('host', exchange.hostHeader)
      else for (const line of exchange.requestHeaders.getAll(key)) headers.push(key, fieldValue(line))
    }
    return headers
  }
}
