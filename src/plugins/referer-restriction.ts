/**
 * referer-restriction: lets requests in or keeps them out by the host in their Referer field.
 *
 * Runs on workers, access phase. State: none. Failure: a Referer that is missing, empty or no http(s) URL counts as missing and is
 * refused unless `bypass_missing` is on. User names and ports in the URL are ignored, so `https://good.test@evil.test/` is evil.test.
 */
import {
  definePlugin,
  type Exchange,
  exactlyOneOf,
  itemProblems,
  jsonReply,
  type LinkKit,
  type PluginInstance,
  type PluginProblem,
  patternProblem,
  type Reply,
  type Static,
  Type,
} from './plugin.js'

const HOST_PATTERN = '^\\*?[0-9a-zA-Z._\\[\\]:-]*$'

const hosts = (description: string) =>
  Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 256, pattern: HOST_PATTERN }), { minItems: 1, description }))
const patterns = (description: string) => Type.Optional(Type.Array(Type.String({ minLength: 1 }), { minItems: 1, description }))

const schema = Type.Object({
  bypass_missing: Type.Boolean({ default: false, description: 'Let requests pass that have no Referer, or a malformed one.' }),
  whitelist: hosts('Hosts that may refer; `*.example.com` means any host below example.com, but not itself. Only one list may be given.'),
  blacklist: hosts('Hosts that may not refer, written as in `whitelist`. Only one list may be given.'),
  allowlist: patterns(
    'Regular expressions for the host; a Referer whose host matches none of them is refused. Only one list may be given.',
  ),
  denylist: patterns('Regular expressions for the host; a Referer whose host matches one of them is refused. Only one list may be given.'),
  message: Type.String({
    minLength: 1,
    maxLength: 1024,
    default: 'Your referer host is not allowed',
    description: 'Text of the refusal, sent as `{"message": …}` with status 403.',
  }),
})
type Conf = Static<typeof schema>

export const refererRestriction = definePlugin<Conf, Conf>({
  name: 'referer-restriction',
  priority: 2990,
  description: 'Allows or refuses requests by the host in their Referer.',
  schema,
  check,
  prepare: (conf) => conf,
  link,
})

function check(conf: Conf): PluginProblem[] {
  return [
    ...exactlyOneOf(conf, ['whitelist', 'blacklist', 'allowlist', 'denylist']),
    ...itemProblems('allowlist', conf.allowlist, patternProblem),
    ...itemProblems('denylist', conf.denylist, patternProblem),
  ]
}

function link(conf: Conf, kit: LinkKit): PluginInstance {
  const isListed = hostMatcher(conf, kit)
  const listedMayPass = conf.whitelist !== undefined || conf.allowlist !== undefined
  const missingMayPass = conf.bypass_missing
  const refusal = jsonReply(403, 'message', conf.message)
  return {
    access(exchange: Exchange): Reply | undefined {
      const host = refererHost(exchange.requestHeaders.get('referer'))
      const passes = host === '' ? missingMayPass : isListed(host) === listedMayPass
      return passes ? undefined : refusal
    },
  }
}

function hostMatcher(conf: Conf, kit: LinkKit): (host: string) => boolean {
  const regexes = conf.allowlist ?? conf.denylist
  if (regexes !== undefined) {
    // Hosts are compared without regard to case, whatever spelling the expression uses.
    const compiled = regexes.map((source) => kit.pattern(source, { ignoreCase: true }))
    return (host) => compiled.some((pattern) => pattern.test(host))
  }
  const exact = new Set<string>()
  const suffixes: string[] = []
  for (const item of conf.whitelist ?? conf.blacklist ?? []) {
    const lower = item.toLowerCase()
    if (lower.startsWith('*')) suffixes.push(lower.slice(1))
    else exact.add(lower)
  }
  // `*.a.test` needs a label before the dot: the host `.a.test` does not exist, so being longer than the suffix is enough.
  return (host) => exact.has(host) || suffixes.some((suffix) => suffix === '' || (host.length > suffix.length && host.endsWith(suffix)))
}

/** Lower-case host of an http(s) or scheme-relative URL, IPv6 in its brackets; empty when there is none. */
function refererHost(referer: string | undefined): string {
  if (referer === undefined) return ''
  const start = /^(?:https?:)?\/\//i.exec(referer)
  if (start === null) return ''
  // Browsers read a backslash as a slash: a host that ends there must not be read on.
  const authority = referer.slice(start[0].length).split(/[/?#\\]/, 1)[0] ?? ''
  const host = authority.slice(authority.lastIndexOf('@') + 1)
  const parts = /^(\[[0-9a-f:.]+\]|[^[\]:\s]+)(?::\d*)?$/i.exec(host)
  return parts?.[1]?.toLowerCase() ?? ''
}
