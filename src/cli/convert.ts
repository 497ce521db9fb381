/** `sluice convert`: a Kong declarative file in our form. */
import { stringify } from 'yaml'
import { UsageError } from '../base/errors.js'
import { checkConfiguration } from '../controlplane/check.js'
import { isKongFile } from '../controlplane/import-kong/import-kong.js'
import { readSource } from '../controlplane/load.js'
import { formatIssue } from '../controlplane/load-issue.js'
import { writeNew } from './resources/new-file.js'

/** Prints the file as YAML that loads by itself; nothing when it has errors. Exit code 0, or 2 with errors. */
export async function runConvert(file: string, output: string | null): Promise<number> {
  const read = readSource(file, process.env)
  if (read.ok && !isKongFile(read.source.value)) {
    throw new UsageError(`${file} is no Kong declarative file: it has no _format_version`)
  }
  const result = await checkConfiguration(file, process.env)
  for (const issue of result.ok ? [] : result.errors) process.stderr.write(`${formatIssue(issue)}\n`)
  for (const issue of result.warnings) process.stderr.write(`warning: ${formatIssue(issue)}\n`)
  if (!result.ok) return 2
  const text = `# Converted from a Kong declarative file by sluice convert.\n${stringify(result.config.source.value, { lineWidth: 120, aliasDuplicateObjects: false })}`
  if (output === null) process.stdout.write(text)
  else writeNew(output, text)
  return 0
}
