/** `sluice export`: the resources of a running gateway, or of a file with the changes over it, as one YAML file. */
import { stringify } from 'yaml'
import { isMap } from '../../controlplane/admin/patch.js'
import { leftOutText } from '../../controlplane/leave-out.js'
import { formatIssue } from '../../controlplane/load-issue.js'
import { withResources } from '../../controlplane/store/base-resources.js'
import type { ResourceValue } from '../../controlplane/store/resource-store.js'
import { resourceKinds } from '../../schema/resources.js'
import { ConfigurationSource } from '../configuration.js'
import { flagsFor } from '../flags.js'
import { type AdminTarget, withClient } from './admin-client.js'
import { readRunning } from './compared.js'
import { writeNew } from './new-file.js'
import type { ComparedResource } from './resource-changes.js'

/** Resources of a running gateway. The private keys of certificates, which it never gives out, become variables. Exit code 0. */
export async function exportRunning(target: AdminTarget, output: string | null): Promise<number> {
  const { resources } = await withClient(target, readRunning)
  const missing = resources.filter(({ kind }) => kind === 'ssls').map(({ id }) => ({ id, name: keyVariable(id) }))
  for (const { id, name } of missing) process.stderr.write(`warning: ssls/${id}: its private key stays in the gateway; set ${name} to it\n`)
  return write('the admin server', documentOf(resources), output)
}

/** A file with the changes that the Admin API made over it, or with what the store that gateways share holds. Exit code 0, or 2 when it is not valid. */
export async function exportFile(file: string, output: string | null): Promise<number> {
  const { checked, leftOut, opened, view } = await new ConfigurationSource(flagsFor(file), process.env, () => 0, 'read').read()
  for (const one of leftOut) process.stderr.write(`warning: it is exported, but ${leftOutText(one)}\n`)
  if (!checked.ok || opened === null) {
    for (const issue of checked.ok ? [] : checked.errors) process.stderr.write(`${formatIssue(issue)}\n`)
    return 2
  }
  const { value } = view === null ? opened.source : withResources(opened.source, view.map)
  return write(file, isMap(value) ? value : {}, output)
}

/** Lists by kind, in the form of a file. */
export function documentOf(resources: readonly ComparedResource[]): ResourceValue {
  const lists = resourceKinds.map(({ kind }) => [kind, resources.filter((resource) => resource.kind === kind).map(entryOf)] as const)
  return Object.fromEntries(lists.filter(([, list]) => list.length > 0))
}

function entryOf({ kind, id, value }: ComparedResource): ResourceValue {
  if (kind === 'ssls' && value['key'] === undefined) return { ...value, id, key: `\${{${keyVariable(id)}}}` }
  return kind === 'consumers' ? value : { id, ...value }
}

function keyVariable(id: string): string {
  return `SSL_KEY_${id.replace(/\W/g, '_').toUpperCase()}`
}

function write(from: string, value: ResourceValue, output: string | null): number {
  const text = `# Exported from ${from} by sluice export.\n${stringify(value, { lineWidth: 120, aliasDuplicateObjects: false })}`
  if (output === null) process.stdout.write(text)
  else writeNew(output, text)
  return 0
}
