/** Sends the framing probes through a gateway and says of each what happened and whether the gateway covered it. */
import { type Difference, differences } from './judge.js'
import { type Probe, probes } from './probes.js'
import { RawConnection } from './raw-connection.js'
import type { RecordingUpstream } from './recording-upstream.js'
import { readRequests, type StrictRequestReader } from './strict-request.js'

export type Verdict =
  /** Refused what had to be refused, forwarded the rest faithfully. */
  | 'covered'
  /** Something reached the upstream that a strict reading does not allow. */
  | 'leak'
  /** Like `leak`, but only the content of a body changed, not the boundaries of messages. */
  | 'body changed'
  /** Refused, but the connection stayed open in an unknown state. */
  | 'left open'
  /** Valid, but it did not arrive. */
  | 'lost'
  /** One of the three above, decided inside the uWebSockets.js build where no guard can see it (build-limits.ts). */
  | 'build limit'

export interface ProbeReport {
  readonly probe: Probe
  readonly verdict: Verdict
  /** Statuses of all answers, in order. */
  readonly statuses: readonly number[]
  /** The gateway closed the connection. */
  readonly closed: boolean
  /** One sentence each: what was wrong. */
  readonly faults: readonly string[]
  /** What reached the upstream because of this probe, one character per byte. */
  readonly upstreamText: string
}

export interface ProbeRun {
  readonly host: string
  readonly port: number
  /** The only upstream of the gateway, for every path and host. */
  readonly upstream: RecordingUpstream
  /** Default: all. */
  readonly probes?: readonly Probe[]
  /**
   * A probe counts as unanswered when nothing came for this long, three times, each followed by a well-formed request that was answered:
   * a gateway that is slow is not taken for one that is silent. Default 200 ms.
   */
  readonly quietMs?: number
  /** Probes, as `group: name`, that the build decides before JavaScript sees them, and why. Default: none. */
  readonly limits?: ReadonlyMap<string, string>
}

const BARRIER_TARGET = '/sluice-doctor-barrier'
const QUIET_ROUNDS = 3
const BARRIER_TIMEOUT_MS = 30_000

/** Runs the probes one after another. Rejects when the gateway stops answering well-formed requests. */
export async function runProbes(run: ProbeRun): Promise<ProbeReport[]> {
  const reports: ProbeReport[] = []
  await barrier(run)
  for (const probe of run.probes ?? probes) {
    reports.push(underLimit(await runProbe(run, probe), run.limits))
  }
  return reports
}

async function runProbe(run: ProbeRun, probe: Probe): Promise<ProbeReport> {
  const { upstream } = run
  const marks = new Map(upstream.connections.map((connection) => [connection.id, connection.byteCount]))
  const sent = readRequests(Buffer.from(probe.pieces.join(''), 'latin1'))
  const client = await RawConnection.open({ host: run.host, port: run.port })
  let closed = false
  try {
    for (const request of sent.requests) client.reader.expect(request.method)
    for (const [index, piece] of probe.pieces.entries()) {
      // So that the gateway reads them one by one: what it had before a request that it answers, it has read.
      if (index > 0) await barrier(run)
      if (client.closed || !(await client.send(piece))) break
    }
    const due = sent.requests.filter((request) => request.complete).length + (sent.problem === null ? 0 : 1)
    const settled = (): boolean => client.ended || client.closed || answers(client) >= Math.max(due, 1)
    await settle(run, client, settled)
    const isClosed = (): boolean => client.ended || client.closed
    const refused = client.reader.responses.some((response) => response.status >= 400)
    if (refused) await settle(run, client, isClosed)
    closed = isClosed()
  } finally {
    client.destroy()
  }
  await barrier(run)
  const texts = upstream.connections.map((connection) => connection.text.slice(marks.get(connection.id) ?? 0)).filter((text) => text !== '')
  const statuses = client.reader.responses.map((response) => response.status)
  return judge(probe, sent, { statuses, closed, texts })
}

/** Waits until the condition holds, or nothing can be expected any more. */
async function settle(run: ProbeRun, client: RawConnection, condition: () => boolean): Promise<void> {
  for (let round = 0; round < QUIET_ROUNDS; round++) {
    if (await client.signal.holds(condition, run.quietMs ?? 200)) return
    await barrier(run)
  }
}

function underLimit(report: ProbeReport, limits: ReadonlyMap<string, string> | undefined): ProbeReport {
  const reason = limits?.get(`${report.probe.group}: ${report.probe.name}`)
  if (reason === undefined || report.verdict === 'covered' || report.verdict === 'left open') return report
  return { ...report, verdict: 'build limit', faults: [...report.faults, reason] }
}

interface Observation {
  readonly statuses: readonly number[]
  readonly closed: boolean
  readonly texts: readonly string[]
}

function judge(probe: Probe, sent: StrictRequestReader, seen: Observation): ProbeReport {
  const arrivals = seen.texts.map((text) => {
    const { requests, problem, unread } = readRequests(Buffer.from(text, 'latin1'))
    return { requests: requests.filter((request) => request.target !== BARRIER_TARGET), problem, unread }
  })
  const found = differences(sent, arrivals)
  const arrived = arrivals.flatMap((arrival) => arrival.requests).filter((request) => request.complete).length
  if (probe.expect === 'refuse' && arrived > 0 && found.length === 0) {
    found.push({ kind: 'message', text: 'a request that must be refused arrived' })
  }
  const verdict = verdictOf(probe, sent, seen, found, arrived)
  const faults = found.map((difference) => difference.text)
  if (verdict === 'left open') faults.push('answered with an error, but the connection stayed open')
  if (verdict === 'lost') faults.push('a valid request did not arrive at the upstream')
  const upstreamText = seen.texts.map((text) => text.split(`GET ${BARRIER_TARGET} `)[0] ?? '').join('')
  return { probe, verdict, statuses: seen.statuses, closed: seen.closed, faults, upstreamText }
}

function verdictOf(probe: Probe, sent: StrictRequestReader, seen: Observation, found: readonly Difference[], arrived: number): Verdict {
  if (found.some((difference) => difference.kind === 'message')) return 'leak'
  if (found.length > 0) return 'body changed'
  const due = sent.requests.filter((request) => request.complete).length
  if (probe.expect === 'forward' && arrived < due) return 'lost'
  const mustClose = sent.problem !== null && seen.statuses.some((status) => status >= 400)
  if (mustClose && !seen.closed) return 'left open'
  return 'covered'
}

function answers(client: RawConnection): number {
  return client.reader.responses.filter((response) => response.complete).length
}

/** A well-formed request behind the probe: when it was answered, whatever the probe set in motion has reached the upstream. */
async function barrier(run: ProbeRun): Promise<void> {
  const client = await RawConnection.open({ host: run.host, port: run.port })
  try {
    const bytes = `GET ${BARRIER_TARGET} HTTP/1.1\r\nHost: doctor.sluice.test\r\nConnection: close\r\n\r\n`
    const response = await client.request(bytes, BARRIER_TIMEOUT_MS)
    if (response.status !== 200) throw new Error(`the gateway answers a well-formed request with ${response.status}`)
  } finally {
    client.destroy()
  }
}
