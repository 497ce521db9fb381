/** Flags of V8. They hold for all threads of the process, and are set before the first worker starts. */
import { setFlagsFromString } from 'node:v8'

export interface V8Settings {
  readonly parallelGc: boolean
}

/**
 * Collecting the young objects of a worker means copying the few kilobytes that live; the thread alone needs less than 0.1 ms. By default V8
 * wakes helpers for it and waits for those that began. Under load they begin when they get a core, and lose it again, and the worker
 * answers nobody meanwhile: see native-bench/notes/latency.md.
 */
export function setV8Flags({ parallelGc }: V8Settings): void {
  setFlagsFromString(parallelGc ? '--parallel-scavenge' : '--no-parallel-scavenge')
}
