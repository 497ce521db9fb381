/**
 * uri-blocker: refuses requests whose URI, query included, matches a regular expression.
 *
 * Runs on workers, rewrite phase. State: none. Failure: none at run time; a bad expression is refused with the configuration.
 * Each rule is tried on the request target as received and on the canonical form that the router matched, so that a rule for
 * `/admin` cannot be evaded by writing `/%61dmin` or `/x/../admin`.
 */
import {
  definePlugin,
  type Exchange,
  itemProblems,
  jsonReply,
  type LinkKit,
  type Pattern,
  type PluginInstance,
  patternProblem,
  type Reply,
  type Static,
  Type,
} from './plugin.js'

const schema = Type.Object({
  block_rules: Type.Array(Type.String({ minLength: 1, maxLength: 4096 }), {
    minItems: 1,
    uniqueItems: true,
    description: 'Regular expressions; a request whose URI (path and query) matches one of them is refused.',
  }),
  rejected_code: Type.Integer({ minimum: 200, maximum: 599, default: 403, description: 'Status of the refusal.' }),
  rejected_msg: Type.Optional(
    Type.String({ minLength: 1, description: 'Text of the refusal, sent as `{"error_msg": …}`; without it the body names the status.' }),
  ),
  case_insensitive: Type.Boolean({ default: false, description: 'Match without regard to upper and lower case.' }),
})
type Conf = Static<typeof schema>

export const uriBlocker = definePlugin<Conf, Conf>({
  name: 'uri-blocker',
  priority: 2900,
  description: 'Refuses requests whose URI matches one of several regular expressions.',
  schema,
  check: (conf) => itemProblems('block_rules', conf.block_rules, patternProblem),
  prepare: (conf) => conf,
  link,
})

function link(conf: Conf, kit: LinkKit): PluginInstance {
  const rules = conf.block_rules.map((source) => kit.pattern(source, { ignoreCase: conf.case_insensitive }))
  const refusal: Reply =
    conf.rejected_msg === undefined ? { status: conf.rejected_code } : jsonReply(conf.rejected_code, 'error_msg', conf.rejected_msg)
  return {
    rewrite(exchange: Exchange): Reply | undefined {
      const received = exchange.rawTarget
      if (matchesAny(rules, received)) return refusal
      const canonical = exchange.query === '' ? exchange.path : `${exchange.path}?${exchange.query}`
      return canonical !== received && matchesAny(rules, canonical) ? refusal : undefined
    },
  }
}

function matchesAny(rules: readonly Pattern[], uri: string): boolean {
  for (const rule of rules) if (rule.test(uri)) return true
  return false
}
