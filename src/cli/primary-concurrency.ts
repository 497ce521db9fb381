/** Shows how full the upstreams are that have a bound (`concurrency`). */
import { placesOf } from '../dataplane/concurrency/bulkhead.js'
import type { CompiledConfig, CompiledUpstream } from '../schema/compiled.js'
import { ConcurrencyView } from '../shared/concurrency-cells.js'
import { metrics } from '../telemetry/metrics.js'
import type { Sample } from '../telemetry/prometheus.js'

export class PrimaryConcurrency {
  private readonly view: ConcurrencyView
  private bounded: readonly CompiledUpstream[] = []

  constructor(region: SharedArrayBuffer) {
    this.view = new ConcurrencyView(region)
  }

  /** A configuration is about to be published. */
  follow(config: Pick<CompiledConfig, 'upstreams'>): void {
    this.bounded = config.upstreams.filter(({ resilience }) => resilience?.concurrency !== undefined)
  }

  samples(): Sample[] {
    return this.bounded.flatMap(({ key, rotor, resilience }) => {
      const { places, waiting, learned } = this.view.of(rotor)
      const conf = resilience?.concurrency
      if (conf === undefined) return []
      const values = [`/apisix/${key}`]
      return [
        { metric: metrics.upstreamPlaces, values, value: places },
        { metric: metrics.upstreamWaiting, values, value: waiting },
        { metric: metrics.upstreamLimit, values, value: placesOf(conf, learned) },
      ]
    })
  }
}
