/**
 * Subsets of nodes by their labels: a request goes to the nodes that have the values it asks for (a version, a zone).
 *
 * As Envoy's subset load balancer: every combination of values that nodes have is made ready when the upstream is linked, so that a
 * request looks one text up. Runs on workers.
 */
import type { Exchange } from '../../plugins/plugin.js'
import type { CompiledNode, CompiledSubset } from '../../schema/compiled.js'
import { compileTemplate } from '../vars/template.js'

const SEPARATOR = '\u0000'

export class Subsets<Group> {
  private readonly values: readonly ((exchange: Exchange) => string)[]

  constructor(
    options: CompiledSubset,
    private readonly groups: ReadonlyMap<string, Group>,
  ) {
    this.values = options.match.map(({ value }) => compileTemplate(value))
  }

  /** The nodes that have all values of this request; undefined = there are none. */
  groupFor(exchange: Exchange): Group | undefined {
    const { values } = this
    let key = (values[0] as (exchange: Exchange) => string)(exchange)
    for (let index = 1; index < values.length; index++) {
      key += SEPARATOR + (values[index] as (exchange: Exchange) => string)(exchange)
    }
    return this.groups.get(key)
  }
}

/** Nodes by their values of the labels; nodes without one of them are in no subset. */
export function divideByLabels(nodes: readonly CompiledNode[], { match }: CompiledSubset): Map<string, CompiledNode[]> {
  const divided = new Map<string, CompiledNode[]>()
  for (const node of nodes) {
    const values = match.map(({ label }) => node.labels?.[label])
    if (values.includes(undefined)) continue
    const key = values.join(SEPARATOR)
    const members = divided.get(key)
    if (members === undefined) divided.set(key, [node])
    else members.push(node)
  }
  return divided
}
