/** What tests of the stores that gateways share ask of them. */
import { expect } from 'vitest'
import type { Mutation, ResourceValue } from '../../src/controlplane/store/resource-store.js'
import type { SharedStore } from '../../src/controlplane/store/shared-store.js'

export function putOf(kind: string, id: string, value: ResourceValue = {}): Mutation {
  return { type: 'put', kind, id, value: { id, ...value }, expiresAtMs: null }
}

/** As the writer of a gateway does: again, when somebody else was faster. */
export async function applied(store: SharedStore, ...mutations: Mutation[]): Promise<void> {
  for (;;) {
    const outcome = await store.apply(mutations, store.current().revision, Date.now())
    if (outcome.state === 'stored') return
    expect(outcome.state).toBe('conflict')
  }
}
