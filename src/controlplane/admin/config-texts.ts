/**
 * What is wrong with a resource, in the words of the reference Admin API: scripts search answers for them. The place comes first,
 * outermost part first: `invalid configuration: property "upstream" validation failed: property "nodes" …`.
 */
import type { ResourceProblem } from '../validate-resource.js'

/** Texts that stand for themselves, wherever they were found. */
const bare =
  /^(only one of (?!uris? or)|failed to (parse|handle|fetch|validate)|duplicate key of|unknown plugin |only supports auth|consumer not found|the property is forbidden|plugin \S+ (is not|takes no))/
/** Of upstreams, wherever they stand but inside of plugins. */
const bareOfUpstream = /^(missing key$|`upstream_host` can't be empty)/
const addressForm = /^IPv6 address must be enclosed/
const missingReference = /^failed to fetch .* by .* id \[.*\]$/
const duplicateKey = /^(duplicate key of plugin \S+ found with )(.+?): ((?:consumer|credential): .+) has the same$/

/** `kind` and `id` of the resource that was written: in a conflict of two, the other one is named. */
export function errorText({ path, message }: ResourceProblem, kind: string, id: string): string {
  const [, start, first = '', second = ''] = duplicateKey.exec(message) ?? []
  if (start !== undefined) return `${start}${first === ownerName(kind, id) ? second : first}`
  if (missingReference.test(message)) return `${message}, response code: 404`
  const [section, plugin, ...option] = path
  if (bare.test(message)) return message
  if (section === 'plugins' && plugin !== undefined) {
    return `failed to check the configuration of plugin ${plugin} err: ${placed(option, message)}`
  }
  if (bareOfUpstream.test(message)) return message
  if (addressForm.test(message)) return `invalid configuration: ${message}`
  if (kind === 'routes' && path.length === 0) {
    const choice = 'invalid configuration: allOf 1 failed: value should match only one schema, but matches'
    if (message === 'property "uri" is required') return `${choice} none`
    if (message === 'only one of uri or uris is allowed') return `${choice} both schemas 1 and 2`
  }
  return `invalid configuration: ${placed(path, message)}`
}

function placed(path: readonly (string | number)[], message: string): string {
  const parts = message.startsWith('additional properties forbidden') ? path.slice(0, -1) : path
  const places = parts.map((part) =>
    typeof part === 'number' ? `failed to validate item ${part + 1}: ` : `property "${part}" validation failed: `,
  )
  return `${places.join('')}${message}`
}

/** As messages about credentials name their owner. */
function ownerName(kind: string, id: string): string {
  if (kind === 'consumers') return `consumer: ${id}`
  const [consumer, credential] = id.split('/credentials/')
  return `credential: ${credential} of consumer: ${consumer}`
}
