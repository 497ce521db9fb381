/** acl as Kong has it: groups of consumers. */
import { type Consumer, fieldValue, kongError, type LinkKit, type PluginInstance } from '../plugin.js'

export interface AclGroups {
  readonly shape: 'groups'
  /** The list says who may, not who may not. */
  readonly isAllowed: boolean
  readonly groups: readonly string[]
  readonly hideGroupsHeader: boolean
  readonly includeConsumerGroups: boolean
}

export function linkGroups(conf: AclGroups, kit: LinkKit): PluginInstance {
  const { isAllowed, includeConsumerGroups, hideGroupsHeader } = conf
  const listed = new Set(conf.groups)
  const groupsOf = ({ groups, groupId }: Consumer): readonly string[] =>
    includeConsumerGroups && groupId !== '' ? [...groups, groupId] : groups
  return {
    access(exchange) {
      const { consumer } = exchange
      if (consumer === null) {
        kit.log('error', 'acl: nobody is authenticated, so the request is refused; an authentication plugin is needed before acl')
        return kongError(exchange, 401, 'Unauthorized')
      }
      const groups = groupsOf(consumer)
      if (groups.some((group) => listed.has(group)) !== isAllowed) return kongError(exchange, 403, 'You cannot consume this service')
      if (!hideGroupsHeader && groups.length > 0) exchange.requestHeaders.set('X-Consumer-Groups', fieldValue(groups.join(', ')))
      return undefined
    },
  }
}
