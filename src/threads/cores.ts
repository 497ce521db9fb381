/**
 * How many cores this process may really use: the affinity mask (Node asks the kernel for it) and the CPU quota of the control
 * group, version 1 or 2, whichever is smaller.
 */
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

/** What the count depends on; tests pass files of their own. */
export interface CoreSources {
  /** Cores in the affinity mask. */
  readonly parallelism: () => number
  /** Text of a file, or undefined if it cannot be read. */
  readonly readText: (path: string) => string | undefined
}

const systemSources: CoreSources = {
  parallelism: availableParallelism,
  readText(path) {
    try {
      return readFileSync(path, 'utf8')
    } catch {
      return undefined
    }
  },
}

/** Cores available to the process, at least 1. A quota of 1.5 cores counts as 2: the second worker still gets half a core of work. */
export function availableCores(sources: CoreSources = systemSources): number {
  const quota = cgroupQuota(sources.readText)
  return Math.max(1, Math.min(sources.parallelism(), quota === undefined ? Number.POSITIVE_INFINITY : Math.ceil(quota)))
}

/** Cores allowed by the tightest quota on the way from our control group up to the root, or undefined without a quota. */
function cgroupQuota(readText: CoreSources['readText']): number | undefined {
  const membership = readText('/proc/self/cgroup') ?? ''
  let tightest: number | undefined
  const consider = (cores: number | undefined) => {
    if (cores !== undefined && (tightest === undefined || cores < tightest)) tightest = cores
  }
  for (const line of membership.split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    if (controllers === undefined || path === undefined) continue
    if (controllers === '') {
      for (const folder of ancestors('/sys/fs/cgroup', path)) consider(quotaOfV2(readText(`${folder}/cpu.max`)))
    } else if (controllers.split(',').includes('cpu')) {
      for (const folder of ancestors('/sys/fs/cgroup/cpu', path)) {
        consider(quotaOfV1(readText(`${folder}/cpu.cfs_quota_us`), readText(`${folder}/cpu.cfs_period_us`)))
      }
    }
  }
  return tightest
}

/** `/a/b` → mount/a/b, mount/a, mount. Inside a container the path is often not visible; the mount itself is then our group. */
function ancestors(mount: string, path: string): string[] {
  const segments = path.split('/').filter((segment) => segment !== '' && segment !== '..')
  const folders: string[] = []
  for (let count = segments.length; count >= 0; count--) folders.push([mount, ...segments.slice(0, count)].join('/'))
  return folders
}

/** `max 100000` is no quota; `150000 100000` is 1.5 cores. */
function quotaOfV2(text: string | undefined): number | undefined {
  const [, quota, period] = /^(\d+) (\d+)\s*$/.exec(text ?? '') ?? []
  return ratio(quota, period)
}

/** A quota of -1 is none. */
function quotaOfV1(quota: string | undefined, period: string | undefined): number | undefined {
  return ratio(quota?.trim(), period?.trim())
}

function ratio(quota: string | undefined, period: string | undefined): number | undefined {
  const cores = Number(quota) / Number(period)
  return Number.isFinite(cores) && cores > 0 ? cores : undefined
}
