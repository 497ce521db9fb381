/**
 * The metric series of one consumer at hand, by route and node. They lie with the consumer, which the request has looked up anyway: with
 * many consumers, a table of series by their names costs more than everything else that authentication does.
 */
import type { RouteSeries } from '../../shared/metrics-slab.js'

/** Routes × nodes that are kept for a consumer. Of others, the series is looked up by its labels. */
const KEPT_MAX = 16

export class SeriesMemo {
  private readonly routes: object[] = []
  private readonly nodes: string[] = []
  private readonly kept: RouteSeries[] = []
  private oldest = 0

  get(route: object, node: string): RouteSeries | undefined {
    const { routes } = this
    for (let index = 0; index < routes.length; index++) {
      if (routes[index] === route && this.nodes[index] === node) return this.kept[index]
    }
    return undefined
  }

  /** Keeps a series in place of the oldest; gives it back. */
  keep(route: object, node: string, series: RouteSeries): RouteSeries {
    const place = this.oldest
    this.oldest = (place + 1) % KEPT_MAX
    this.routes[place] = route
    this.nodes[place] = node
    this.kept[place] = series
    return series
  }
}
