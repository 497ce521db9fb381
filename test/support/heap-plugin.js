/**
 * A user plugin that answers with the state of its worker's heap, for the test that counts allocations; with `wasted` it allocates so many
 * bytes and lets the request pass. Loading it switches the optimising compiler off: what a request allocates then depends on the code alone,
 * not on when a busy machine got round to compiling it.
 */
import { PerformanceObserver } from 'node:perf_hooks'
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { definePlugin, Type } from 'sluice/plugin'

setFlagsFromString('--no-opt')
let collections = 0
new PerformanceObserver((list) => {
  collections += list.getEntries().length
}).observe({ entryTypes: ['gc'] })

export const plugin = definePlugin({
  name: 'test-heap',
  priority: 1,
  description: 'Tells the bytes in use in the heap, and how often it was collected.',
  schema: Type.Object({ wasted: Type.Optional(Type.Integer({ minimum: 0 })) }),
  prepare: ({ wasted }) => ({ wasted: wasted ?? null }),
  link: ({ wasted }) => (wasted === null ? { access: tellHeap } : { access: () => waste(wasted) }),
})

/** A turn later, so that a collection that happened by now has been told. */
function tellHeap() {
  return new Promise((resolve) => {
    setImmediate(() =>
      setImmediate(() => {
        resolve({ status: 200, body: JSON.stringify({ collections, bytes: getHeapStatistics().used_heap_size }) })
      }),
    )
  })
}

const wordBytes = 8

function waste(bytes) {
  new Array(Math.floor(bytes / wordBytes)).fill(0)
}
