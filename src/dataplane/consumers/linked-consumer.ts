/** A consumer as a worker keeps it: what plugins see of it, and its metric series at hand. */
import type { Consumer } from '../../plugins/plugin.js'
import type { RouteSeries } from '../../shared/metrics-slab.js'
import { SeriesMemo } from './series-memo.js'

/** What an exchange knows about its consumer. */
export class LinkedConsumer implements Consumer {
  readonly id: string
  readonly groupId: string
  readonly labels: { readonly [key: string]: string }
  readonly customId: string
  readonly groups: readonly string[]
  /** Private to this class, and so apart from what is frozen: the metric series that was used last, and others. */
  #route: object | null = null
  #node = ''
  #series: RouteSeries | null = null
  #others: SeriesMemo | null = null

  constructor(
    readonly username: string,
    id: string,
    groupId: string,
    labels: { readonly [key: string]: string },
    groups: readonly string[],
    /** Number of the overlay of plugins in the snapshot; -1 = none. */
    readonly overlay: number,
  ) {
    this.id = id === '' ? username : id
    this.groupId = groupId
    this.labels = Object.freeze(labels)
    this.customId = labels['custom_id'] ?? ''
    this.groups = Object.freeze(groups)
    Object.freeze(this)
  }

  /** The series of this consumer on this route and node, if it is at hand. */
  seriesOf(route: object, node: string): RouteSeries | null {
    if (this.#route === route && this.#node === node) return this.#series
    const series = this.#others?.get(route, node) ?? null
    if (series !== null) this.use(route, node, series)
    return series
  }

  /** Keeps a series at hand, in place of older ones; gives it back. */
  keepSeries(route: object, node: string, series: RouteSeries): RouteSeries {
    // Most consumers call one route and node.
    if (this.#route !== null && this.#series !== null && this.#others === null) {
      this.#others = new SeriesMemo()
      this.#others.keep(this.#route, this.#node, this.#series)
    }
    this.#others?.keep(route, node, series)
    this.use(route, node, series)
    return series
  }

  private use(route: object, node: string, series: RouteSeries): void {
    this.#route = route
    this.#node = node
    this.#series = series
  }
}
