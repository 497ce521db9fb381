import { expect, test } from 'vitest'
import { ManualClock } from '../../../src/base/clock.js'
import type { ConfigIssue } from '../../../src/controlplane/load-issue.js'
import {
  type ConfigurationHost,
  ConfigurationWriter,
  type Plan,
  type Prepared,
  type PublishOutcome,
} from '../../../src/controlplane/store/configuration-writer.js'
import { ResourceMap } from '../../../src/controlplane/store/resource-map.js'
import type { ApplyOutcome, Mutation, ResourceView } from '../../../src/controlplane/store/resource-store.js'

/** A configuration is wrong when a route says so, or when two routes have the same uri. */
class FakeHost implements ConfigurationHost<ResourceView> {
  view: ResourceView = ResourceMap.empty
  epoch = 1
  checks = 0
  conflicts = 0
  refusal: string | null = null
  gate: Promise<void> = Promise.resolve()

  current(): ResourceView {
    return this.view
  }
  async prepare(_from: ResourceView, view: ResourceView): Promise<Prepared<ResourceView>> {
    this.checks++
    await this.gate
    const uris = view.list('routes').map(({ value }) => value['uri'])
    const wrong = uris.includes('wrong') ? 'wrong' : new Set(uris).size < uris.length ? 'twice' : null
    if (wrong === null) return { ok: true, prepared: view, warnings: [] }
    const issue: ConfigIssue = { file: 'f', line: 0, col: 0, path: '', message: wrong, expected: '' }
    return { ok: false, errors: [issue] }
  }
  async publish(prepared: ResourceView, store: () => Promise<ApplyOutcome>): Promise<PublishOutcome> {
    const outcome = await store()
    if (outcome.state !== 'stored') return outcome
    this.view = prepared
    return { state: 'published', epoch: ++this.epoch, isEverywhere: true, atNextStart: [] }
  }
  async apply(mutations: readonly Mutation[], expected: number, atMs: number): Promise<ApplyOutcome> {
    if (this.refusal !== null) return { state: 'unavailable', reason: this.refusal }
    if (this.conflicts > 0) {
      this.conflicts--
      // Somebody else was faster.
      this.view = this.view.with([put(`other${this.conflicts}`, `/other${this.conflicts}`)], this.view.revision + 1, atMs)
      return { state: 'conflict', revision: this.view.revision }
    }
    expect(this.view.revision).toBe(expected)
    expect(mutations.length).toBeGreaterThan(0)
    return { state: 'stored', revision: expected + 1 }
  }
  exclusively<T>(run: () => Promise<T>): Promise<T> {
    return run()
  }
}

const put = (id: string, uri: string, expiresAtMs: number | null = null): Mutation => ({
  type: 'put',
  kind: 'routes',
  id,
  value: { id, uri },
  expiresAtMs,
})
const always =
  (...mutations: Mutation[]): Plan<string> =>
  () => ({ mutations })

function setUp() {
  const host = new FakeHost()
  const clock = new ManualClock()
  const warnings: string[] = []
  return { host, clock, warnings, writer: new ConfigurationWriter(host, clock, (text) => warnings.push(text), ['routes']) }
}

test('changes that come together share an epoch, and only those that are to blame are refused', async () => {
  const { host, writer } = setUp()
  const uris = ['/a', 'wrong', '/b', '/a', '/c', 'wrong', '/d']
  const outcomes = await Promise.all(uris.map((uri, index) => writer.submit(always(put(String(index), uri)))))
  expect(outcomes.map(({ state }) => state)).toEqual(['done', 'invalid', 'done', 'invalid', 'done', 'invalid', 'done'])
  expect(outcomes[3]).toMatchObject({ errors: [{ message: 'twice' }] })
  expect(new Set(outcomes.flatMap((outcome) => (outcome.state === 'done' ? [outcome.epoch] : [])))).toEqual(new Set([2]))
  expect(host.view.list('routes').map(({ value }) => value['uri'])).toEqual(['/a', '/b', '/c', '/d'])
  expect(host.view.revision).toBe(1)
})

