/**
 * mocking: answers with an example or with random data instead of asking the upstream.
 *
 * Runs on workers in the access phase, so that authentication has its say first. No state. Nothing here can fail: the schema is
 * checked when the configuration loads, and what random data would not satisfy is refused by name.
 */
import { generatorOf, schemaProblems } from './mocking/random-data.js'
import {
  definePlugin,
  type Exchange,
  fieldNameProblem,
  fieldValue,
  type Json,
  type LinkKit,
  type PhaseReturn,
  type PluginProblem,
  type Reply,
  type Static,
  Type,
  templateProblem,
} from './plugin.js'

/** Version of the reference gateway whose behaviour this is. */
const mockedBy = 'APISIX/3.18.0'

const schema = Type.Object({
  delay: Type.Integer({ description: 'Seconds to wait before answering.', default: 0, minimum: 0, maximum: 86_400 }),
  response_status: Type.Integer({ description: 'Status to answer with.', default: 200, minimum: 100, maximum: 999 }),
  content_type: Type.String({ description: 'Content-Type to answer with.', default: 'application/json;charset=utf8', minLength: 1 }),
  response_example: Type.Optional(Type.String({ description: 'Body to answer with; may hold variables.' })),
  response_schema: Type.Optional(
    Type.Object(
      {},
      {
        description:
          'JSON Schema of which random JSON is made for every answer: `type`, `properties`, `items`, `enum`, `const`, bounds; `example` and `default` are taken as they are.',
        additionalProperties: true,
      },
    ),
  ),
  with_mock_header: Type.Boolean({ description: 'Tell clients with `x-mock-by` that the answer is made up.', default: true }),
  response_headers: Type.Optional(
    Type.Record(Type.String(), Type.Union([Type.String(), Type.Number()]), {
      description: 'Headers to answer with; values may hold variables.',
    }),
  ),
})

type Conf = Static<typeof schema>

interface Prepared {
  readonly delayMs: number
  readonly status: number
  readonly contentType: string
  readonly example: string | null
  readonly schema: Json
  readonly withMockHeader: boolean
  readonly headers: readonly (readonly [string, string])[]
}

/** `random` gives numbers from 0 up to, not including, 1. */
export function createMocking(random: () => number) {
  return definePlugin<Conf, Prepared>({
    name: 'mocking',
    priority: 10900,
    description: 'Answers with an example, or with random data made of a JSON Schema, without an upstream.',
    schema,
    check,
    prepare: (conf) => ({
      delayMs: conf.delay * 1000,
      status: conf.response_status,
      contentType: fieldValue(conf.content_type),
      example: conf.response_example ?? null,
      schema: (conf.response_schema ?? null) as Json,
      withMockHeader: conf.with_mock_header,
      headers: Object.entries(conf.response_headers ?? {}).map(([name, value]) => [name, String(value)] as const),
    }),
    link: (prepared, kit) => link(prepared, kit, random),
  })
}

export const mocking = createMocking(Math.random)

function check(conf: Conf): PluginProblem[] {
  const problems: PluginProblem[] = []
  if ((conf.response_example === undefined) === (conf.response_schema === undefined))
    problems.push({ path: '', message: 'expected exactly one of response_example and response_schema' })
  if (conf.response_status < 200)
    problems.push({ path: 'response_status', message: `${conf.response_status} is an interim status; expected at least 200` })
  if (conf.response_schema !== undefined) {
    problems.push(...schemaProblems(conf.response_schema as Json, 'response_schema'))
    if (!/json|^text\/plain/i.test(conf.content_type))
      problems.push({ path: 'content_type', message: 'response_schema makes JSON; expected a JSON media type or text/plain' })
  }
  const exampleProblem = templateProblem(conf.response_example ?? '')
  if (exampleProblem !== null) problems.push({ path: 'response_example', message: exampleProblem })
  for (const [name, value] of Object.entries(conf.response_headers ?? {})) {
    const message = fieldNameProblem(name) ?? templateProblem(String(value))
    if (message !== null) problems.push({ path: `response_headers.${name}`, message })
  }
  return problems
}

function link(prepared: Prepared, kit: LinkKit, random: () => number) {
  const body = linkBody(prepared, kit, random)
  const templates = prepared.headers.map(([name, value]) => [name, kit.template(value)] as const)
  const hasContentType = prepared.headers.some(([name]) => name.toLowerCase() === 'content-type')
  const fixed: [string, string][] = hasContentType ? [] : [['Content-Type', prepared.contentType]]
  if (prepared.withMockHeader) fixed.push(['x-mock-by', mockedBy])

  const answer = (exchange: Exchange): Reply => ({
    status: prepared.status,
    body: body(exchange),
    headers: [...fixed, ...templates.map(([name, value]) => [name, fieldValue(value(exchange))] as const)],
  })
  return {
    access(exchange: Exchange): PhaseReturn {
      return prepared.delayMs === 0 ? answer(exchange) : kit.delay(prepared.delayMs).then(() => answer(exchange))
    },
  }
}

function linkBody(prepared: Prepared, kit: LinkKit, random: () => number): (exchange: Exchange) => string {
  if (prepared.example !== null) return kit.template(prepared.example)
  const generate = generatorOf(prepared.schema)
  return () => JSON.stringify(generate(random))
}
