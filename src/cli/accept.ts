/** Who accepts connections, once `auto` meets the build that is loaded. */
import { UsageError } from '../base/errors.js'
import type { AcceptMode } from '../schema/process.js'

/**
 * The mode to run in. Handing connections from the primary to workers needs a build with child applications, and is not part of this
 * version even then; asking for it by name is therefore refused, with the way out, and `auto` is `kernel`.
 */
export function resolveAccept(
  asked: AcceptMode,
  build: { readonly name: string; readonly version: string; readonly childApps: boolean },
): 'kernel' {
  if (asked !== 'primary') return 'kernel'
  const wayOut = 'use --accept kernel (every worker listens, the kernel spreads connections), or auto'
  if (!build.childApps) {
    throw new UsageError(
      `accept primary: ${build.name} ${build.version} cannot hand connections to workers (no addChildAppDescriptor); ${wayOut}`,
    )
  }
  throw new UsageError(`accept primary is not supported yet; ${wayOut}`)
}
