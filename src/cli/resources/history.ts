/** `sluice config history`, `diff` and `rollback`: earlier revisions of the store of a running gateway. */

import { UsageError } from '../../base/errors.js'
import { isMap } from '../../controlplane/admin/patch.js'
import { type AdminTarget, textOf, withClient } from './admin-client.js'
import { readRunning } from './compared.js'
import { changesBetween, showChange, summary } from './resource-changes.js'

/** Prints the revisions that the store keeps, the newest first. Exit code 0. */
export async function runHistory(target: AdminTarget, asJson: boolean): Promise<number> {
  const reply = await withClient(target, (client) => client.ask('GET', '/v1/history'))
  const { body } = reply
  if (reply.status !== 200 || !isMap(body) || !Array.isArray(body['revisions'])) throw new UsageError(textOf(reply), 1)
  if (asJson) {
    process.stdout.write(`${JSON.stringify(body, null, 2)}\n`)
    return 0
  }
  for (const item of body['revisions']) if (isMap(item)) process.stdout.write(`${line(item)}\n`)
  process.stdout.write(`the gateway is at revision ${String(body['revision'])}\n`)
  return 0
}

/** Changes named in a line. */
const NAMED_MAX = 5

function line(item: { readonly [name: string]: unknown }): string {
  const { revision, atMs, changes, changeCount } = item
  const at = typeof atMs === 'number' ? new Date(atMs).toISOString() : 'earlier'
  const named = (Array.isArray(changes) ? changes : []).filter(isMap).slice(0, NAMED_MAX)
  const names = named.map(({ type, kind, id }) => `${type === 'delete' ? '-' : '+'} ${String(kind)}/${String(id)}`)
  const more = Number(changeCount) > names.length ? `, ${Number(changeCount) - names.length} more` : ''
  return `${String(revision).padStart(6)}  ${at}  ${names.join(', ')}${more}`
}

/** Prints what has changed from a revision to another; null = to what is in force. Exit code 0 without a difference, else 1. */
export async function runHistoryDiff(target: AdminTarget, from: number, to: number | null): Promise<number> {
  const changes = await withClient(target, async (client) => {
    const before = await readRunning(client, from)
    const after = await readRunning(client, to)
    return changesBetween(before.resources, after.resources, false)
  })
  for (const change of changes) process.stdout.write(`${showChange(change).join('\n')}\n`)
  process.stdout.write(`${summary(changes)}\n`)
  return changes.length === 0 ? 0 : 1
}

/** Makes the resources what they were, as one change, or says what that would be. Exit code 0 when it is done or would be accepted. */
export async function runRollback(target: AdminTarget, revision: number, yes: boolean): Promise<number> {
  return withClient(target, async (client) => {
    const now = await readRunning(client)
    const then = await readRunning(client, revision)
    const changes = changesBetween(now.resources, then.resources, false)
    for (const change of changes) process.stdout.write(`${showChange(change).join('\n')}\n`)
    process.stdout.write(`${summary(changes)}\n`)
    if (changes.length === 0) return 0
    const path = '/v1/history/rollback'
    const reply = await client.ask('POST', yes ? path : `${path}?dry_run=true`, { revision, state: now.state })
    if (reply.status !== 200) throw new UsageError(`refused: ${textOf(reply)}`)
    const epoch = isMap(reply.body) ? String(reply.body['epoch']) : ''
    process.stderr.write(
      yes ? `done: epoch ${epoch} runs on every worker\n` : 'the gateway would accept it; nothing was changed: --yes does it\n',
    )
    return 0
  })
}
