/** The two sides of a comparison: the resources of a running gateway, and those of a file. */
import { UsageError } from '../../base/errors.js'
import { isMap } from '../../controlplane/admin/patch.js'
import { checkOpened, openConfiguration } from '../../controlplane/check.js'
import { type DocumentPath, formatIssue } from '../../controlplane/load-issue.js'
import type { SourceDocument } from '../../controlplane/load-source.js'
import { readBaseResources } from '../../controlplane/store/base-resources.js'
import { contentDigest } from '../../controlplane/store/resource-digest.js'
import { resourceKinds } from '../../schema/resources.js'
import { type AdminClient, textOf } from './admin-client.js'
import type { ComparedResource } from './resource-changes.js'

export interface RunningResources {
  /** Names exactly this configuration; see resource-set.ts. */
  readonly state: string
  readonly resources: readonly ComparedResource[]
}

/** What is in force, or what was at a revision. Rejects with UsageError when the gateway does not say. */
export async function readRunning(client: AdminClient, revision: number | null = null): Promise<RunningResources> {
  const reply = await client.ask('GET', revision === null ? '/v1/resources' : `/v1/resources?revision=${revision}`)
  const { body } = reply
  if (reply.status !== 200 || !isMap(body) || typeof body['state'] !== 'string' || !Array.isArray(body['resources'])) {
    throw new UsageError(`the admin server does not list these resources: ${textOf(reply)}`, 1)
  }
  return { state: body['state'], resources: body['resources'].filter(isCompared) }
}

function isCompared(value: unknown): value is ComparedResource {
  return isMap(value) && ['kind', 'id', 'digest'].every((name) => typeof value[name] === 'string') && isMap(value['value'])
}

export interface FileResources {
  readonly source: SourceDocument
  readonly resources: readonly ComparedResource[]
  /** Where each stands in the file. */
  readonly origins: ReadonlyMap<string, DocumentPath>
  /** Parts of the file that are no resources. */
  readonly otherSections: readonly string[]
}

const resourceNames = new Set(resourceKinds.map(({ kind }) => kind))

/** The resources of a file of our form or Kong's; null = it cannot be read, and the errors are on stderr. */
export async function readFileResources(file: string): Promise<FileResources | null> {
  const opened = await openConfiguration(file, process.env)
  if (!opened.ok) return sayErrors(opened.errors.map(formatIssue))
  const { source } = opened.opened
  const list = readBaseResources(source.value, 0)
  if (list === null || opened.opened.errors.length > 0) {
    const checked = checkOpened(opened.opened, process.env)
    return sayErrors(
      checked.ok ? [`${file}: its resources cannot be told apart; expected ids that are unique`] : checked.errors.map(formatIssue),
    )
  }
  for (const warning of opened.opened.warnings) process.stderr.write(`warning: ${formatIssue(warning)}\n`)
  const sections = isMap(source.value) ? Object.keys(source.value).filter((name) => !resourceNames.has(name)) : []
  return {
    source,
    resources: list.map(({ kind, id, value }) => ({ kind, id, value, digest: contentDigest(value) })),
    origins: new Map(list.map(({ kind, id, origin }) => [`${kind} ${id}`, origin ?? []])),
    otherSections: sections.filter((name) => !name.startsWith('_')),
  }
}

function sayErrors(errors: readonly string[]): null {
  for (const error of errors) process.stderr.write(`${error}\n`)
  return null
}
