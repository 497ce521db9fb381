/** Rules for the options of the balancers that a schema cannot say. */
import { parseTemplate, templateProblem } from '../schema/template.js'
import { hashNamePattern, hashVariablePattern, type UpstreamResource } from '../schema/upstream.js'
import type { DocumentPath, IssueList } from './load-issue.js'

export function checkBalancing(value: UpstreamResource, path: DocumentPath, issues: IssueList): void {
  const type = value.type ?? 'roundrobin'
  if (type === 'chash') checkHash(value, path, issues)
  const belongs: [keyof UpstreamResource, string, boolean][] = [
    ['hash_on', 'chash', type === 'chash'],
    ['key', 'chash', type === 'chash'],
    ['hash_algorithm', 'chash', type === 'chash'],
    ['hash_balance_factor', 'chash', type === 'chash'],
    ['ewma_decay', 'ewma', type === 'ewma'],
  ]
  for (const [name, right, fits] of belongs) {
    if (value[name] !== undefined && !fits) {
      issues.warn([...path, name], `${name} has no effect with type ${type}`, `type: ${right}`, { atKey: true })
    }
  }
  if (value.slow_start !== undefined && type === 'chash') {
    issues.error([...path, 'slow_start'], 'slow_start is not possible with type chash, where the key decides', 'no slow_start', {
      atKey: true,
    })
  }
  checkSubset(value, path, issues)
}

function checkHash(value: UpstreamResource, path: DocumentPath, issues: IssueList): void {
  const { key } = value
  const on = value.hash_on ?? 'vars'
  if (on === 'consumer') return
  if (key === undefined) {
    issues.error(path, 'missing key', `a key that names ${keyMeaning[on]}`)
    return
  }
  const problem = keyProblem(on, key)
  if (problem !== null) issues.error([...path, 'key'], problem, keyMeaning[on])
  else if (on === 'vars' && key === 'server_name') {
    issues.warn([...path, 'key'], 'server_name has no value here, so requests are hashed by remote_addr', 'host')
  }
}

const keyMeaning = {
  vars: 'one of uri, server_name, server_addr, request_uri, remote_port, remote_addr, query_string, host, hostname or arg_<name>',
  header: 'the name of a header',
  cookie: 'the name of a cookie',
  vars_combinations: 'a text with variables: $remote_addr$uri',
} as const

function keyProblem(on: keyof typeof keyMeaning, key: string): string | null {
  if (on === 'vars') return new RegExp(hashVariablePattern).test(key) ? null : `"${key}" is not a variable that hash_on: vars knows`
  if (on !== 'vars_combinations') return new RegExp(hashNamePattern).test(key) ? null : `"${key}" is not the name of a ${on}`
  const problem = templateProblem(key)
  if (problem !== null) return problem
  const isConstant = parseTemplate(key).every((part) => part.kind !== 'variable')
  return isConstant ? `"${key}" has no variable, so all requests would go to one node` : null
}

function checkSubset(value: UpstreamResource, path: DocumentPath, issues: IssueList): void {
  const { subset, nodes } = value
  if (subset === undefined) return
  const members = Array.isArray(nodes) ? nodes : []
  for (const [label, text] of Object.entries(subset.match)) {
    const at = [...path, 'subset', 'match', label]
    const problem = templateProblem(text)
    if (problem !== null) issues.error(at, problem, 'a text, with variables that exist')
    if (nodes !== undefined && !members.some((node) => node.metadata?.[label] !== undefined)) {
      issues.warn(at, `no node has ${label} in its metadata`, 'metadata of the nodes with this name', { atKey: true })
    }
  }
}
