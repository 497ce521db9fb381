/** The toolkit that plugins are linked with in a worker. */
import { AddressSet } from '../base/address-set.js'
import { compilePattern } from '../base/pattern.js'
import type { LinkKit, RouteInfo } from '../plugins/plugin.js'
import { compileExpression } from './vars/expression.js'
import { compileTemplate } from './vars/template.js'
import { compileVariable } from './vars/variables.js'

export interface KitEnvironment {
  delay(ms: number): Promise<void>
  log(level: 'info' | 'warn' | 'error', message: string): void
}

export function createLinkKit(route: RouteInfo | null, environment: KitEnvironment): LinkKit {
  let slots = 0
  return {
    route,
    variable: compileVariable,
    template: compileTemplate,
    expression: compileExpression,
    pattern: compilePattern,
    addressSet: (items) => AddressSet.of(items),
    slot: () => slots++,
    delay: environment.delay,
    log: environment.log,
  }
}