test('a change that is only right behind another one of its batch is accepted, one that is right alone but not there is refused', async () => {
  const { host, writer } = setUp()
  await writer.submit(always(put('x', '/x')))
  const move = writer.submit(always(put('x', '/moved')))
  const take = writer.submit(always(put('y', '/x')))
  const late = writer.submit(always(put('z', '/moved')))
  expect((await Promise.all([move, take, late])).map(({ state }) => state)).toEqual(['done', 'done', 'invalid'])
  expect(host.view.list('routes').map(({ value }) => value['uri'])).toEqual(['/moved', '/x'])
})

test('plans see what the changes before them did, and may refuse', async () => {
  const { host, writer } = setUp()
  const count: Plan<string> = (view) => {
    const before = Number(view.get('routes', 'n')?.value['uri'] ?? 0)
    return before === 50 ? { refusal: 'full' } : { mutations: [put('n', String(before + 1))] }
  }
  const outcomes = await Promise.all(Array.from({ length: 60 }, () => writer.submit(count)))
  expect(outcomes.filter(({ state }) => state === 'done')).toHaveLength(50)
  expect(outcomes.at(-1)).toEqual({ state: 'refused', refusal: 'full' })
  expect(host.view.get('routes', 'n')?.value['uri']).toBe('50')
  expect(host.checks).toBe(1)
})

test('changes that come while a batch is under way make the next one', async () => {
  const { host, writer } = setUp()
  let open = () => {}
  host.gate = new Promise((resolve) => {
    open = resolve
  })
  const first = writer.submit(always(put('a', '/a')))
  await expect.poll(() => host.checks).toBe(1)
  const others = ['b', 'c', 'd'].map((id) => writer.submit(always(put(id, `/${id}`))))
  open()
  expect(await first).toMatchObject({ epoch: 2 })
  expect(await Promise.all(others)).toMatchObject([{ epoch: 3 }, { epoch: 3 }, { epoch: 3 }])
})

test('when somebody else was faster the change is made again upon theirs', async () => {
  const { host, writer } = setUp()
  host.conflicts = 2
  expect(await writer.submit(always(put('a', '/a')))).toMatchObject({ state: 'done' })
  expect(host.view.list('routes')).toHaveLength(3)
  host.conflicts = 100
  expect(await writer.submit(always(put('b', '/b')))).toMatchObject({ state: 'unavailable' })
})

test('a store that cannot be written changes nothing', async () => {
  const { host, writer } = setUp()
  host.refusal = 'the disk is full'
  expect(await writer.submit(always(put('a', '/a')))).toEqual({ state: 'unavailable', reason: 'the disk is full' })
  expect(host.view.list('routes')).toEqual([])
})

test('what has a time to live is deleted when it is over; what cannot be deleted is tried again, and said', async () => {
  const { host, clock, writer, warnings } = setUp()
  const start = clock.wallMs()
  await writer.submit(always(put('t', '/t', start + 5_000), put('stays', '/stays')))
  clock.advance(4_999)
  expect(host.view.list('routes')).toHaveLength(2)
  host.refusal = 'the disk is full'
  clock.advance(1)
  await expect.poll(() => warnings.length).toBe(1)
  expect(warnings[0]).toContain('the disk is full')
  host.refusal = null
  clock.advance(10_000)
  await expect.poll(() => host.view.list('routes').length).toBe(1)
  // Written again without a time to live it stays.
  await writer.submit(always(put('t', '/t', clock.wallMs() + 1_000)))
  await writer.submit(always(put('t', '/t')))
  clock.advance(2_000)
  expect(clock.pending).toBe(0)
  expect(host.view.list('routes')).toHaveLength(2)
  writer.close()
  expect(await writer.submit(always(put('u', '/u')))).toMatchObject({ state: 'unavailable' })
})
