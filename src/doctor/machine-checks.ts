/** What of the machine and of the loaded uWebSockets.js build decides how well a gateway can run, with the way to better. */
import { readFileSync } from 'node:fs'

export interface MachineFacts {
  readonly nodeVersion: string
  /** Cores in the affinity mask. */
  readonly parallelism: number
  /** Cores that remain under the control group's quota. */
  readonly cores: number
  readonly binding: { readonly name: string; readonly version: string; readonly childApps: boolean; readonly tls: boolean }
  /** Text of a file, or undefined when it cannot be read. */
  readonly readText: (path: string) => string | undefined
}

export interface MachineCheck {
  readonly name: string
  readonly level: 'good' | 'note' | 'warning'
  readonly found: string
  /** What would be better and how to get there; empty when there is nothing to do. */
  readonly advice: string
}

/** Open files below this are used up by the default of 65,536 client connections with one upstream connection each. */
const WANTED_OPEN_FILES = 131_072
const WANTED_BACKLOG = 4096

export function readTextFile(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

export function machineChecks(facts: MachineFacts): MachineCheck[] {
  return [
    { name: 'Node', level: 'good', found: facts.nodeVersion, advice: '' },
    coreCheck(facts),
    openFiles(facts.readText('/proc/self/limits')),
    backlog(facts.readText('/proc/sys/net/core/somaxconn')),
    migration(facts.readText('/proc/sys/net/ipv4/tcp_migrate_req'), facts.binding.childApps),
    acceptance(facts.binding),
    tls(facts.binding),
    ...bindingTruths(facts.binding.name),
  ]
}

function coreCheck(facts: MachineFacts): MachineCheck {
  const found = `${facts.cores} usable of ${facts.parallelism}`
  if (facts.cores >= facts.parallelism) return { name: 'cores', level: 'good', found, advice: '' }
  return { name: 'cores', level: 'note', found, advice: 'the control group has a CPU quota; --workers defaults to what it leaves' }
}

function openFiles(limits: string | undefined): MachineCheck {
  const name = 'open files (ulimit -n)'
  const match = /^Max open files\s+(\d+|unlimited)\s+(\d+|unlimited)/m.exec(limits ?? '')
  if (match === null) return { name, level: 'note', found: 'unknown', advice: '/proc/self/limits cannot be read here' }
  const [, soft = '', hard = ''] = match
  const found = `${soft} (hard limit ${hard})`
  if (soft === 'unlimited' || Number(soft) >= WANTED_OPEN_FILES) return { name, level: 'good', found, advice: '' }
  return {
    name,
    level: 'warning',
    found,
    advice: `set it to ${WANTED_OPEN_FILES} or more (systemd: LimitNOFILE), or lower max_connections`,
  }
}

function backlog(text: string | undefined): MachineCheck {
  const name = 'net.core.somaxconn'
  if (text === undefined) return { name, level: 'note', found: 'unknown', advice: 'the setting cannot be read here' }
  const found = text.trim()
  if (Number(found) >= WANTED_BACKLOG) return { name, level: 'good', found, advice: '' }
  return {
    name,
    level: 'warning',
    found,
    advice: `bursts of connections are refused beyond it: sysctl -w net.core.somaxconn=${WANTED_BACKLOG}`,
  }
}

function migration(text: string | undefined, childApps: boolean): MachineCheck {
  const name = 'net.ipv4.tcp_migrate_req'
  if (text === undefined)
    return { name, level: 'note', found: 'unknown', advice: 'the kernel is older than 5.14, or the setting cannot be read here' }
  const found = text.trim()
  if (found === '1' || childApps) return { name, level: 'good', found, advice: '' }
  const advice = 'with --accept kernel, connections that wait for a worker that ends are lost: sysctl -w net.ipv4.tcp_migrate_req=1'
  return { name, level: 'warning', found, advice }
}

function acceptance(binding: MachineFacts['binding']): MachineCheck {
  const found = `${binding.name} ${binding.version}`
  if (binding.childApps) return { name: 'uWebSockets.js', level: 'good', found: `${found}, --accept primary and kernel`, advice: '' }
  const advice = 'addChildAppDescriptor is missing, so --accept primary is not possible; kernel is used'
  return { name: 'uWebSockets.js', level: 'note', found: `${found}, --accept kernel only`, advice }
}

function tls(binding: MachineFacts['binding']): MachineCheck {
  if (binding.tls) return { name: 'TLS listeners', level: 'good', found: 'available', advice: '' }
  return { name: 'TLS listeners', level: 'note', found: 'not in this build', advice: 'terminate TLS with the default build' }
}

/** What the build, which serves TLS, does before JavaScript sees a byte: nothing in front of routing can cover it, so it is said here. */
function bindingTruths(name: string): MachineCheck[] {
  if (name !== 'uWebSockets.js') return []
  return [
    {
      name: 'chunk extensions',
      level: 'warning',
      found: 'the bundled build corrupts the body of a request with a chunk extension',
      advice: 'this cannot be seen from JavaScript; listeners of kind tcp (plain HTTP) and kind node (TLS too) read chunks strictly',
    },
    {
      name: 'request trailers',
      level: 'note',
      found: 'the bundled build misreads trailers of a request',
      advice: 'the request is answered and the connection then closed; kind tcp and kind node read trailers, and drop them',
    },
  ]
}
