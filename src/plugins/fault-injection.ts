/**
 * fault-injection: delays or refuses a share of the requests, to test how clients cope.
 *
 * Runs on workers in the rewrite phase: the delay first, then the abort, each sampled on its own. No state. Nothing here can fail.
 */
import {
  definePlugin,
  type Exchange,
  expressionProblem,
  fieldNameProblem,
  fieldValue,
  type Json,
  type LinkKit,
  type PhaseReturn,
  type PluginProblem,
  type Predicate,
  type Reply,
  type Static,
  Type,
  templateProblem,
} from './plugin.js'

const percentage = Type.Optional(
  Type.Integer({ description: 'Share of the requests that it happens to; absent = all of them, 0 = none.', minimum: 0, maximum: 100 }),
)
const vars = Type.Optional(
  Type.Array(Type.Unknown(), {
    description: 'Up to 20 expressions in the language of `vars`; it happens only if one of them holds.',
    maxItems: 20,
  }),
)

const schema = Type.Object({
  abort: Type.Optional(
    Type.Object(
      {
        http_status: Type.Integer({ description: 'Status to answer with.', minimum: 200, maximum: 999 }),
        body: Type.Optional(Type.String({ description: 'Body to answer with; may hold variables.' })),
        headers: Type.Optional(
          Type.Record(Type.String(), Type.Union([Type.String(), Type.Number()]), {
            description: 'Headers to answer with; values may hold variables.',
          }),
        ),
        percentage,
        vars,
      },
      { description: 'Answer at once instead of asking the upstream.' },
    ),
  ),
  delay: Type.Optional(
    Type.Object(
      { duration: Type.Number({ description: 'Seconds to wait, with fraction.', minimum: 0, maximum: 86_400 }), percentage, vars },
      { description: 'Wait before going on.' },
    ),
  ),
})

type Conf = Static<typeof schema>

interface Sampled {
  readonly percentage: number
  readonly vars: Json[]
}

interface Prepared {
  readonly abort: (Sampled & { status: number; body: string | null; headers: readonly (readonly [string, string])[] }) | null
  readonly delay: (Sampled & { delayMs: number }) | null
}

/** `random` gives numbers from 0 up to, not including, 1. */
export function createFaultInjection(random: () => number) {
  return definePlugin<Conf, Prepared>({
    name: 'fault-injection',
    priority: 11000,
    description: 'Injects delays and failures into a share of the requests, to test how clients and services cope with them.',
    schema,
    check,
    prepare,
    link: (prepared, kit) => link(prepared, kit, random),
  })
}

export const faultInjection = createFaultInjection(Math.random)

function check(conf: Conf): PluginProblem[] {
  const problems: PluginProblem[] = []
  const { abort, delay } = conf
  if (abort === undefined && delay === undefined)
    problems.push({ path: '', message: 'nothing to inject; expected at least one of abort and delay' })
  const bodyProblem = templateProblem(abort?.body ?? '')
  if (bodyProblem !== null) problems.push({ path: 'abort.body', message: bodyProblem })
  for (const [name, value] of Object.entries(abort?.headers ?? {})) {
    const problem = fieldNameProblem(name) ?? templateProblem(String(value))
    if (problem !== null) problems.push({ path: `abort.headers.${name}`, message: problem })
  }
  for (const [part, expressions] of [
    ['abort', abort?.vars],
    ['delay', delay?.vars],
  ] as const)
    for (const [index, expression] of (expressions ?? []).entries()) {
      const problem = expressionProblem(expression as Json)
      if (problem !== null) problems.push({ path: `${part}.vars.${index}`, message: problem })
    }
  return problems
}

function prepare({ abort, delay }: Conf): Prepared {
  return {
    abort:
      abort === undefined
        ? null
        : {
            ...sampled(abort),
            status: abort.http_status,
            body: abort.body ?? null,
            headers: Object.entries(abort.headers ?? {}).map(([name, value]) => [name, String(value)] as const),
          },
    delay: delay === undefined ? null : { ...sampled(delay), delayMs: Math.round(delay.duration * 1000) },
  }
}

function sampled(part: { readonly percentage?: number; readonly vars?: unknown[] }): Sampled {
  return { percentage: part.percentage ?? 100, vars: (part.vars ?? []) as Json[] }
}

function link({ abort, delay }: Prepared, kit: LinkKit, random: () => number) {
  const delays = delay === null ? null : linkSample(delay, kit, random)
  const aborts = abort === null ? null : linkSample(abort, kit, random)
  const refuse = linkReply(abort, kit)
  const afterDelay = (exchange: Exchange): Reply | undefined => (aborts?.(exchange) ? refuse(exchange) : undefined)
  return {
    rewrite(exchange: Exchange): PhaseReturn {
      if (delay === null || delays === null || !delays(exchange)) return afterDelay(exchange)
      return kit.delay(delay.delayMs).then(() => afterDelay(exchange))
    },
  }
}

/** True when it happens to this request: one of the expressions holds (or there is none), and the dice say so. */
function linkSample(part: Sampled, kit: LinkKit, random: () => number): Predicate {
  const conditions = part.vars.map((expression) => kit.expression(expression))
  return (exchange) => {
    if (conditions.length > 0 && !conditions.some((holds) => holds(exchange))) return false
    return part.percentage >= 100 || (part.percentage > 0 && random() * 100 < part.percentage)
  }
}

function linkReply(abort: Prepared['abort'], kit: LinkKit): (exchange: Exchange) => Reply {
  if (abort === null) return () => ({ status: 500 })
  const body = abort.body === null ? null : kit.template(abort.body)
  const headers = abort.headers.map(([name, value]) => [name, kit.template(value)] as const)
  return (exchange) => ({
    status: abort.status,
    ...(body !== null && { body: body(exchange) }),
    headers: headers.map(([name, value]) => [name, fieldValue(value(exchange))] as const),
  })
}
