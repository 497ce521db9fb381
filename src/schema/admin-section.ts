/** Schema of `sluice.admin`: the admin server. */
import { Type } from '@sinclair/typebox'
import { oneOf } from './common.js'
import { socketAddress } from './socket-address.js'

export const adminSchema = Type.Object(
  {
    listen: Type.Optional(socketAddress('Address of the admin server. Default `127.0.0.1:9180`.')),
    keys: Type.Optional(
      Type.Array(
        Type.Object(
          {
            name: Type.String({ minLength: 1, maxLength: 256, description: 'Name of the key, for logs.' }),
            key: Type.String({ minLength: 1, maxLength: 1024, description: 'The secret that goes into `X-API-KEY`.' }),
            role: Type.Optional(
              oneOf(['admin', 'viewer'], { default: 'admin', description: '`admin` may change, `viewer` may only read.' }),
            ),
          },
          { additionalProperties: false },
        ),
        {
          minItems: 1,
          description: 'Keys that are accepted. Default: one that is made at the first start and kept in `<file>.admin-key`.',
        },
      ),
    ),
    state_file: Type.Optional(
      Type.String({
        minLength: 1,
        description: 'Where changes by the Admin API are kept, relative to the configuration file. Default: `<file>.journal`.',
      }),
    ),
    allow: Type.Optional(
      Type.Array(Type.String({ minLength: 1 }), {
        minItems: 1,
        description: 'Client addresses and CIDR blocks that may use it; all others get 403. Default: all that can reach `listen`.',
      }),
    ),
    hosts: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 253 }), {
        description: 'Names that may stand in the Host header, besides addresses, localhost and the name in `listen`.',
      }),
    ),
    origins: Type.Optional(
      Type.Array(Type.String({ pattern: '^(\\*|https?://[^/]+)$' }), {
        description: 'Origins of web pages that may send requests, such as `https://dashboard.example.com`; `*` = all. Default: none.',
      }),
    ),
    tls: Type.Optional(
      Type.Object(
        {
          cert: Type.String({ minLength: 1, description: 'Certificate with its chain, PEM file.' }),
          key: Type.String({ minLength: 1, description: 'Private key, PEM file.' }),
          client_ca: Type.Optional(
            Type.String({
              minLength: 1,
              description: 'PEM file: clients must show a certificate signed by one of these authorities.',
            }),
          ),
        },
        { additionalProperties: false, description: 'Serve HTTPS instead of HTTP.' },
      ),
    ),
  },
  { additionalProperties: false, description: 'The admin server. Off without this section, `deployment.admin` or `--admin`.' },
)
