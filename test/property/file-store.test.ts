/** The file store against a naive model: changes, other files and restarts in any order. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { array, assert, asyncProperty, constant, constantFrom, oneof, record, tuple } from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readBaseResources } from '../../src/controlplane/store/base-resources.js'
import { baseOf, FileStore } from '../../src/controlplane/store/file-store.js'
import type { Mutation } from '../../src/controlplane/store/resource-store.js'

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sluice-store-property-'))
})
afterAll(() => rm(folder, { recursive: true }))

const ids = ['a', 'b', 'c'] as const
const uris = ['/1', '/2', '/3'] as const

type Uri = (typeof uris)[number]
type File = { readonly [id in (typeof ids)[number]]: Uri | null }
type Step =
  | { readonly do: 'change'; readonly changes: readonly (readonly [(typeof ids)[number], Uri | null])[] }
  | { readonly do: 'file'; readonly file: File }
  | { readonly do: 'restart' }

const uriOrNone = constantFrom<Uri | null>(...uris, null)
const step = oneof(
  {
    weight: 4,
    arbitrary: record({
      do: constant('change' as const),
      changes: array(tuple(constantFrom(...ids), uriOrNone), { minLength: 1, maxLength: 3 }),
    }),
  },
  { weight: 2, arbitrary: record({ do: constant('file' as const), file: record({ a: uriOrNone, b: uriOrNone, c: uriOrNone }) }) },
  { weight: 1, arbitrary: record({ do: constant('restart' as const) }) },
)

const none: File = { a: null, b: null, c: null }

function base(file: File) {
  const routes = ids.flatMap((id) => (file[id] === null ? [] : [{ id, uri: file[id] }]))
  return baseOf(readBaseResources({ routes }, 0) ?? [])
}

/** Whoever changed a resource last is right. */
class Model {
  file: File = none
  private readonly changes = new Map<string, { readonly uri: Uri | null; readonly before: Uri | null }>()

  change(id: (typeof ids)[number], uri: Uri | null): void {
    this.changes.set(id, { uri, before: this.file[id] })
  }

  uris(): object {
    const found = ids.map((id) => {
      const change = this.changes.get(id)
      return [id, change !== undefined && change.before === this.file[id] ? change.uri : this.file[id]] as const
    })
    return Object.fromEntries(found.filter(([, uri]) => uri !== null))
  }
}

let count = 0

async function play(steps: readonly Step[]): Promise<void> {
  const journal = join(folder, `journal-${++count}`)
  const model = new Model()
  let store = await FileStore.open(journal)
  const read = () =>
    Object.fromEntries(
      store
        .current()
        .list('routes')
        .map(({ id, value }) => [id, value['uri']]),
    )
  for (const one of steps) {
    if (one.do === 'change') {
      const mutations = one.changes.map(
        ([id, uri]): Mutation =>
          uri === null
            ? { type: 'delete', kind: 'routes', id, leavesGap: false }
            : { type: 'put', kind: 'routes', id, value: { id, uri }, expiresAtMs: null },
      )
      expect(await store.apply(mutations, store.current().revision, 0)).toMatchObject({ state: 'stored' })
      for (const [id, uri] of one.changes) model.change(id, uri)
    } else if (one.do === 'file') {
      model.file = one.file
      store.adopt(store.viewOf(base(one.file)))
    } else {
      await store.close()
      store = await FileStore.open(journal)
      store.adopt(store.viewOf(base(model.file)))
    }
    expect(read()).toEqual(model.uris())
  }
  await store.close()
}

test('what the store holds is what the model holds, after every step', async () => {
  await assert(asyncProperty(array(step, { minLength: 1, maxLength: 25 }), play), { numRuns: 80, seed: 20_261_123 })
}, 60_000)
