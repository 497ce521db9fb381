/**
 * A user plugin that answers with the state of its worker's heap, for the test that counts allocations. Loading it switches the optimising
 * compiler off: what a request allocates then depends on the code alone, not on when a busy machine got round to compiling it.
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
  schema: Type.Object({}),
  prepare: () => null,
  link: () => ({
    // A turn later, so that a collection that happened by now has been told.
    access: () =>
      new Promise((resolve) => {
        setImmediate(() =>
          setImmediate(() => {
            resolve({ status: 200, body: JSON.stringify({ collections, bytes: getHeapStatistics().used_heap_size }) })
          }),
        )
      }),
  }),
})
