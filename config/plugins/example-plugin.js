/**
 * gate-keeper: an example of a plugin of your own. Copy it, rename it, name the copy in `sluice.plugins` (see README.md here).
 *
 * It does two things, one for each half of a request's life:
 *   - refuses requests for which an expression holds (`refuse_when`), before they reach an upstream;
 *   - adds a header to every answer, its text made from a template (`header`).
 *
 * The module is loaded in the primary thread, which checks and prepares configurations, and in every worker, which runs requests.
 * State: none. Failure: an expression or header name that makes no sense is refused when the configuration is loaded.
 */
import { definePlugin, expressionProblem, fieldNameProblem, fieldValue, jsonReply, Type } from 'sluice/plugin'

// Every field needs a description; defaults are filled in before any function below sees the configuration.
const schema = Type.Object({
  refuse_when: Type.Optional(
    Type.Array(Type.Unknown(), {
      description:
        'Expression in the language of `vars`, such as `[["http_user_agent", "~~", "^curl/"]]`: requests for which it holds are refused.',
    }),
  ),
  status: Type.Integer({ minimum: 400, maximum: 599, default: 403, description: 'Status of the refusal.' }),
  message: Type.String({ minLength: 1, maxLength: 1024, default: 'refused by the gate keeper', description: 'Text of the refusal.' }),
  header: Type.Object(
    {
      name: Type.String({ minLength: 1, default: 'X-Gate', description: 'Name of the header added to answers.' }),
      value: Type.String({ default: '$route_id from $remote_addr', description: 'Its text; `$name` stands for a variable.' }),
    },
    { default: {}, description: 'The header added to every answer.' },
  ),
})

export const plugin = definePlugin({
  name: 'gate-keeper',
  // Higher runs first. Below 2000: after authentication, before limits (1001 to 1003).
  priority: 1500,
  description: 'Refuses requests by a rule and marks answers with a header.',
  schema,
  check,
  prepare,
  link,
})

/** Primary thread, after the schema passed: rules that a schema cannot express. Returns what is wrong and where. */
function check(conf) {
  const problems = []
  const inExpression = conf.refuse_when === undefined ? null : expressionProblem(conf.refuse_when)
  if (inExpression !== null) problems.push({ path: 'refuse_when', message: inExpression })
  const inName = fieldNameProblem(conf.header.name)
  if (inName !== null) problems.push({ path: 'header.name', message: inName })
  return problems
}

/** Primary thread, once per configuration: returns the plain JSON data that the workers get. */
function prepare(conf) {
  return { refuseWhen: conf.refuse_when ?? null, status: conf.status, message: conf.message, header: conf.header }
}

/** Worker thread, once per route: compiles everything, so that the phase functions below only run what is ready. */
function link(prepared, kit) {
  const isRefused = prepared.refuseWhen === null ? null : kit.expression(prepared.refuseWhen)
  const refusal = jsonReply(prepared.status, 'message', prepared.message)
  const { name } = prepared.header
  const value = kit.template(prepared.header.value)
  return {
    // Returning a reply answers the request; returning nothing lets it go on.
    access(exchange) {
      if (isRefused?.(exchange)) return refusal
    },
    // Runs for every answer: the upstream's, this plugin's refusal, and those of other plugins.
    headerFilter(exchange) {
      // Variables may hold what a client sent: fieldValue makes any text safe as a header.
      exchange.response.headers.set(name, fieldValue(value(exchange)))
    },
  }
}
