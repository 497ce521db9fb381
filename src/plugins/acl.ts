/**
 * acl: who may use a route, by groups or labels of the consumer. Two plugins in one name, told apart by their options:
 *
 *   allow, deny                    Kong: groups of the entities `acls`
 *   allow_labels, deny_labels      APISIX: labels of the consumer; one value, a JSON array, or values with commas between
 *
 * Runs on workers, access phase, synchronous, no state. Failure: 401 without a consumer, else 403.
 */
import { type AclGroups, linkGroups } from './acl/groups.js'
import { type AclLabels, linkLabels } from './acl/labels.js'
import { definePlugin, nullable, type PluginProblem, type Static, Type } from './plugin.js'

const groupList = (description: string) => nullable(Type.Array(Type.String({ minLength: 1 })), { description })
const labelLists = (description: string) =>
  Type.Optional(Type.Record(Type.String({ minLength: 1 }), Type.Array(Type.String(), { minItems: 1 }), { minProperties: 1, description }))

const groupOptions = {
  allow: groupList('Kong shape: only members of one of these groups may. Either this or `deny`.'),
  deny: groupList('Kong shape: members of one of these groups may not.'),
  hide_groups_header: nullable(Type.Boolean(), {
    description: 'Kong shape (unset = false): do not send the groups to the upstream in X-Consumer-Groups.',
  }),
  always_use_authenticated_groups: nullable(Type.Boolean(), {
    description:
      'Kong shape (unset = false): groups from an identity provider before those of the consumer. `true` is refused: there are none.',
  }),
  include_consumer_groups: nullable(Type.Boolean(), {
    description: 'Kong shape (unset = false): the consumer group of the consumer counts as one of its groups.',
  }),
}

const labelOptions = {
  allow_labels: labelLists('APISIX shape: only consumers with one of these values in one of these labels may.'),
  deny_labels: labelLists('APISIX shape: consumers with one of these values in one of these labels may not; looked at first.'),
  rejected_code: Type.Optional(
    Type.Integer({ minimum: 200, maximum: 599, description: 'APISIX shape (unset = 403): status of refusals.' }),
  ),
  rejected_msg: Type.Optional(Type.String({ description: 'APISIX shape: text of refusals. Unset: `The consumer is forbidden.`' })),
}

const schema = Type.Object({ ...groupOptions, ...labelOptions })
type Conf = Static<typeof schema>

export const acl = definePlugin<Conf, AclGroups | AclLabels>({
  name: 'acl',
  priority: 2410,
  description: 'Allows or refuses consumers by their groups or labels.',
  schema,
  check,
  prepare,
  link: (prepared, kit) => (prepared.shape === 'groups' ? linkGroups(prepared, kit) : linkLabels(prepared)),
})

function given(conf: Conf, options: object): string[] {
  const entries: { readonly [name: string]: unknown } = conf
  return Object.keys(options).filter((name) => (entries[name] ?? null) !== null)
}

function check(conf: Conf): PluginProblem[] {
  const ofGroups = given(conf, groupOptions)
  const ofLabels = given(conf, labelOptions)
  if (ofGroups.length > 0 && ofLabels.length > 0) {
    const message = `${ofGroups.join(', ')} and ${ofLabels.join(', ')} belong to different shapes of this plugin; expected the options of one`
    return [{ path: '', message }]
  }
  if (conf.always_use_authenticated_groups === true) {
    const message = 'true has no effect here: no plugin gives groups from an identity provider; expected false'
    return [{ path: 'always_use_authenticated_groups', message }]
  }
  if (ofLabels.length > 0) {
    if (conf.allow_labels !== undefined || conf.deny_labels !== undefined) return []
    return [{ path: '', message: 'at least one of allow_labels, deny_labels is required' }]
  }
  const lists = [conf.allow, conf.deny].filter((list) => (list ?? []).length > 0)
  if (lists.length === 1) return []
  return [
    {
      path: '',
      message: lists.length === 0 ? 'one of allow, deny, allow_labels, deny_labels is required' : 'only one of allow and deny may be given',
    },
  ]
}

function prepare(conf: Conf): AclGroups | AclLabels {
  if (conf.allow_labels !== undefined || conf.deny_labels !== undefined) {
    const { allow_labels: allow = null, deny_labels: deny = null, rejected_code: code = 403 } = conf
    return { shape: 'labels', allow, deny, code, message: conf.rejected_msg ?? 'The consumer is forbidden.' }
  }
  const isAllowed = (conf.allow ?? []).length > 0
  return {
    shape: 'groups',
    isAllowed,
    groups: (isAllowed ? conf.allow : conf.deny) ?? [],
    hideGroupsHeader: conf.hide_groups_header ?? false,
    includeConsumerGroups: conf.include_consumer_groups ?? false,
  }
}
