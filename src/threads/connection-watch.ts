/**
 * Keeps the number of client connections of the process below `limits.max_connections`.
 *
 * Builds of uWebSockets.js that report connections are believed. The others do not say: there the open files of the process are
 * counted, less what is known not to be a client. At the limit the workers stop listening, so that the kernel refuses further clients
 * instead of the process running out of memory; below 95 % they listen again. Runs in the primary, a few times a second.
 */
import { readdir } from 'node:fs/promises'

const RESUME_RATIO = 0.95

export interface ConnectionSources {
  /** Connections as the build reports them, or null when it does not. */
  reported(): number | null
  /** Open connections to upstreams. */
  upstreamConnections(): number
  /** Number of open files of this process; rejects where the system has no such list. */
  openFiles(): Promise<number>
}

export class ConnectionWatch {
  /** Client connections at the last look; null = cannot be known here. */
  count: number | null = null
  /** False while the limit is reached. */
  isAccepting = true
  private baseline: number | null = null
  private isBusy = false

  constructor(
    private readonly max: number,
    private readonly sources: ConnectionSources,
    private readonly onChange: (accepting: boolean, count: number) => void,
  ) {}

  /** Takes the files that are open before there are clients. Call once, when the gateway listens. */
  async begin(): Promise<void> {
    this.baseline = await this.sources.openFiles().catch(() => null)
  }

  /** Counts, and reacts. Concurrent calls are dropped. */
  async look(): Promise<void> {
    if (this.isBusy) return
    this.isBusy = true
    try {
      this.count = await this.measure()
    } finally {
      this.isBusy = false
    }
    const { count } = this
    if (count === null) return
    if (this.isAccepting ? count >= this.max : count < this.max * RESUME_RATIO) {
      this.isAccepting = !this.isAccepting
      this.onChange(this.isAccepting, count)
    }
  }

  private async measure(): Promise<number | null> {
    const reported = this.sources.reported()
    if (reported !== null) return reported
    if (this.baseline === null) return null
    const files = await this.sources.openFiles().catch(() => null)
    return files === null ? null : Math.max(0, files - this.baseline - this.sources.upstreamConnections())
  }
}

/** Open files of this process, on Linux. */
export async function countOpenFiles(): Promise<number> {
  return (await readdir('/proc/self/fd')).length
}
