/** The command line inside the process of the test, which saves a second for each run. One run at a time. */
import { vi } from 'vitest'
import { runCommandLine } from '../../src/cli/program.js'

export interface CommandRun {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs `sluice` with these arguments and variables; what it prints is caught. */
export async function runSluice(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<CommandRun> {
  const printed = { stdout: '', stderr: '' }
  const spies = (['stdout', 'stderr'] as const).map((stream) =>
    vi.spyOn(process[stream], 'write').mockImplementation((chunk) => {
      printed[stream] += String(chunk)
      return true
    }),
  )
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)
  try {
    return { code: await runCommandLine(args), ...printed }
  } finally {
    vi.unstubAllEnvs()
    for (const spy of spies) spy.mockRestore()
  }
}
