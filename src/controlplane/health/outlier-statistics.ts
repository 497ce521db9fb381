/**
 * Which nodes of an upstream answered so much worse than they should, in one interval, that they are outliers. Pure.
 *
 * Success rates are judged as Envoy judges them: of the nodes with enough requests, those are outliers whose rate is below
 * `mean - factor × standard deviation`; with too few such nodes there is nothing to compare.
 */
import type { CompiledOutlierDetection } from '../../schema/compiled.js'

/** What a node did in the interval. */
export interface NodeInterval {
  readonly successes: number
  readonly failures: number
  readonly slowCalls: number
}

/** Reasons by index of the outliers among `nodes`, the first that applies. */
export function findOutliers(rules: CompiledOutlierDetection, nodes: readonly NodeInterval[]): Map<number, string> {
  const outliers = new Map<number, string>()
  const find = (index: number, reason: string): void => {
    if (!outliers.has(index)) outliers.set(index, reason)
  }
  if (rules.successRateStdevFactor > 0) lowSuccessRates(rules, nodes, find)
  if (rules.failurePercentageThreshold > 0) highFailurePercentages(rules, nodes, find)
  if (rules.slowCallMs > 0 && rules.slowCallPercentage > 0) slowNodes(rules, nodes, find)
  return outliers
}

type Find = (index: number, reason: string) => void

function requests({ successes, failures }: NodeInterval): number {
  return successes + failures
}

/** Indexes of the nodes with at least `volume` requests; none when they are fewer than `hosts`. */
function judged(nodes: readonly NodeInterval[], volume: number, hosts: number): number[] {
  const enough = [...nodes.keys()].filter((index) => requests(nodes[index] as NodeInterval) >= volume)
  return enough.length >= hosts ? enough : []
}

function lowSuccessRates(rules: CompiledOutlierDetection, nodes: readonly NodeInterval[], find: Find): void {
  const indexes = judged(nodes, rules.successRateRequestVolume, rules.successRateMinimumHosts)
  if (indexes.length === 0) return
  const rates = indexes.map((index) => {
    const node = nodes[index] as NodeInterval
    return (100 * node.successes) / requests(node)
  })
  const mean = rates.reduce((sum, rate) => sum + rate, 0) / rates.length
  const deviation = Math.sqrt(rates.reduce((sum, rate) => sum + (rate - mean) ** 2, 0) / rates.length)
  const threshold = mean - rules.successRateStdevFactor * deviation
  for (const [place, index] of indexes.entries()) {
    const rate = rates[place] as number
    if (rate < threshold) find(index, `success rate ${rate.toFixed(1)} %, below ${threshold.toFixed(1)} % (mean ${mean.toFixed(1)} %)`)
  }
}

function highFailurePercentages(rules: CompiledOutlierDetection, nodes: readonly NodeInterval[], find: Find): void {
  for (const index of judged(nodes, rules.failurePercentageRequestVolume, rules.failurePercentageMinimumHosts)) {
    const node = nodes[index] as NodeInterval
    const failed = (100 * node.failures) / requests(node)
    if (failed >= rules.failurePercentageThreshold) find(index, `${failed.toFixed(1)} % of ${requests(node)} requests failed`)
  }
}

function slowNodes(rules: CompiledOutlierDetection, nodes: readonly NodeInterval[], find: Find): void {
  for (const index of judged(nodes, rules.slowCallRequestVolume, 1)) {
    const node = nodes[index] as NodeInterval
    const slow = (100 * node.slowCalls) / requests(node)
    if (slow >= rules.slowCallPercentage) find(index, `${slow.toFixed(1)} % of ${requests(node)} requests were slow`)
  }
}
