/** max_connections: what is counted, and when the workers stop and go on accepting. */
import { describe, expect, test } from 'vitest'
import { ConnectionWatch } from '../../../src/threads/connection-watch.js'

function watchOf(max: number, state: { files: number; upstream: number; reported: number | null }) {
  const changes: [boolean, number][] = []
  const watch = new ConnectionWatch(
    max,
    {
      reported: () => state.reported,
      upstreamConnections: () => state.upstream,
      openFiles: () => (state.files < 0 ? Promise.reject(new Error('no /proc')) : Promise.resolve(state.files)),
    },
    (accepting, count) => changes.push([accepting, count]),
  )
  return { watch, changes }
}

describe('ConnectionWatch', () => {
  test('counts open files beyond the baseline that are no upstream connections', async () => {
    const state = { files: 30, upstream: 0, reported: null }
    const { watch } = watchOf(100, state)
    await watch.begin()
    state.files = 50
    state.upstream = 5
    await watch.look()
    expect(watch.count).toBe(15)
  })

  test('stops at the limit, goes on below 95 %, says each once', async () => {
    const state = { files: 0, upstream: 0, reported: null }
    const { watch, changes } = watchOf(100, state)
    await watch.begin()
    for (const files of [99, 100, 120, 96, 95, 94, 99]) {
      state.files = files
      await watch.look()
    }
    expect(changes).toEqual([
      [false, 100],
      [true, 94],
    ])
  })

  test('believes a build that reports connections', async () => {
    const state = { files: 1000, upstream: 0, reported: 7 }
    const { watch } = watchOf(100, state)
    await watch.begin()
    await watch.look()
    expect(watch.count).toBe(7)
  })

  test('knows nothing where open files cannot be listed, and limits nothing', async () => {
    const { watch, changes } = watchOf(1, { files: -1, upstream: 0, reported: null })
    await watch.begin()
    await watch.look()
    expect(watch.count).toBeNull()
    expect(changes).toEqual([])
  })
})
