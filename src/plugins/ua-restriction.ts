/**
 * ua-restriction: lets requests in or keeps them out by their User-Agent field.
 *
 * Runs on workers, access phase. State: none. Failure: a missing or empty User-Agent is refused unless `bypass_missing` is on.
 * A request with several User-Agent lines must satisfy the rule with each of them.
 */
import {
  definePlugin,
  type Exchange,
  exactlyOneOf,
  type HeaderList,
  itemProblems,
  jsonReply,
  type LinkKit,
  type Pattern,
  type PluginInstance,
  type PluginProblem,
  patternProblem,
  type Reply,
  type Static,
  Type,
} from './plugin.js'

const patterns = (description: string) => Type.Optional(Type.Array(Type.String({ minLength: 1 }), { minItems: 1, description }))

const schema = Type.Object({
  bypass_missing: Type.Boolean({ default: false, description: 'Let requests pass that have no User-Agent.' }),
  allowlist: patterns('Regular expressions; a User-Agent that matches none of them is refused. Excludes `denylist`.'),
  denylist: patterns('Regular expressions; a User-Agent that matches one of them is refused. Excludes `allowlist`.'),
  message: Type.String({
    minLength: 1,
    maxLength: 1024,
    default: 'Not allowed',
    description: 'Text of the refusal, sent as `{"message": …}` with status 403.',
  }),
})
type Conf = Static<typeof schema>

export const uaRestriction = definePlugin<Conf, Conf>({
  name: 'ua-restriction',
  priority: 2999,
  description: 'Allows or refuses requests by their User-Agent.',
  schema,
  check,
  prepare: (conf) => conf,
  link,
})

function check(conf: Conf): PluginProblem[] {
  return [
    ...exactlyOneOf(conf, ['allowlist', 'denylist']),
    ...itemProblems('allowlist', conf.allowlist, patternProblem),
    ...itemProblems('denylist', conf.denylist, patternProblem),
  ]
}

function link(conf: Conf, kit: LinkKit): PluginInstance {
  const listed = (conf.allowlist ?? conf.denylist ?? []).map((source) => kit.pattern(source))
  const listedMayPass = conf.allowlist !== undefined
  const missingMayPass = conf.bypass_missing
  const refusal = jsonReply(403, 'message', conf.message)
  return {
    access(exchange: Exchange): Reply | undefined {
      return mayPass(exchange.requestHeaders, listed, listedMayPass, missingMayPass) ? undefined : refusal
    },
  }
}

function mayPass(headers: HeaderList, listed: readonly Pattern[], listedMayPass: boolean, missingMayPass: boolean): boolean {
  let present = false
  for (let index = 0; index < headers.count; index++) {
    if (headers.keys[index] !== 'user-agent') continue
    const agent = (headers.values[index] ?? '').trim()
    if (agent === '') continue
    present = true
    if (matchesAny(listed, agent) !== listedMayPass) return false
  }
  return present || missingMayPass
}

function matchesAny(patterns: readonly Pattern[], text: string): boolean {
  for (const pattern of patterns) if (pattern.test(text)) return true
  return false
}
