/** Who accepts connections, once `auto` meets the build that is loaded. */
import { UsageError } from '../base/errors.js'
import type { AcceptMode } from '../schema/process.js'

/**
 * The mode to run in. Handing connections from the primary to workers needs a build with child applications: `auto` takes it there.
 * Asking for it by name with another build is refused, with the way out.
 */
export function resolveAccept(
  asked: AcceptMode,
  build: { readonly name: string; readonly version: string; readonly childApps: boolean },
): 'primary' | 'kernel' {
  if (asked === 'kernel') return 'kernel'
  if (build.childApps) return 'primary'
  if (asked === 'auto') return 'kernel'
  throw new UsageError(
    `accept primary: ${build.name} ${build.version} cannot hand connections to workers (addChildAppDescriptor or ` +
      'removeChildAppDescriptor is missing); use --accept kernel (every worker listens, the kernel spreads connections), or auto',
  )
}
