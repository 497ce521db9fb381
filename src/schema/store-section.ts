/** Schema of `sluice.store`: where the resources are kept. */
import { Type } from '@sinclair/typebox'
import { oneOf } from './common.js'

export const storeSchema = Type.Object(
  {
    type: Type.Optional(
      oneOf(['file', 'redis', 'etcd'], {
        description:
          '`file`: this file, and a journal beside it for changes by the Admin API. `redis`: Redis, shared by several gateways. `etcd`: as APISIX has it, reached as `deployment.etcd` says. The resources of this file go into an empty Redis or etcd, and are not used otherwise. Default: `etcd` where `deployment` says so, else `file`.',
      }),
    ),
    redis: Type.Optional(
      Type.String({ minLength: 1, description: 'Type `redis`: URL as in `sluice.redis`. Default: `sluice.redis`, or the flag `--redis`.' }),
    ),
    name: Type.Optional(
      Type.String({
        pattern: '^[A-Za-z0-9._-]{1,64}$',
        default: 'default',
        description: 'Type `redis`: name of the configuration. Gateways with the same Redis and name share it.',
      }),
    ),
    copy: Type.Optional(
      Type.String({
        minLength: 1,
        description:
          'Types other than `file`: where the last configuration is kept for a start while the store is away, relative to this file. Default: `<file>.copy`.',
      }),
    ),
  },
  { additionalProperties: false, description: 'Where routes and the other resources are kept.' },
)
