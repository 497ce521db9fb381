/** The admin key of a gateway for which none was configured: made once, kept beside the configuration. */
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import type { AdminConfig } from '../schema/process.js'
import type { ProcessLog } from '../telemetry/process-log.js'

/** The configured keys, else the kept one, else a new one. Says where it is, never what it is. Empty when it cannot be kept. */
export function adminKeys({ keys, keyFile }: Pick<AdminConfig, 'keys' | 'keyFile'>, log: ProcessLog): AdminConfig['keys'] {
  if (keys.length > 0) return keys
  try {
    const key = readKey(keyFile) ?? makeKey(keyFile)
    log.info(`no admin key is configured: the admin server accepts the one in ${keyFile}`)
    return [{ name: 'generated', key, role: 'admin' }]
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    log.warn(
      `the admin server refuses every request: no key is configured, and ${keyFile} cannot be used (${reason}); set sluice.admin.keys`,
    )
    return []
  }
}

function readKey(file: string): string | null {
  try {
    const key = readFileSync(file, 'utf8').trim()
    if (key.length < 16) throw new Error('it holds no key of at least 16 characters')
    return key
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
}

function makeKey(file: string): string {
  const key = randomBytes(24).toString('base64url')
  // Fails when another process was faster; the next start reads its key.
  writeFileSync(file, `${key}\n`, { mode: 0o600, flag: 'wx' })
  return key
}
