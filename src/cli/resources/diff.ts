/** `sluice diff` and `sluice apply`: a file and the configuration of a running gateway. */
import { isMap } from '../../controlplane/admin/patch.js'
import { formatIssue, formatPath } from '../../controlplane/load-issue.js'
import { type AdminClient, type AdminReply, type AdminTarget, textOf, withClient } from './admin-client.js'
import { type FileResources, type RunningResources, readFileResources, readRunning } from './compared.js'
import { changesBetween, type ResourceChange, showChange, summary } from './resource-changes.js'

export interface ApplyOptions {
  readonly file: string
  readonly target: AdminTarget
  /** Leave resources alone that the file does not have. */
  readonly keepsOthers: boolean
  readonly asJson: boolean
  /** Do it. */
  readonly yes: boolean
  /** The state of the gateway that somebody has looked at; null = whatever it is. */
  readonly state: string | null
}

/** Prints what `apply` would do; exit code 0 when there is nothing to do, 1 when there is, 2 when the file is wrong. */
export async function runDiff(options: Omit<ApplyOptions, 'yes' | 'state'>): Promise<number> {
  return withFile(options, async ({ running, changes }) => {
    print(changes, running.state, options.asJson)
    return changes.length === 0 ? 0 : 1
  })
}

/** Makes the gateway what the file says, as one change, or says what that would be. Exit code 0 when it is done or would be accepted. */
export async function runApply(options: ApplyOptions): Promise<number> {
  return withFile(options, async ({ client, wanted, running, changes }) => {
    if (options.state !== null && options.state !== running.state)
      return refuse('the configuration was changed since that state; compare again')
    print(changes, running.state, options.asJson)
    if (wanted.otherSections.length > 0) {
      process.stderr.write(`not applied, because it concerns the process: ${wanted.otherSections.join(', ')}\n`)
    }
    if (changes.length === 0) return 0
    const body = { state: running.state, changes: changes.map(asMutation) }
    const reply = await client.ask('POST', options.yes ? '/v1/resources' : '/v1/resources?dry_run=true', body)
    if (reply.status !== 200) return refuse(textOf(reply), reply, wanted)
    const epoch = isMap(reply.body) ? String(reply.body['epoch']) : ''
    const done = options.yes
      ? `done: epoch ${epoch} runs on every worker`
      : 'the gateway would accept it; nothing was changed: --yes does it'
    process.stderr.write(`${done}\n`)
    return 0
  })
}

interface Comparison {
  readonly client: AdminClient
  readonly wanted: FileResources
  readonly running: RunningResources
  readonly changes: readonly ResourceChange[]
}

async function withFile(options: Omit<ApplyOptions, 'yes' | 'state'>, use: (comparison: Comparison) => Promise<number>): Promise<number> {
  const wanted = await readFileResources(options.file)
  if (wanted === null) return 2
  return withClient(options.target, async (client) => {
    const running = await readRunning(client)
    return use({ client, wanted, running, changes: changesBetween(running.resources, wanted.resources, options.keepsOthers) })
  })
}

function asMutation(change: ResourceChange): object {
  const { type, kind, id } = change
  return change.type === 'put' ? { type, kind, id, value: { ...change.value, ...(kind !== 'consumers' && { id }) } } : { type, kind, id }
}

function print(changes: readonly ResourceChange[], state: string, asJson: boolean): void {
  if (asJson) {
    const list = changes.map((change) => ({
      change: change.type === 'delete' ? 'delete' : change.before === null ? 'add' : 'change',
      kind: change.kind,
      id: change.id,
      fields:
        change.type === 'put' && change.before !== null
          ? showChange(change)
              .slice(1)
              .map((line) => line.trim())
          : [],
    }))
    process.stdout.write(`${JSON.stringify({ state, changes: list }, null, 2)}\n`)
    return
  }
  for (const change of changes) process.stdout.write(`${showChange(change).join('\n')}\n`)
  process.stdout.write(`${summary(changes)}; state ${state}\n`)
}

/** Errors are shown at their places in the file. Exit code 2. */
function refuse(message: string, reply: AdminReply | null = null, wanted: FileResources | null = null): number {
  const errors = reply !== null && isMap(reply.body) && Array.isArray(reply.body['errors']) ? reply.body['errors'] : []
  for (const error of errors) if (wanted !== null && isMap(error)) process.stderr.write(`${errorLine(error, wanted)}\n`)
  process.stderr.write(`sluice: refused: ${message}\n`)
  return 2
}

function errorLine(error: { readonly [name: string]: unknown }, { source, origins }: FileResources): string {
  const path = Array.isArray(error['path']) ? error['path'].filter((part) => typeof part === 'string' || typeof part === 'number') : []
  const [kind, place, ...rest] = path
  const origin = origins.get(`${kind} ${String(place).replace(/ \(Admin API\)$/, '')}`)
  const message = String(error['message'])
  const expected = String(error['expected'] ?? '')
  if (origin === undefined) return formatIssue({ file: 'gateway', line: 0, col: 0, path: formatPath(path), message, expected })
  const full = [...origin, ...rest]
  return formatIssue({ file: source.file, ...source.locate(full), path: formatPath(source.originOf(full)), message, expected })
}
